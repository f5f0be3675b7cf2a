"""What the server itself logs, with the context that it logs in."""

from __future__ import annotations

import logging
from collections.abc import Callable

SERVERS = ("flowserve", "uvicorn.error")
"""Their loggers for errors."""


class Records(logging.Handler):
    """Keeps (message, context) of each record at ERROR."""

    def __init__(self, context: Callable[[], object]) -> None:
        super().__init__(logging.ERROR)
        self.context = context
        self.seen: list[tuple[str, object]] = []
        for name in SERVERS:
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append((record.getMessage(), self.context()))
