"""The log formatters: text for people, JSON, and a format for access lines that the user defines."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any, Literal

from flowserve.logs.access import AccessLine, LineFormat, coloured
from flowserve.logs.loggers import TRACE

_LEVEL_COLOURS = {TRACE: 34, logging.DEBUG: 36, logging.INFO: 32, logging.WARNING: 33, logging.ERROR: 31}
_CRITICAL_COLOUR = 91

_Style = Literal["%", "{", "$"]


class HumanFormatter(logging.Formatter):
    """Formats records as 'INFO:     message'. With `colours`, the level and the status or close code of an access line
    are coloured."""

    def __init__(self, colours: bool = False) -> None:
        super().__init__()
        self.colours = colours

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        name, padding = record.levelname, " " * (8 - len(record.levelname))
        message = record.message
        if self.colours:
            name = coloured(name, _LEVEL_COLOURS.get(record.levelno, _CRITICAL_COLOUR))
            message = record.msg.text(True) if isinstance(record.msg, AccessLine) else message
        return f"{name}:{padding} {message}"


class AccessFormatter(logging.Formatter):
    """Formats access lines by `fmt`, such as `%(client)s %(status)d`; `flowserve.logs.access.FIELDS` has the fields.

    Raises ValueError for an invalid format or an unknown field. The other parameters are those of logging.Formatter, so
    that a file for --log-config can name this class; they have no effect.
    """

    def __init__(
        self, fmt: str, datefmt: str | None = None, style: _Style = "%", validate: bool = True, *, defaults: Any = None
    ) -> None:
        super().__init__()
        self._line = LineFormat(fmt)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        if not isinstance(record.msg, AccessLine):
            return record.message
        general = {"time": _time(record), "level": record.levelname, "pid": record.process}
        return self._line.show(general | record.msg.fields())


class JSONFormatter(logging.Formatter):
    """Formats each record as a JSON object in one line: time (RFC 3339, UTC), level, logger, pid, message; the fields
    of an access line; a traceback as exception, stack information as stack.

    `fmt`, if given, is the format of an access line's message (see AccessFormatter). The other parameters are those of
    logging.Formatter, without effect.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: _Style = "%",
        validate: bool = True,
        *,
        defaults: Any = None,
    ) -> None:
        super().__init__()
        self._access = AccessFormatter(fmt) if fmt is not None else None

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if isinstance(record.msg, AccessLine):
            entry.update(record.msg.fields())
            if self._access is not None:
                entry["message"] = self._access.formatMessage(record)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        return json.dumps(entry, default=str)


def _time(record: logging.LogRecord) -> str:
    """Return the time of a record by RFC 3339, in UTC with milliseconds."""
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
