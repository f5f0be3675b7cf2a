"""The loggers, how they are set up, and the trace of ASGI messages.

Two loggers: `flowserve` for what the server says and `flowserve.access` for the access lines. Importing this module
configures neither, so that a program that embeds a server keeps its own logging.
"""

from __future__ import annotations

import configparser
import itertools
import json
import logging
import logging.config
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Literal, TextIO, cast

from asgiref.typing import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)

from flowserve.accesslog import AccessLine, CloseLine, HTTPLine, LineFormat, OpenLine, coloured
from flowserve.accesslog import printable as printable
from flowserve.accesslog import show_bytes as show_bytes
from flowserve.accesslog import show_time as show_time
from flowserve.config import Config
from flowserve.errors import ConfigError
from flowserve.log_pipe import log_pipe
from flowserve.redaction import LogQuery, shown_target

TRACE = 5

logger = logging.getLogger("flowserve")
access = logging.getLogger("flowserve.access")

_LEVEL_COLOURS = {TRACE: 34, logging.DEBUG: 36, logging.INFO: 32, logging.WARNING: 33, logging.ERROR: 31}
_CRITICAL_COLOUR = 91

_Style = Literal["%", "{", "$"]


class HumanFormatter(logging.Formatter):
    """'INFO:     message', with `colours` for the level and the outcome of an access line."""

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
    """Access lines in a format of the user's own (see `accesslog.FIELDS`); the line is nothing else.

    Raises ValueError for a format that is broken or names what there is not. The parameters are logging's own, so
    that a file for --log-config can name this class; but for the first they mean nothing here.
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
    """One JSON object a line: time (RFC 3339, UTC), level, logger, pid, message; the fields of an access line; the
    traceback as exception.

    `fmt`, if given, is how an access line's message is written (see AccessFormatter). The parameters are
    logging's own here too.
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


