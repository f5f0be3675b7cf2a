"""The loggers, the access lines and the trace of ASGI messages.

Two loggers: `flowserve` for what the server says and `flowserve.access` for the access lines. Importing this module
configures neither, so that a program that embeds a server keeps its own logging.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO, cast

from asgiref.typing import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)

from flowserve.config import Config

TRACE = 5

logger = logging.getLogger("flowserve")
access = logging.getLogger("flowserve.access")

HTTP_LINE = '%s - "%s %s HTTP/%s" %s %s'
OPEN_LINE = '%s - "WebSocket %s" accepted%s'
CLOSE_LINE = '%s - "WebSocket %s" closed %s after %s, in %d messages %s, out %d messages %s'

_LEVEL_COLOURS = {TRACE: 34, logging.DEBUG: 36, logging.INFO: 32, logging.WARNING: 33, logging.ERROR: 31}
_CRITICAL_COLOUR = 91
_STATUS_COLOURS = {1: 97, 2: 32, 3: 33, 4: 31, 5: 91}
_HEALTHY_CLOSES = frozenset((1000, 1001, 1005, 1012))


class Formatter(logging.Formatter):
    """'INFO:     message', on a terminal with the level and the outcome of an access line in colour."""

    def __init__(self, colours: bool) -> None:
        super().__init__()
        self.colours = colours

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        name, padding = record.levelname, " " * (8 - len(record.levelname))
        if self.colours:
            name = _coloured(name, _LEVEL_COLOURS.get(record.levelno, _CRITICAL_COLOUR))
        message = _access_message(record) if self.colours and record.name == access.name else record.message
        return f"{name}:{padding} {message}"


def setup(config: Config) -> None:
    """Configure both loggers: level, stderr for `flowserve`, stdout for the access lines, colours.

    Colours are as `use_colors` says; if that is None, where the stream is a terminal and NO_COLOR is not set.
    A second call replaces what the first one did.
    """
    logging.addLevelName(TRACE, "TRACE")
    level = TRACE if config.log_level == "trace" else config.log_level.upper()
    for each, stream in ((logger, sys.stderr), (access, sys.stdout)):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(Formatter(_want_colours(stream, config.use_colors)))
        each.handlers[:] = [handler]
        each.setLevel(level)
        each.propagate = False
    if not config.access_log:
        access.setLevel(logging.CRITICAL + 1)


def access_http(peer: str, method: str, target: str, http_version: str, status: int, seconds: float) -> None:
    """The line of a request: 127.0.0.1:51234 - "GET /path HTTP/1.1" 200 1.2ms"""
    if access.isEnabledFor(logging.INFO):
        access.info(
            HTTP_LINE, printable(peer), printable(method), printable(target), http_version, status, show_time(seconds)
        )


def access_websocket_open(peer: str, target: str, subprotocol: str | None) -> None:
    """The line of a WebSocket's begin: 127.0.0.1:51234 - "WebSocket /ws" accepted"""
    if access.isEnabledFor(logging.INFO):
        chosen = f", subprotocol {printable(subprotocol)}" if subprotocol is not None else ""
        access.info(OPEN_LINE, printable(peer), printable(target), chosen)


def access_websocket_close(
    peer: str,
    target: str,
    code: int,
    seconds: float,
    messages_in: int,
    bytes_in: int,
    messages_out: int,
    bytes_out: int,
) -> None:
    """The line of a WebSocket's end:
    127.0.0.1:51234 - "WebSocket /ws" closed 1000 after 12.3s, in 12 messages 3.4kB, out 12 messages 3.4kB
    """
    if access.isEnabledFor(logging.INFO):
        received, sent = (messages_in, show_bytes(bytes_in)), (messages_out, show_bytes(bytes_out))
        access.info(CLOSE_LINE, printable(peer), printable(target), code, show_time(seconds), *received, *sent)


def trace(app: ASGI3Application) -> ASGI3Application:
    """`app`, with each of its messages logged at TRACE; bodies and texts as sizes, headers as a number."""
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

        logger.log(TRACE, "%s begins %s", name, _summary(scope))
        try:
            await app(scope, traced_receive, traced_send)
        except BaseException as error:
            logger.log(TRACE, "%s raised %s", name, type(error).__name__)
            raise
        logger.log(TRACE, "%s returned", name)

    return cast(ASGI3Application, traced)


def printable(text: str) -> str:
    """`text` in printable ASCII, without a bare quote: nothing that a peer sends can forge or garble a line."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')


def show_time(seconds: float) -> str:
    """Milliseconds below a second, seconds from there on: 1.2ms, 12.3s."""
    return f"{seconds * 1000:.1f}ms" if seconds < 0.9995 else f"{seconds:.1f}s"


def show_bytes(count: int) -> str:
    """Decimal units: 812B, 3.4kB, 1.2GB."""
    if count < 1000:
        return f"{count}B"
    amount = float(count)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f}{unit}"
    return f"{amount / 1000:.1f}TB"


def _access_message(record: logging.LogRecord) -> str:
    """The message with its status or close code in colour; what is not one of the lines above stays as it is."""
    if not isinstance(record.args, tuple):
        return record.message
    args = list(record.args)
    if record.msg == HTTP_LINE and isinstance(args[4], int):
        args[4] = _coloured(str(args[4]), _STATUS_COLOURS.get(args[4] // 100, _CRITICAL_COLOUR))
    elif record.msg == CLOSE_LINE:
        args[2] = _coloured(str(args[2]), 32 if args[2] in _HEALTHY_CLOSES else 33)
    else:
        return record.message
    return str(record.msg) % tuple(args)


def _coloured(text: str, colour: int) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"


def _want_colours(stream: TextIO, wanted: bool | None) -> bool:
    if wanted is not None:
        return wanted
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _summary(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message or scope with sizes in the place of contents."""
    return {key: _sized(key, value) for key, value in message.items()}


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
