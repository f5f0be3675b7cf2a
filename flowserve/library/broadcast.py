"""broadcast(): one message to many WebSockets."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import sys
from collections.abc import Iterable
from typing import Any

from flowserve.errors import ClientDisconnected, ConnectionClosed
from flowserve.library.data import Data, message_payload
from flowserve.library.websocket import WebSocket
from flowserve.logs.loggers import logger
from flowserve.session.session import Session
from flowserve.websocket.constants import Opcode
from flowserve.websocket.deflate import Deflater
from flowserve.websocket.frames import encode_frame

_TEXT, _BINARY = int(Opcode.TEXT), int(Opcode.BINARY)

_late: set[asyncio.Task[None]] = set()
"""Deliveries that stand behind messages that take long to compress; the event loop alone would forget them."""


def broadcast(
    websockets: Iterable[WebSocket],
    message: Data,
    *,
    text: bool | None = None,
    compress: bool | None = None,
    raise_exceptions: bool = False,
) -> None:
    """Send a message to many WebSockets, and wait for none of them: str as text, bytes as binary; `text` and `compress`
    as for `WebSocket.send()`.

    It is framed once and compressed once for all that agreed alike, except that a client masks each frame anew, and
    that with context takeover each compresses for itself. For peers that are too slow the option slow_consumer says
    what happens; if that is "wait" the messages pile up, until send_timeout or the keepalive ends it.

    Those that are closed are passed over. So are those that are sending a message in fragments, and those where it
    fails, with a warning in the log; `raise_exceptions` raises these errors instead, when all others have been served,
    in an ExceptionGroup (Python 3.11). Raises TypeError for what is no message.
    """
    if raise_exceptions and sys.version_info < (3, 11):
        raise TypeError("raise_exceptions needs Python 3.11, which has ExceptionGroup")
    parcel = _Parcel(message_payload(message, text), compress)
    errors: list[Exception] = []
    for ws in websockets:
        if ws.closed:
            continue
        session = ws.session
        try:
            if session.connection.fragmenting:
                raise RuntimeError("a message is being sent in fragments")
            parcel.deliver(ws, session)
        except ClientDisconnected:
            pass
        except Exception as error:
            errors.append(error)
    if errors and raise_exceptions:
        raise _group("skipped broadcast", errors)
    for each in errors:
        logger.warning("Skipped a WebSocket in a broadcast: %s", each)


class _Parcel:
    """A message, in all the ways in which it travels; each is made once, when the first wants it."""

    __slots__ = ("_compress", "_compressed", "_data", "_frame", "_frames", "_message", "_text")

    def __init__(self, message: str | bytes, compress: bool | None) -> None:
        self._message = message
        self._text = isinstance(message, str)
        self._data = message.encode() if isinstance(message, str) else message
        self._compress = compress
        self._frame = b""
        self._frames: dict[Deflater, bytes] = {}
        self._compressed: dict[Deflater, bytes] = {}

    def deliver(self, ws: WebSocket, session: Session) -> None:
        """Send it. Raises ClientDisconnected when the session has ended, or does now for slowness."""
        connection = session.connection
        codec: Any = connection.deflate
        if codec is not None and session.busy:
            self._deliver_late(ws)
        elif codec is None or not (codec.should_compress(self._data) if self._compress is None else self._compress):
            if connection.is_client:
                session.send(self._message, False)
            else:
                session.send_frame(self._frame or self._plain(), self._text, len(self._data))
        elif codec.deflater.takeover:
            session.send(self._message, True)
        elif not connection.is_client:
            deflater = codec.deflater
            session.send_frame(self._frames.get(deflater) or self._framed(deflater), self._text, len(self._data))
        elif not session.overflows():
            session.send_compressed(self._text, self._deflated(codec.deflater), len(self._data))

    def _plain(self) -> bytes:
        self._frame = encode_frame(_TEXT if self._text else _BINARY, self._data)
        return self._frame

    def _framed(self, deflater: Deflater) -> bytes:
        frame = encode_frame(_TEXT if self._text else _BINARY, self._deflated(deflater), b"", True)
        self._frames[deflater] = frame
        return frame

    def _deflated(self, deflater: Deflater) -> bytes:
        payload = self._compressed.get(deflater)
        if payload is None:
            payload = self._compressed[deflater] = deflater.compress(self._data)
        return payload

    def _deliver_late(self, ws: WebSocket) -> None:
        """Behind the messages that are being compressed, in its own time."""
        task = asyncio.get_running_loop().create_task(_send(ws, self._message, self._compress))
        _late.add(task)
        task.add_done_callback(_late.discard)


async def _send(ws: WebSocket, message: str | bytes, compress: bool | None) -> None:
    with contextlib.suppress(ConnectionClosed):
        await ws.send(message, compress=compress)


def _group(text: str, errors: list[Exception]) -> Exception:
    group: Any = vars(builtins)["ExceptionGroup"]
    error: Exception = group(text, errors)
    return error
