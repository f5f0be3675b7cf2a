"""A log handler for a stream that may be a file on a full disk, or a pipe that is not read."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from flowserve.grammar import plural
from flowserve.logs.loggers import logger
from flowserve.logs.pipe import log_pipe


class StreamHandler(logging.StreamHandler):  # type: ignore[type-arg]  # no class takes one in Python 3.10
    """A StreamHandler that drops lines instead of blocking or raising: lines that cannot be written, e.g. to a full
    disk, for which logging would print a traceback each, and lines for whose pipe it would have to wait (see
    `log_pipe`)."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._pipe = log_pipe(stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line, after a note on the lines that were dropped before it, if any."""
        pipe = self._pipe
        if pipe is None:
            super().emit(record)
            return
        try:
            if pipe.left_out and not pipe.is_stuck():
                count, pipe.left_out = pipe.left_out, 0
                pipe.write(self._encoded(_drop_notice(count)))
            if not pipe.left_out:
                self.flush()  # write what the application has printed before it
            pipe.write(self._encoded(record))
        except Exception:
            self.handleError(record)

    def _encoded(self, record: logging.LogRecord) -> bytes:
        line = self.format(record) + self.terminator
        return line.encode(getattr(self.stream, "encoding", None) or "utf-8", "backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        if not isinstance(sys.exc_info()[1], OSError) and not self.stream.closed:
            super().handleError(record)


def _drop_notice(count: int) -> logging.LogRecord:
    text = "%s of the log were left out, as nobody read them"
    return logging.LogRecord(logger.name, logging.WARNING, __file__, 0, text, (plural(count, "line"),), None)
