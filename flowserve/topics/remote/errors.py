"""What goes wrong with a server elsewhere."""

from __future__ import annotations

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger


class Unreachable(TopicsError):
    """The server can't be reached now, or can't work."""


class Refused(TopicsError):
    """The server, or TLS, does not accept what the URL says; the message says what."""


class LinkLost(TopicsError):
    """The connection is lost, or there is no answer: what was asked for may have been done or not."""


class AttemptLog:
    """Logs why attempts to connect have failed, again and again: what is refused is an error, once, as it stays so."""

    def __init__(self) -> None:
        self._refused = ""

    def add(self, error: Exception, doing: str) -> None:
        """Log an error. `doing` says what was tried, for one that is a defect."""
        if isinstance(error, Unreachable):
            logger.debug("Topics: %s", error)
        elif not isinstance(error, Refused):
            logger.error("Topics: %s failed", doing, exc_info=error)
        elif str(error) != self._refused:
            self._refused = str(error)
            logger.error("Topics: %s", error)
