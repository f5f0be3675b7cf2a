# cython: language_level=3, annotation_typing=False
"""A WebSocket inside a program, in either role: a session behind a friendly face."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any

from flowserve.errors import ClientDisconnected, ConnectionClosed, ConnectionClosedOK
from flowserve.library.close_errors import check_close, closed_error
from flowserve.library.data import Data, control_payload, message_payload, plain_str
from flowserve.library.fragments import FragmentedReceive, Fragments, Pieces, each, send_fragments
from flowserve.library.pings import Pings, RoundTrip
from flowserve.library.properties import WebSocketProperties, session_of
from flowserve.session.session import Session
from flowserve.transport.waiters import add_waiter, wake
from flowserve.websocket.constants import State

if TYPE_CHECKING:
    from flowserve.library.messages import Request, Response

_OPEN, _CLOSED = int(State.OPEN), int(State.CLOSED)
# Characters or bytes of a message that is coming, and that nobody waits for: above them reading stops. The first for
# one that is received in fragments; the second bounds what comes before anybody asks where max_size does not.
_PART_MARK = 65536
_SPARE_MARK = 16777216
LATE_ROOM = 262144
"""Bytes of messages that are still taken after this end's close frame."""


class WebSocket(WebSocketProperties):
    """One WebSocket, in the role of client or server; `connect()`, `serve()` and `accept()` make them.

    `async for message in ws` gives the messages, str for text and bytes for binary ones, until the WebSocket is closed;
    it raises ConnectionClosedError if that was not in order. Several tasks may use it at once, each message goes to
    one of them. Cancelling a call loses no message. `async with ws` closes it in the end, with 1011 after an exception.

    It takes attributes of yours: `ws.user = ...`.
    """

    __slots__ = ("_fragmented", "_lock", "_lost_by", "_monitor", "_pings", "_told", "_waiters")

    def __init__(
        self,
        session: Session,
        subprotocol: str | None,
        request: Request | bytes | None = None,
        response: Response | bytes | None = None,
    ) -> None:
        """`session` is one that nobody else uses; the heads may be bytes, as of `heads.pack()`."""
        super().__init__(session, subprotocol, request, response)
        self._told = False  # the user knows that it has ended
        self._lost_by: Exception | None = None
        self._fragmented: FragmentedReceive | None = None  # since receive_fragments() was called first
        self._lock: asyncio.Lock | None = None  # held while a message is being sent in fragments
        self._pings: Pings | None = None  # None while no pong is waited for
        self._waiters: list[asyncio.Future[None]] | None = None  # for the transport's end
        self._monitor = session.monitor  # the one before, which is still told of the end
        session.monitor = self

    # Receiving

    async def receive(self, decode: bool | None = None) -> str | bytes:
        """Return the next message: str for text, bytes for binary. `decode` True makes a str of either, False bytes.

        Raises ConnectionClosedOK or ConnectionClosedError when none will come.
        """
        session = session_of(self)
        while (self._fragmented is not None and self._fragmented.is_held()) or not session.ready():
            await session.wait()
        if not session.waiting and (error := await self._end_or_message()) is not None:
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
        if session.waiting or (error := await self._end_or_message()) is None:
            return session.take()
        if isinstance(error, ConnectionClosedOK):
            raise StopAsyncIteration
        raise error

    def receive_fragments(self) -> Pieces:
        """Give the next message piece by piece as it arrives, to `async for`: all str, or all bytes.

        Pieces are as they come from the network, cut between characters. While they are not taken the peer has to wait.
        Raises as `receive()` does, also when the end comes before the message's. Left early, the rest of the message is
        what is received next.
        """
        session = session_of(self)
        if self._fragmented is None:
            self._fragmented = FragmentedReceive(session)
        return Pieces(session, self._fragmented, self._ending)

    recv_streaming = receive_fragments

    # Sending

    async def send(self, message: Data | Fragments, *, text: bool | None = None, compress: bool | None = None) -> None:
        """Send a message: str as text, bytes, bytearray or memoryview as binary; an iterable or asynchronous iterable
        of them as one message in fragments.

        `text` says of bytes that they are UTF-8 to be sent as text, or of str to be sent as binary. `compress` is
        whether to compress where permessage-deflate was agreed on; None leaves that to the message's length.

        Waits while the peer takes what was sent before too slowly. Cancelled, the message is sent whole or not at all.
        Raises ConnectionClosedOK or ConnectionClosedError once nothing can be sent.
        """
        if not isinstance(message, (str, bytes, bytearray, memoryview)):
            await self.send_fragmented(message, text=text, compress=compress)
            return
        session = session_of(self)
        plain = text is None and (type(message) is str or type(message) is bytes)
        payload: str | bytes = message if plain else message_payload(message, text)  # type: ignore[assignment]
        if self._lock is not None and self._lock.locked():
            async with self._lock:  # a message in fragments must come to its end (RFC 6455 section 5.4)
                pass
        try:
            waiting = session.transmit(payload, compress)
            if waiting is not None:
                await waiting
        except ClientDisconnected:
            pass
        else:
            return
        raise await self._ending()

    async def send_fragmented(
        self, fragments: Fragments, *, text: bool | None = None, compress: bool | None = None
    ) -> None:
        """Send the pieces that `fragments` gives, all str or all bytes, as one message, each in a frame of its own as
        soon as it is there, and compressed only if `compress` is True. Other messages wait for its end.

        If `fragments` raises, or this is cancelled, what was sent can't be taken back: the WebSocket is closed with
        1011, and the error raised. Raises as `send()` does, and TypeError for pieces that are neither or of both kinds.
        """
        session, pieces = session_of(self), each(fragments)
        if self._lock is None:
            self._lock = asyncio.Lock()
        try:
            async with self._lock:
                await send_fragments(session, pieces, text, compress)
        except ClientDisconnected:
            pass
        else:
            return
        raise await self._ending()

    async def ping(self, data: Data | None = None) -> RoundTrip:
        """Send a ping and wait for its pong; return the seconds between. `data`, at most 125 bytes, is made up if None.

        Raises ConnectionClosedOK or ConnectionClosedError when the end comes before the pong, ValueError for `data`
        that is too long, or that another ping waits for.
        """
        session = session_of(self)
        payload = uuid.uuid4().bytes if data is None else control_payload(data, "ping")
        pings = self._pings = self._pings or Pings()
        seconds = await pings.send_and_wait(session, payload)
        if seconds is None:
            raise await self._ending()
        return RoundTrip(seconds)

    async def pong(self, data: Data = b"") -> None:
        """Send a pong that nobody asked for, a heartbeat in one direction (RFC 6455 section 5.5.3); those that answer
        pings are sent without it. `data` has at most 125 bytes.

        Raises ConnectionClosedOK or ConnectionClosedError once nothing can be sent, ValueError for too much `data`.
        """
        session = session_of(self)
        payload = control_payload(data, "pong")
        if self.closed:
            raise await self._ending()
        session.connection.send_pong(payload)
        session.flush()

    def split(self) -> tuple[Reader, Writer]:
        """Return two ends of it, one for a task that receives and one for a task that sends."""
        return Reader(self), Writer(self)

    # The end

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it, and wait until it is closed: for the peer's answer, close_timeout seconds at most.

        What has come before can still be received, and what the peer sends until its answer, up to 256 KiB. Nothing but
        the wait if it is closed already; cancelled, it goes on by itself. A reason of more than 123 bytes is cut;
        raises ValueError for a code that a close frame may not carry.
        """
        session = session_of(self)
        check_close(code, reason)
        self._told = True
        session.connection.late_room = LATE_ROOM
        session.close(int(code), plain_str(reason))
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the connection beneath is gone too."""
        session = session_of(self)
        while not session.lost:
            waiter: asyncio.Future[None] = session.context.loop.create_future()
            self._waiters = add_waiter(self._waiters, waiter)
            await waiter

    def abort(self) -> None:
        """End it now, without a closing handshake: the peer sees 1006."""
        session = session_of(self)
        self._told = True
        session.abort()

    async def __aenter__(self) -> WebSocket:
        return self

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        await self.close(1000 if exc is None else 1011)

    async def _ending(self) -> ConnectionClosed:
        """Return why it has ended, once that is known: both ends have said so, or the connection is gone. From then on
        the user knows."""
        session = session_of(self)
        while session.connection.state != _CLOSED and not session.lost:
            await session.wait()
        told, self._told = self._told, True
        return closed_error(session.connection, told, self._lost_by)

    async def _end_or_message(self) -> ConnectionClosed | None:
        """Return why it has ended, or None if a message comes before that: the peer may send some until it answers."""
        session = session_of(self)
        while session.connection.state != _CLOSED and not session.lost and not session.waiting:
            await session.wait()
        return None if session.waiting else await self._ending()

    # As the Monitor of its session

    def _on_data(self) -> None:
        session = session_of(self)
        connection = session.connection
        if connection.state != _OPEN:
            session.wake()  # for those who wait for the peer's close frame
        elif connection.part_size:
            pieces = None if self._fragmented is None else self._fragmented.pieces
            if not (session.awaited if pieces is None else pieces.waiting):
                if connection.part_size > (_SPARE_MARK if pieces is None else _PART_MARK):
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
        session.stream.close()  # for Python 3.10, whose TLS transports warn of one that nobody has closed
        pings, self._pings = self._pings, None
        if pings is not None:
            pings.end()
        waiters, self._waiters = self._waiters, None
        wake(waiters)
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor._on_lost(exc)


