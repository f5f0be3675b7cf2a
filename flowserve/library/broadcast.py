"""broadcast(): send one message to many WebSockets."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import sys
from collections.abc import Iterable
from typing import Any

from flowserve.errors import ClientDisconnected, ConnectionClosed
from flowserve.library.data import Data, message_payload
from flowserve.library.properties import session_of
from flowserve.library.websocket import WebSocket
from flowserve.logs.loggers import logger
from flowserve.session.session import Session
from flowserve.websocket.constants import Opcode
from flowserve.websocket.deflate import Deflater
from flowserve.websocket.frames import encode_frame

_TEXT, _BINARY = int(Opcode.TEXT), int(Opcode.BINARY)

_send_tasks: set[asyncio.Task[None]] = set()
"""The running tasks of `_send_in_task()`; the event loop holds only weak references to tasks."""


def broadcast(
    websockets: Iterable[WebSocket],
    message: Data,
    *,
    text: bool | None = None,
    compress: bool | None = None,
    raise_exceptions: bool = False,
) -> None:
    """Send a message to many WebSockets without waiting for any of them. `message`, `text` and `compress` are as for
    `WebSocket.send()`, except that `message` is not an iterable of fragments.

    The message is encoded once, and compressed once for all WebSockets that negotiated the same permessage-deflate
    parameters; but client WebSockets mask each frame with a key of its own (RFC 6455 section 5.3), and those with
    context takeover compress it separately. The option slow_consumer says what happens to a peer that reads too slowly;
    with "wait" its messages are buffered without limit, until send_timeout or the keepalive ends the WebSocket.

    WebSockets that are closed are skipped. So are those on which a message is being sent in fragments, and those on
    which sending fails; each of these is logged as a warning. With `raise_exceptions` these errors are raised together
    instead, as an ExceptionGroup, after the message was sent to all others; this needs Python 3.11. Raises TypeError
    for a message that is neither str nor bytes-like, UnicodeDecodeError for bytes sent with `text=True` that are not
    UTF-8.
    """
    if raise_exceptions and sys.version_info < (3, 11):
        raise TypeError("raise_exceptions needs Python 3.11, which has ExceptionGroup")
    prepared = _BroadcastMessage(message_payload(message, text), compress)
    errors: list[Exception] = []
    for ws in websockets:
        if ws.closed:
            continue
        session = session_of(ws)
        try:
            if session.connection.fragmenting:
                raise RuntimeError("a message is being sent in fragments")
            prepared.send_to(ws, session)
        except ClientDisconnected:
            pass
        except Exception as error:
            errors.append(error)
    if errors and raise_exceptions:
        raise _exception_group("skipped broadcast", errors)
    for each in errors:
        logger.warning("Skipped a WebSocket in a broadcast: %s", each)


class _BroadcastMessage:
    """The message of one broadcast, with its encoded and compressed forms; each is made once, when first needed."""

    __slots__ = ("_compress", "_compressed_frames", "_data", "_frame", "_message", "_payloads", "_text")

    def __init__(self, message: str | bytes, compress: bool | None) -> None:
        self._message = message
        self._text = isinstance(message, str)
        self._data = message.encode() if isinstance(message, str) else message
        self._compress = compress
        self._frame = b""
        self._compressed_frames: dict[Deflater, bytes] = {}
        self._payloads: dict[Deflater, bytes] = {}

    def send_to(self, ws: WebSocket, session: Session) -> None:
        """Send the message to one WebSocket. Raises ClientDisconnected if the session has ended, or ends now because
        the peer reads too slowly."""
        connection = session.connection
        codec: Any = connection.deflate
        if codec is not None and session.busy:
            self._send_in_task(ws)
        elif codec is None or not (codec.should_compress(self._data) if self._compress is None else self._compress):
            if connection.is_client:
                session.send(self._message, False)
            else:
                session.send_frame(self._frame or self._encode_frame(), self._text, len(self._data))
        elif codec.deflater.takeover:
            session.send(self._message, True)
        elif not connection.is_client:
            deflater = codec.deflater
            session.send_frame(
                self._compressed_frames.get(deflater) or self._encode_compressed(deflater), self._text, len(self._data)
            )
        elif not session.overflows():
            session.send_compressed(self._text, self._compress_payload(codec.deflater), len(self._data))

    def _encode_frame(self) -> bytes:
        self._frame = encode_frame(_TEXT if self._text else _BINARY, self._data)
        return self._frame

    def _encode_compressed(self, deflater: Deflater) -> bytes:
        frame = encode_frame(_TEXT if self._text else _BINARY, self._compress_payload(deflater), b"", True)
        self._compressed_frames[deflater] = frame
        return frame

    def _compress_payload(self, deflater: Deflater) -> bytes:
        payload = self._payloads.get(deflater)
        if payload is None:
            payload = self._payloads[deflater] = deflater.compress(self._data)
        return payload

    def _send_in_task(self, ws: WebSocket) -> None:
        """Send in a task of its own, which waits until the messages before have been compressed."""
        task = asyncio.get_running_loop().create_task(_send(ws, self._message, self._compress))
        _send_tasks.add(task)
        task.add_done_callback(_send_tasks.discard)


async def _send(ws: WebSocket, message: str | bytes, compress: bool | None) -> None:
    with contextlib.suppress(ConnectionClosed):
        await ws.send(message, compress=compress)


def _exception_group(text: str, errors: list[Exception]) -> Exception:
    group: Any = vars(builtins)["ExceptionGroup"]
    error: Exception = group(text, errors)
    return error