class StreamHandler(logging.StreamHandler):  # type: ignore[type-arg]  # no class takes one in Python 3.10
    """Leaves out what can't be written, as on a full disk: logging would show a traceback for each line; and what would
    have to wait for a pipe's reader, see `log_pipe`."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._pipe = log_pipe(stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as a line."""
        pipe = self._pipe
        if pipe is None:
            super().emit(record)
            return
        try:
            if pipe.left_out and not pipe.is_stuck():
                count, pipe.left_out = pipe.left_out, 0
                pipe.write(self._encoded(_missing(count)))
            if not pipe.left_out:
                self.flush()  # what the application has printed before
            pipe.write(self._encoded(record))
        except Exception:
            self.handleError(record)

    def _encoded(self, record: logging.LogRecord) -> bytes:
        line = self.format(record) + self.terminator
        return line.encode(getattr(self.stream, "encoding", None) or "utf-8", "backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        if not isinstance(sys.exc_info()[1], OSError) and not self.stream.closed:
            super().handleError(record)


def _missing(count: int) -> logging.LogRecord:
    text = "%s of the log were left out, as nobody read them"
    return logging.LogRecord(logger.name, logging.WARNING, __file__, 0, text, (plural(count, "line"),), None)


def setup(config: Config) -> None:
    """Configure both loggers: level, stderr for `flowserve`, stdout for the access lines, their format and colours;
    or as the file of --log-config says.

    Colours are as `use_colors` says; if that is None, where the stream is a terminal and NO_COLOR is not set.
    A second call replaces what the first one did. Raises ConfigError for a file that can't be used.
    """
    logging.addLevelName(TRACE, "TRACE")
    for each in (logger, access):
        each.handlers[:] = []
        each.setLevel(logging.NOTSET)
        each.propagate = True
    unconfigured = [logger, access]
    if config.log_config is not None:
        _load(config.log_config)
        unconfigured = [each for each in unconfigured if not each.hasHandlers()]
    for each in unconfigured:
        _set_up(each, config)
    if config.log_config is not None and config.log_level != "info":
        logger.setLevel(config.log_level.upper())
    if not config.access_log:
        access.setLevel(logging.CRITICAL + 1)


def _set_up(each: logging.Logger, config: Config) -> None:
    stream: TextIO | None = sys.stdout if each is access else sys.stderr  # None without a console, as in pythonw
    formatter: logging.Formatter
    if config.log_format == "json":
        formatter = JSONFormatter(config.access_log_format)
    elif each is access and config.access_log_format is not None:
        formatter = AccessFormatter(config.access_log_format)
    else:
        formatter = HumanFormatter(_want_colours(stream, config.use_colors))
    handler = StreamHandler(stream) if stream is not None else logging.NullHandler()
    handler.setFormatter(formatter)
    each.addHandler(handler)
    each.setLevel(config.log_level.upper())
    each.propagate = False


def _load(path: str) -> None:
    """Configure logging by the file, which its name tells to be JSON, YAML or (any other name) INI."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"--log-config: {path!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--log-config: {path!r} is not text in UTF-8") from None
    try:
        if path.endswith(".json"):
            logging.config.dictConfig(_dictionary(json.loads(text)))
        elif path.endswith((".yaml", ".yml")):
            logging.config.dictConfig(_dictionary(_yaml(text)))
        else:
            parser = configparser.ConfigParser()
            parser.read_string(text)
            logging.config.fileConfig(parser, disable_existing_loggers=False)
    except Exception as error:  # whatever the file's own names and arguments raise
        raise ConfigError(f"--log-config: {path!r}: {_reason(error)}") from None
    for each in (logger, access):
        each.disabled = False  # a file that does not name them must not silence the server


def _dictionary(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it holds no dictionary as logging.config.dictConfig takes it")
    return value


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ValueError("YAML needs PyYAML; install flowserve[yaml], or write the file as JSON or INI") from None
    return yaml.safe_load(text)


def _reason(error: Exception) -> str:
    """What is wrong with the file, in one line; logging wraps the reason into a vaguer one."""
    reasons: list[str] = []
    inner: BaseException | None = error
    while inner is not None:
        said = " ".join(str(inner).split()) or type(inner).__name__
        if not reasons or said not in reasons[-1]:
            reasons.append(f"no {said}" if isinstance(inner, KeyError) else said)
        inner = inner.__cause__
    return ": ".join(reasons)


def plural(count: int, noun: str) -> str:
    """Return a number with its noun: '1 request', '2 requests'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def access_http(peer: str, method: str, target: str, http_version: str, status: int, seconds: float) -> None:
    """Log that a request has got its response, or was given up."""
    if access.isEnabledFor(logging.INFO):
        access.info(HTTPLine(peer, method, target, http_version, status, seconds))


def access_websocket_open(peer: str, target: str, subprotocol: str | None) -> None:
    """Log that a WebSocket was accepted."""
    if access.isEnabledFor(logging.INFO):
        access.info(OpenLine(peer, target, subprotocol))


def access_websocket_close(
    peer: str,
    target: str,
    code: int,
    seconds: float,
    messages_in: int,
    bytes_in: int,
    messages_out: int,
    bytes_out: int,
    dropped: int = 0,
) -> None:
    """Log that a WebSocket has ended; `dropped` messages were not sent as its client was too slow."""
    if access.isEnabledFor(logging.INFO):
        traffic = (messages_in, bytes_in, messages_out, bytes_out, dropped)
        access.info(CloseLine(peer, target, code, seconds, *traffic))


def trace(app: ASGI3Application, log_query: LogQuery = "redact") -> ASGI3Application:
    """`app`, with each of its messages logged at TRACE; bodies and texts as sizes, headers as a number, the query as
    `log_query` says."""
    numbers = itertools.count(1)

    async def traced(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        name = f"{scope['type']} #{next(numbers)}"

        async def traced_receive() -> ASGIReceiveEvent:
            message = await receive()
            logger.log(TRACE, "%s receive %s", name, _summary(message))
            return message

        async def traced_send(message: ASGISendEvent) -> None:
            logger.log(TRACE, "%s send %s", name, _summary(message))
            await send(message)

        logger.log(TRACE, "%s begins %s", name, _summary(scope, log_query))
        try:
            await app(scope, traced_receive, traced_send)
        except BaseException as error:
            logger.log(TRACE, "%s raised %s", name, type(error).__name__)
            raise
        logger.log(TRACE, "%s returned", name)

    return cast(ASGI3Application, traced)


def _time(record: logging.LogRecord) -> str:
    """RFC 3339, in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _want_colours(stream: TextIO | None, wanted: bool | None) -> bool:
    if wanted is not None:
        return wanted
    return stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")


def _summary(message: Mapping[str, Any], log_query: LogQuery = "redact") -> dict[str, Any]:
    """A message or scope with sizes in the place of contents."""
    summary = {key: _sized(key, value) for key, value in message.items()}
    query = summary.get("query_string")
    if isinstance(query, bytes):
        summary["query_string"] = shown_target("?" + query.decode("latin-1"), log_query)[1:].encode("latin-1")
    return summary


def _sized(key: str, value: Any) -> Any:
    if key == "headers":
        return f"<{len(value)} headers>" if isinstance(value, (list, tuple)) else "<headers>"
    if key == "text" and isinstance(value, str):
        return f"<{len(value)} characters>"
    if key in ("body", "bytes") and isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{memoryview(value).nbytes} bytes>"
    if key == "state" and isinstance(value, Mapping):
        return f"<{', '.join(map(str, value)) or 'empty'}>"
    return value
