# cython: language_level=3, annotation_typing=False
"""WebSocket, the object by which a program uses one WebSocket connection, as client or server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any

from flowserve.errors import ClientDisconnected, ConnectionClosed, ConnectionClosedOK
from flowserve.library.close_errors import check_close, closed_error
from flowserve.library.data import Data, control_payload, message_payload, plain_str
from flowserve.library.fragments import FragmentedReceive, Fragments, Pieces, as_async_iterable, send_fragments
from flowserve.library.pings import Pings, RoundTrip
from flowserve.library.properties import WebSocketProperties, session_of
from flowserve.session.session import Session
from flowserve.transport.waiters import add_waiter, wake
from flowserve.websocket.constants import State

if TYPE_CHECKING:
    from flowserve.library.messages import Request, Response

_OPEN, _CLOSED = int(State.OPEN), int(State.CLOSED)
# High-water marks in bytes for the received part of an incomplete message: above them reading is paused while no task
# waits for the rest. The first is for a message that is received with receive_fragments(), the second for others, in
# case max_size is larger.
_FRAGMENTS_HIGH_WATER = 65536
_MESSAGE_HIGH_WATER = 16777216
LATE_MESSAGES_LIMIT = 262144
"""Bytes of messages that are still queued when they arrive after this end's close frame."""