class _End:
    __slots__ = ("_ws",)

    def __init__(self, ws: WebSocket) -> None:
        self._ws = ws

    @property
    def websocket(self) -> WebSocket:
        """The whole of it."""
        return self._ws

    @property
    def closed(self) -> bool:
        """As the WebSocket's, as are all names here."""
        return self._ws.closed

    @property
    def close_code(self) -> int | None:
        return self._ws.close_code

    @property
    def close_reason(self) -> str | None:
        return self._ws.close_reason

    def wait_closed(self) -> Coroutine[Any, Any, None]:
        return self._ws.wait_closed()


class Reader(_End):
    """The end that receives; `async for message in reader`, as from the WebSocket itself."""

    __slots__ = ()

    def receive(self, decode: bool | None = None) -> Coroutine[Any, Any, str | bytes]:
        return self._ws.receive(decode)

    recv = receive

    def receive_fragments(self) -> Pieces:
        return self._ws.receive_fragments()

    recv_streaming = receive_fragments

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self._ws.__aiter__()


class Writer(_End):
    """The end that sends, and closes both."""

    __slots__ = ()

    def send(
        self, message: Data | Fragments, *, text: bool | None = None, compress: bool | None = None
    ) -> Coroutine[Any, Any, None]:
        return self._ws.send(message, text=text, compress=compress)

    def send_fragmented(
        self, fragments: Fragments, *, text: bool | None = None, compress: bool | None = None
    ) -> Coroutine[Any, Any, None]:
        return self._ws.send_fragmented(fragments, text=text, compress=compress)

    def ping(self, data: Data | None = None) -> Coroutine[Any, Any, RoundTrip]:
        return self._ws.ping(data)

    def pong(self, data: Data = b"") -> Coroutine[Any, Any, None]:
        return self._ws.pong(data)

    def close(self, code: int = 1000, reason: str = "") -> Coroutine[Any, Any, None]:
        return self._ws.close(code, reason)
