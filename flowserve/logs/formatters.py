"""The log formatters: text for people, JSON, and a format for access lines that the user defines."""

from __future__ import annotations

import json
import logging
import os
import time
from datetime import datetime, timezone
from typing import Any, Literal, TextIO

from flowserve.logs.access import AccessLine, LineFormat, coloured
from flowserve.logs.loggers import TRACE

_LEVEL_COLOURS = {TRACE: 34, logging.DEBUG: 36, logging.INFO: 32, logging.WARNING: 33, logging.ERROR: 31}
_CRITICAL_COLOUR = 91
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # in any locale

_Style = Literal["%", "{", "$"]


class HumanFormatter(logging.Formatter):
    """Formats records as 'INFO:     message'. With `colours`, the level and the status or close code of an access line
    are coloured. With `times`, the local time is put before each, as '2026-11-22 19:59:50.281'."""

    def __init__(self, colours: bool = False, times: bool = False) -> None:
        super().__init__()
        self.colours = colours
        self.times = times
        self._second = -1  # the last one, in seconds since the epoch
        self._second_text = ""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        message = record.message
        if self.colours and isinstance(record.msg, AccessLine):
            message = record.msg.text(True)
        return f"{self._time(record) if self.times else ''}{level_prefix(record, self.colours)} {message}"

    def _time(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._second_text = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._second_text}.{int(record.msecs):03d} "


class AccessFormatter(logging.Formatter):
    """Formats access lines by `fmt`, such as `%(client)s %(status)d`, or `combined`; `flowserve.logs.access` has FIELDS
    and NAMED_FORMATS.

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
        if "time_local" in self._line.names:
            general["time_local"] = _time_local(record)
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


def level_prefix(record: logging.LogRecord, colours: bool) -> str:
    """Return the level of a record with a colon, in the width of the longest one."""
    name = record.levelname
    padding = " " * (8 - len(name))
    return f"{coloured(name, _LEVEL_COLOURS.get(record.levelno, _CRITICAL_COLOUR)) if colours else name}:{padding}"


def want_colours(stream: TextIO | None, use_colors: bool | None) -> bool:
    """Whether to use colours on `stream`: as `use_colors` says; if it is None, on a terminal without NO_COLOR."""
    if use_colors is not None:
        return use_colors
    return stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")


def _time(record: logging.LogRecord) -> str:
    """Return the time of a record by RFC 3339, in UTC with milliseconds."""
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time_local(record: logging.LogRecord) -> str:
    """Return the local time of a record as in Apache's Common Log Format: 22/Nov/2026:19:59:50 +0000"""
    moment = time.localtime(record.created)
    return time.strftime(f"%d/{_MONTHS[moment.tm_mon - 1]}/%Y:%H:%M:%S %z", moment)