class WebSocket(WebSocketProperties):
    """One WebSocket connection, as client or server. `connect()`, `serve()` and `accept()` return it.

    `async for message in ws` iterates over the messages, str for text and bytes for binary, until the WebSocket is
    closed; it raises ConnectionClosedError if that was not a normal closure. Several tasks may receive at once; each
    message goes to one of them. Cancelling a call loses no message. `async with ws` closes the WebSocket at the end of
    the block, with 1011 after an exception.

    Programs may set attributes of their own: `ws.user = ...`.
    """

    __slots__ = (
        "_close_waiters",
        "_end_known",
        "_fragmented",
        "_lost_by",
        "_next_monitor",
        "_pings",
        "_send_lock",
    )

    def __init__(
        self,
        session: Session,
        subprotocol: str | None,
        request: Request | bytes | None = None,
        response: Response | bytes | None = None,
    ) -> None:
        """`session` must not be used by others; `request` and `response` may be bytes as of `messages.pack()`."""
        super().__init__(session, subprotocol, request, response)
        # The program knows that the WebSocket has ended: it has closed it, or got a ConnectionClosed.
        self._end_known = False
        self._lost_by: Exception | None = None  # the error with which the transport was lost
        self._fragmented: FragmentedReceive | None = None  # set by the first call of receive_fragments()
        self._send_lock: asyncio.Lock | None = None  # locked while a message is being sent in fragments
        self._pings: Pings | None = None  # None while no ping is unanswered
        self._close_waiters: list[asyncio.Future[None]] | None = None  # of wait_closed()
        self._next_monitor = session.monitor  # the previous one, to which _on_lost() is passed on
        session.monitor = self

    # Receiving

    async def receive(self, decode: bool | None = None) -> str | bytes:
        """Wait for the next message and return it: str for text, bytes for binary (RFC 6455 section 5.6). `decode`
        True returns str for both, False bytes.

        Raises ConnectionClosedOK or ConnectionClosedError if the WebSocket ends first, UnicodeDecodeError for a binary
        message that is not UTF-8 with `decode=True`.
        """
        session = session_of(self)
        while (self._fragmented is not None and self._fragmented.is_held()) or not session.ready():
            await session.wait()
        if not session.waiting and (error := await self._message_or_end()) is not None:
            raise error
        message = session.take()
        if decode is None or isinstance(message, str) == decode:
            return message
        return message.encode() if isinstance(message, str) else message.decode()

    recv = receive

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        session = session_of(self)
        while (self._fragmented is not None and self._fragmented.is_held()) or not session.ready():
            await session.wait()
        if session.waiting or (error := await self._message_or_end()) is None:
            return session.take()
        if isinstance(error, ConnectionClosedOK):
            raise StopAsyncIteration
        raise error

    def receive_fragments(self) -> Pieces:
        """Return an asynchronous iterator over the next message, in pieces as they arrive: all str, or all bytes.

        The pieces are not the peer's frames; text is cut between characters. While none is taken, reading pauses
        (backpressure). Iterating raises ConnectionClosedOK or ConnectionClosedError if the WebSocket ends before the
        message does. If the iteration is left early, the next call that receives returns the rest of the message.
        """
        session = session_of(self)
        if self._fragmented is None:
            self._fragmented = FragmentedReceive(session)
        return Pieces(session, self._fragmented, self._wait_for_end)

    recv_streaming = receive_fragments

    # Sending

    async def send(self, message: Data | Fragments, *, text: bool | None = None, compress: bool | None = None) -> None:
        """Send a message: str as text; bytes, bytearray or memoryview as binary; an iterable or asynchronous iterable
        of these as one fragmented message, see `send_fragmented()`.

        `text` True sends bytes, which must be UTF-8, as text; False sends a str as binary. `compress` says whether to
        compress the message if permessage-deflate (RFC 7692) was negotiated; None decides by its length.

        Waits while the transport is above its high-water mark (backpressure). If it is cancelled, the message is sent
        entirely or not at all. Raises ConnectionClosedOK or ConnectionClosedError if the WebSocket is closed, TypeError
        for a message of another type, UnicodeError for a str with lone surrogates or, as text, bytes that are not
        UTF-8.
        """
        if not isinstance(message, (str, bytes, bytearray, memoryview)):
            await self.send_fragmented(message, text=text, compress=compress)
            return
        session = session_of(self)
        plain = text is None and (type(message) is str or type(message) is bytes)
        payload: str | bytes = message if plain else message_payload(message, text)  # type: ignore[assignment]
        if self._send_lock is not None and self._send_lock.locked():
            async with self._send_lock:  # no frame of another message between fragments (RFC 6455 section 5.4)
                pass
        try:
            waiting = session.transmit(payload, compress)
            if waiting is not None:
                await waiting
        except ClientDisconnected:
            pass
        else:
            return
        raise await self._wait_for_end()

    async def send_fragmented(
        self, fragments: Fragments, *, text: bool | None = None, compress: bool | None = None
    ) -> None:
        """Send one message in fragments (RFC 6455 section 5.4): each item of the iterable or asynchronous iterable
        `fragments`, all str or all bytes-like, becomes a frame, sent as soon as the iterable yields it. Nothing is sent
        for an empty iterable. `text` is as for `send()`; the message is compressed only if `compress` is True.
        Other messages wait until this one is complete.

        Waits while the transport is above its high-water mark, whatever the option slow_consumer says. If an exception
        is raised after a fragment was sent, by `fragments` or because this is cancelled, the message cannot be
        completed: the WebSocket is closed with 1011, and the exception propagates. Raises ConnectionClosedOK or
        ConnectionClosedError if the WebSocket is closed, TypeError for an item of another type or items of both.
        """
        session, pieces = session_of(self), as_async_iterable(fragments)
        if self._send_lock is None:
            self._send_lock = asyncio.Lock()
        try:
            async with self._send_lock:
                await send_fragments(session, pieces, text, compress)
        except ClientDisconnected:
            pass
        else:
            return
        raise await self._wait_for_end()

    async def ping(self, data: Data | None = None) -> RoundTrip:
        """Send a ping and wait for its pong; return the seconds between (RFC 6455 section 5.5.2). `data` is the
        payload, str or bytes-like, at most 125 bytes; None for random bytes.

        Raises ConnectionClosedOK or ConnectionClosedError if the WebSocket ends before the pong arrives, ValueError if
        `data` is too long or that of another unanswered ping.
        """
        session = session_of(self)
        payload = uuid.uuid4().bytes if data is None else control_payload(data, "ping")
        pings = self._pings = self._pings or Pings()
        seconds = await pings.send_and_wait(session, payload)
        if seconds is None:
            raise await self._wait_for_end()
        return RoundTrip(seconds)

    async def pong(self, data: Data = b"") -> None:
        """Send an unsolicited pong, a unidirectional heartbeat (RFC 6455 section 5.5.3); pings are answered without
        it. `data` is the payload, str or bytes-like, at most 125 bytes.

        Raises ConnectionClosedOK or ConnectionClosedError if the WebSocket is closed, ValueError if `data` is too long.
        """
        session = session_of(self)
        payload = control_payload(data, "pong")
        if self.closed:
            raise await self._wait_for_end()
        session.connection.send_pong(payload)
        session.flush()

    def split(self) -> tuple[Reader, Writer]:
        """Return a Reader and a Writer of this WebSocket, for a task that receives and one that sends."""
        return Reader(self), Writer(self)

    # The end

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Do the closing handshake (RFC 6455 section 7.1.2): send a close frame with `code` and `reason`, wait for the
        peer's, at most close_timeout seconds, and until the connection is closed.

        Messages that were received before can still be taken, and so can those that the peer sends before its close
        frame, up to 256 KiB. If the WebSocket is closing already, it only waits. If it is cancelled, closing continues.
        `reason` is cut to 123 bytes of UTF-8. Raises ValueError for a code that a close frame must not have (RFC 6455
        section 7.4), TypeError for arguments of another type.
        """
        session = session_of(self)
        check_close(code, reason)
        self._end_known = True
        session.connection.late_room = LATE_MESSAGES_LIMIT
        session.close(int(code), plain_str(reason))
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the WebSocket is closed and its transport, too."""
        session = session_of(self)
        while not session.lost:
            waiter: asyncio.Future[None] = session.context.loop.create_future()
            self._close_waiters = add_waiter(self._close_waiters, waiter)
            await waiter

    def abort(self) -> None:
        """Close the transport at once, without a closing handshake; output that is not sent yet is lost. The peer sees
        close code 1006."""
        session = session_of(self)
        self._end_known = True
        session.abort()

    async def __aenter__(self) -> WebSocket:
        return self

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        await self.close(1000 if exc is None else 1011)

    async def _wait_for_end(self) -> ConnectionClosed:
        """Wait until both close frames were sent or the transport is lost; return the exception that tells how the
        WebSocket ended, for the caller to raise."""
        session = session_of(self)
        while session.connection.state != _CLOSED and not session.lost:
            await session.wait()
        already_known, self._end_known = self._end_known, True
        return closed_error(session.connection, already_known, self._lost_by)

    async def _message_or_end(self) -> ConnectionClosed | None:
        """Wait for a message or the end; return None, or the exception that tells how the WebSocket ended. Messages may
        still arrive after this end's close frame, until the peer's."""
        session = session_of(self)
        while session.connection.state != _CLOSED and not session.lost and not session.waiting:
            await session.wait()
        return None if session.waiting else await self._wait_for_end()

    # Monitor of the session

    def _on_data(self) -> None:
        session = session_of(self)
        connection = session.connection
        if connection.state != _OPEN:
            session.wake()  # tasks may be waiting for the peer's close frame
        elif connection.part_size:
            pieces = None if self._fragmented is None else self._fragmented.pieces
            if not (session.awaited if pieces is None else pieces._waiting):
                if connection.part_size > (_MESSAGE_HIGH_WATER if pieces is None else _FRAGMENTS_HIGH_WATER):
                    session.pause_reading()
            elif pieces is not None:
                session.wake()

    def _on_ping(self, payload: bytes) -> None:
        session_of(self)
        self._pings = self._pings or Pings()
        self._pings.add_keepalive(payload)

    def _on_pong(self, payload: bytes) -> None:
        session = session_of(self)
        seconds = None if self._pings is None else self._pings.answer(payload)
        if seconds is not None:
            session.latency = seconds
        if not self._pings:
            self._pings = None

    def _on_lost(self, exc: Exception | None) -> None:
        session = session_of(self)
        self._lost_by = exc
        session.stream.close()  # TLS transports of Python 3.10 issue a ResourceWarning if it was not called
        pings, self._pings = self._pings, None
        if pings is not None:
            pings.end()
        waiters, self._close_waiters = self._close_waiters, None
        wake(waiters)
        monitor, self._next_monitor = self._next_monitor, None
        if monitor is not None:
            monitor._on_lost(exc)


