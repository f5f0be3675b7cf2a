"""Logs messages that are lost, without filling the log."""

from __future__ import annotations

from time import monotonic

from flowserve.logs.loggers import logger

_INTERVAL = 60.0
"""Seconds between two lines of one kind."""


class Losses:
    """What was lost, by kind. The metrics count all of it."""

    def __init__(self) -> None:
        self._logged_at: dict[str, float] = {}
        self._since: dict[str, int] = {}

    def tell(self, kind: str, text: str) -> None:
        """Log a loss, unless one of its kind was logged in the last minute; then it is counted for the next line."""
        now = monotonic()
        last = self._logged_at.get(kind)
        if last is not None and now - last < _INTERVAL:
            self._since[kind] = self._since.get(kind, 0) + 1
            return
        self._logged_at[kind] = now
        more = self._since.pop(kind, 0)
        logger.warning("Channel layer: %s%s", text, f" ({more} more since the last line like this)" if more else "")
