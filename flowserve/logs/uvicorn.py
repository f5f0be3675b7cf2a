"""Log configurations that were written for uvicorn: its formatters, and its loggers.

uvicorn need not be installed. Its loggers are `uvicorn.error` for messages of the server and `uvicorn.access`, which
propagate to `uvicorn`. A configuration that names these and none of flowserve's is for flowserve's loggers.
"""

from __future__ import annotations

import configparser
import copy
import http
import logging
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from flowserve.logs.access import STATUS_COLOURS, HTTPLine, WebSocketLine, coloured, escape_for_log
from flowserve.logs.formatters import level_prefix, want_colours
from flowserve.logs.loggers import access, logger

_NAMES = {
    f"uvicorn.logging.{theirs}": f"{__name__}.{ours}"
    for theirs, ours in (
        ("ColourizedFormatter", "DefaultFormatter"),
        ("DefaultFormatter", "DefaultFormatter"),
        ("AccessFormatter", "AccessFormatter"),
    )
}
"""uvicorn's formatters, and what takes their place."""
_COUNTERPARTS = ((logger, "uvicorn.error"), (access, "uvicorn.access"))


class DefaultFormatter(logging.Formatter):
    """Takes the place of uvicorn's class of this name: `%(levelprefix)s` is the level with a colon, in colour.

    `use_colors` says whether to use colours; if it is None, they are used on a terminal unless NO_COLOR is set.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        use_colors: bool | None = None,
    ) -> None:
        super().__init__(fmt, datefmt, style)
        self.use_colors = want_colours(self._stream(), use_colors)

    def _stream(self) -> Any:
        return sys.stderr

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        entry = copy.copy(record)
        entry.__dict__.update(self._fields(record), levelprefix=level_prefix(record, self.use_colors))
        return super().formatMessage(entry)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        return {}


class AccessFormatter(DefaultFormatter):
    """Takes the place of uvicorn's class of this name, with its fields `client_addr`, `request_line` and `status_code`.
    Of a WebSocket, these are what the usual line says."""

    def _stream(self) -> Any:
        return sys.stdout

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        line = record.msg
        if isinstance(line, WebSocketLine):
            request, outcome = f"WebSocket {escape_for_log(line.target)}", line.outcome(self.use_colors)
            return {"client_addr": line.client, "request_line": request, "status_code": outcome}
        if isinstance(line, HTTPLine):
            client, method, target, version, status = line.uvicorn_args()
            request = f"{escape_for_log(method)} {target} HTTP/{version}"
            return {"client_addr": client, "request_line": request, "status_code": self._status(status)}
        return dict.fromkeys(("client_addr", "request_line", "status_code"), "-")

    def _status(self, status: int) -> str:
        try:
            shown = f"{status} {http.HTTPStatus(status).phrase}"
        except ValueError:
            shown = str(status)
        return coloured(shown, STATUS_COLOURS.get(status // 100, 0)) if self.use_colors else shown


def with_our_formatters(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration for `logging.config.dictConfig` in which ours are named in place of uvicorn's
    formatters."""
    formatters = config.get("formatters")
    if not isinstance(formatters, Mapping):
        return config
    return {**config, "formatters": {name: _renamed(each) for name, each in formatters.items()}}


def _renamed(formatter: Any) -> Any:
    if not isinstance(formatter, Mapping):
        return formatter
    return {
        key: _NAMES.get(value, value) if key in ("()", "class") and isinstance(value, str) else value
        for key, value in formatter.items()
    }


def name_our_formatters(parser: configparser.RawConfigParser) -> None:
    """Name ours in place of uvicorn's formatters, in a configuration for `logging.config.fileConfig`."""
    for section in parser.sections():
        name = parser.get(section, "class", raw=True, fallback=None)
        if section.startswith("formatter_") and name in _NAMES:
            parser.set(section, "class", _NAMES[name])


def adopt_loggers(named: Iterable[str]) -> None:
    """Let flowserve's loggers do what those of uvicorn do, if a configuration that has just been applied has `named`
    these, and none of flowserve's."""
    names = set(named)
    if names.intersection((logger.name, access.name)):
        return
    for ours, theirs in _COUNTERPARTS:
        if names.intersection((theirs, "uvicorn")):
            _adopt(ours, logging.getLogger(theirs))


def _adopt(ours: logging.Logger, theirs: logging.Logger) -> None:
    """Give `ours` level, filters and handlers of `theirs`, with those that its records propagate to."""
    ours.filters[:] = theirs.filters
    each: logging.Logger | None = theirs
    while each is not None:
        ours.handlers += each.handlers
        if ours.level == logging.NOTSET and each is not logging.root:
            ours.setLevel(each.level)
        if not each.propagate:
            ours.propagate = False
            return
        each = each.parent
    ours.propagate = not ours.handlers  # root's are among them
