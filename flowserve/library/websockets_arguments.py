"""Arguments of the websockets library that are not options of the server: the logger, and the write buffer's limits."""

from __future__ import annotations

from typing import Any

from flowserve.errors import ConfigError
from flowserve.library.properties import session_of
from flowserve.library.websocket import WebSocket


class WebSocketsArguments:
    """Settings that each WebSocket of one `connect()`, `serve()` or `accept()` gets once it is open.

    `logger` becomes its attribute `logger`, None stands for this library's. `write_limit` is how many bytes its
    transport buffers before `send()` waits, or a pair (high, low) of marks in bytes as for
    `WriteTransport.set_write_buffer_limits()`; None leaves the event loop's default. Raises ConfigError.
    """

    def __init__(self, logger: Any = None, write_limit: int | tuple[int, int | None] | None = None) -> None:
        if logger is not None and not callable(getattr(logger, "error", None)):
            raise ConfigError(f"logger: {logger!r} is no logging.Logger")
        self.logger = logger
        self._limits = None if write_limit is None else _limits(write_limit)

    def apply_to(self, ws: WebSocket) -> WebSocket:
        """Apply the settings to `ws`, and return it."""
        if self.logger is not None:
            ws.logger = self.logger
        if self._limits is not None:
            session_of(ws).stream.limit_buffer(*self._limits)
        return ws


def _limits(given: Any) -> tuple[int, int | None]:
    high, low = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    if type(high) is not int or not (low is None or type(low) is int) or not 0 <= (low or 0) <= high:
        raise ConfigError(f"write_limit: {given!r} is neither a number of bytes nor a pair of such, (high, low)")
    return high, low