class _HalfWebSocket:
    """What Reader and Writer have in common."""

    __slots__ = ("_ws",)

    def __init__(self, ws: WebSocket) -> None:
        self._ws = ws

    @property
    def websocket(self) -> WebSocket:
        """The WebSocket that was split."""
        return self._ws

    @property
    def closed(self) -> bool:
        """See `WebSocket.closed`."""
        return self._ws.closed

    @property
    def close_code(self) -> int | None:
        """See `WebSocket.close_code`."""
        return self._ws.close_code

    @property
    def close_reason(self) -> str | None:
        """See `WebSocket.close_reason`."""
        return self._ws.close_reason

    def wait_closed(self) -> Coroutine[Any, Any, None]:
        """See `WebSocket.wait_closed()`."""
        return self._ws.wait_closed()


class Reader(_HalfWebSocket):
    """The receiving half that `WebSocket.split()` returns; `async for message in reader` as with the WebSocket."""

    __slots__ = ()

    def receive(self, decode: bool | None = None) -> Coroutine[Any, Any, str | bytes]:
        """See `WebSocket.receive()`."""
        return self._ws.receive(decode)

    recv = receive

    def receive_fragments(self) -> Pieces:
        """See `WebSocket.receive_fragments()`."""
        return self._ws.receive_fragments()

    recv_streaming = receive_fragments

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self._ws.__aiter__()


class Writer(_HalfWebSocket):
    """The sending half that `WebSocket.split()` returns; its `close()` closes the WebSocket."""

    __slots__ = ()

    def send(
        self, message: Data | Fragments, *, text: bool | None = None, compress: bool | None = None
    ) -> Coroutine[Any, Any, None]:
        """See `WebSocket.send()`."""
        return self._ws.send(message, text=text, compress=compress)

    def send_fragmented(
        self, fragments: Fragments, *, text: bool | None = None, compress: bool | None = None
    ) -> Coroutine[Any, Any, None]:
        """See `WebSocket.send_fragmented()`."""
        return self._ws.send_fragmented(fragments, text=text, compress=compress)

    def ping(self, data: Data | None = None) -> Coroutine[Any, Any, RoundTrip]:
        """See `WebSocket.ping()`."""
        return self._ws.ping(data)

    def pong(self, data: Data = b"") -> Coroutine[Any, Any, None]:
        """See `WebSocket.pong()`."""
        return self._ws.pong(data)

    def close(self, code: int = 1000, reason: str = "") -> Coroutine[Any, Any, None]:
        """See `WebSocket.close()`."""
        return self._ws.close(code, reason)
