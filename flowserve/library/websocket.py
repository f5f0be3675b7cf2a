# cython: language_level=3, annotation_typing=False
"""A WebSocket inside a program, in either role: a session behind a friendly face."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from flowserve.errors import (
    AlreadyClosed,
    ClientDisconnected,
    Close,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidText,
    PayloadTooBig,
    ProtocolError,
)
from flowserve.session import Session
from flowserve.websocket.constants import MAX_CONTROL_PAYLOAD, CloseCode, is_sendable

if TYPE_CHECKING:
    from flowserve.flow import Flow
    from flowserve.http.messages import Request
    from flowserve.http.response import Response

Data = str | bytes | bytearray | memoryview
Fragments = Iterable[Data] | AsyncIterable[Data]

_OK = (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS)
_CAUSES = {1007: InvalidText, 1009: PayloadTooBig}
_HOLD_MARK = 65536  # of a message that is read in fragments: above it reading stops


class _AlreadyClosedOK(AlreadyClosed, ConnectionClosedOK):
    pass


class _AlreadyClosedError(AlreadyClosed, ConnectionClosedError):
    pass


class WebSocket:
    """One WebSocket, in the role of client or server; `connect()`, `serve()` and `accept()` make them.

    `async for message in ws` gives the messages, str for text and bytes for binary ones, until the WebSocket is closed;
    it raises ConnectionClosedError if that was not in order. Several tasks may use it at once, each message goes to
    one of them. Cancelling a call loses no message.

    `subprotocol` is the one agreed on, or None. `request` is the client's request as a server sees it, `response` the
    server's answer as a client sees it; the other one is None.
    """

    __slots__ = (
        "__weakref__",
        "_id",
        "_lock",
        "_partial",
        "_pings",
        "_session",
        "_told",
        "_waiters",
        "request",
        "response",
        "subprotocol",
    )

    def __init__(
        self,
        session: Session,
        subprotocol: str | None,
        request: Request | None = None,
        response: Response | None = None,
    ) -> None:
        """`session` is one that nobody else uses."""
        self._session = session
        self.subprotocol = subprotocol
        self.request = request
        self.response = response
        self._id: uuid.UUID | None = None
        self._told = False  # the user knows that it has ended
        self._partial = False  # a message is being received in fragments
        self._lock: asyncio.Lock | None = None  # held while a message is being sent in fragments
        self._pings: dict[bytes, tuple[asyncio.Future[float], float]] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None  # for the transport's end
        session.monitor = self

    # What it says about itself

    @property
    def id(self) -> uuid.UUID:
        """A name of its own, for logs."""
        if self._id is None:
            self._id = uuid.uuid4()
        return self._id

    @property
    def session(self) -> Session:
        """What lies beneath."""
        return self._session

    @property
    def latency(self) -> float:
        """Seconds that the last keepalive ping took to be answered; 0.0 before that."""
        return self._session.latency

    @property
    def closed(self) -> bool:
        """Whether the WebSocket has ended, or is ending; messages may still wait to be received."""
        return self._session.lost or self._session.connection.state != 0

    @property
    def close_code(self) -> int | None:
        """The peer's close code, 1005 if it gave none, 1006 if it sent no close frame; None before the end."""
        return self._error().code if self._is_over() else None

    @property
    def close_reason(self) -> str | None:
        """The reason that went with the code."""
        return self._error().reason if self._is_over() else None

    def _is_over(self) -> bool:
        return self._session.lost or self._session.connection.peer_close is not None

    @property
    def local_address(self) -> Any:
        """This end's address, as a socket's getsockname() gives it."""
        return self.transport.get_extra_info("sockname")

    @property
    def remote_address(self) -> Any:
        """The peer's address, as a socket's getpeername() gives it."""
        return self.transport.get_extra_info("peername")

    @property
    def transport(self) -> asyncio.Transport:
        """What carries it, for `get_extra_info()`; anything else is at your own risk."""
        return cast("Flow", self._session.stream).transport

    # Receiving

    async def receive(self) -> str | bytes:
        """Return the next message: str for text, bytes for binary.

        Raises ConnectionClosedOK or ConnectionClosedError when none will come.
        """
        session = self._session
        if self._partial:
            self._leave_part()
        while not session.ready():
            await session.wait()
        if session.waiting:
            return session.take()
        raise self._end()

    recv = receive

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        session = self._session
        if self._partial:
            self._leave_part()
        while not session.ready():
            await session.wait()
        if session.waiting:
            return session.take()
        error = self._end()
        if isinstance(error, ConnectionClosedOK):
            raise StopAsyncIteration
        raise error

    async def receive_fragments(self) -> AsyncIterator[str | bytes]:
        """Give the next message piece by piece as it arrives: all str, or all bytes.

        Pieces are as they come from the network, cut between characters. Raises as `receive()` does, also when the end
        comes before the message's. Left early, the rest of the message is what is received next.
        """
        session = self._session
        self._partial, begun = True, False
        while True:
            while not session.connection.part_size and not session.ready():
                await session.wait()
            if session.waiting:
                self._partial = False
                rest = session.take()
                if rest or not begun:
                    yield rest
                return
            part = session.take_part()
            if not part:
                raise self._end()
            begun = True
            yield part

    recv_streaming = receive_fragments

    def _leave_part(self) -> None:
        """Whoever was receiving in fragments has gone."""
        self._partial = False
        self._session.resume_reading()

    # Sending

    async def send(self, message: Data | Fragments, *, text: bool | None = None, compress: bool | None = None) -> None:
        """Send a message: str as text, bytes, bytearray or memoryview as binary; an iterable or asynchronous iterable
        of them as one message in fragments.

        `text` says of bytes that they are UTF-8 to be sent as text, or of str to be sent as binary. `compress` is
        whether to compress where permessage-deflate was agreed on; None leaves that to the message's length.

        Waits while the peer takes what was sent before too slowly. Raises ConnectionClosedOK or ConnectionClosedError
        once nothing can be sent.
        """
        if isinstance(message, str):
            payload: str | bytes = message if text is None or text else message.encode()
        elif isinstance(message, bytes) and not text:
            payload = message
        elif isinstance(message, (bytes, bytearray, memoryview)):
            payload = bytes(message).decode() if text else bytes(message)
        else:
            await self.send_fragmented(message, text=text)
            return
        session = self._session
        if self._lock is not None and self._lock.locked():
            async with self._lock:  # a message in fragments must come to its end (RFC 6455 section 5.4)
                pass
        try:
            waiting = session.transmit(payload, compress)
            if waiting is not None:
                await waiting
        except ClientDisconnected:
            raise self._end() from None

    async def send_fragmented(self, fragments: Fragments, *, text: bool | None = None) -> None:
        """Send the pieces that `fragments` gives, all str or all bytes, as one message, each in a frame of its own as
        soon as it is there; not compressed.

        If `fragments` raises, what was sent can't be taken back: the WebSocket is closed with 1011, and the error
        raised.
        Raises as `send()` does, and TypeError for pieces that are neither, or of both kinds.
        """
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            await self._session.settle()
            try:
                await self._send_fragments(fragments, text)
            except ClientDisconnected:
                raise self._end() from None

    async def _send_fragments(self, fragments: Fragments, text: bool | None) -> None:
        session = self._session
        kind: type | None = None  # of the first piece
        as_text = False
        try:
            async for piece in _each(fragments):
                first = kind is None
                if kind is None:
                    kind = str if isinstance(piece, str) else bytes
                    as_text = kind is str if text is None else text
                if isinstance(piece, str) != (kind is str):
                    raise TypeError("the fragments of a message must be all str, or all bytes")
                payload = piece.encode() if isinstance(piece, str) else bytes(piece)
                if session.send_fragment(as_text, payload, first, False):
                    await session.drain()
            if kind is not None and session.send_fragment(as_text, b"", False, True):
                await session.drain()
        except ClientDisconnected:
            raise
        except BaseException:
            if kind is not None:
                session.close(CloseCode.INTERNAL_ERROR, "a message was not finished")
            raise

    async def ping(self, data: str | bytes | None = None) -> float:
        """Send a ping and wait for its pong; return the seconds between. `data`, at most 125 bytes, is made up if None.

        Raises ConnectionClosed when the end comes before the pong.
        """
        if self._pings is None:
            self._pings = {}
        payload = data.encode() if isinstance(data, str) else data
        if payload is None:
            payload = uuid.uuid4().bytes
        elif len(payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"a ping holds {MAX_CONTROL_PAYLOAD} bytes at most, not {len(payload)}")
        elif payload in self._pings:
            raise ValueError(f"a ping with {payload!r} is under way already")
        pong: asyncio.Future[float] = self._session.context.loop.create_future()
        self._pings[payload] = pong, perf_counter()
        try:
            self._session.ping(payload)
            return await pong
        except ClientDisconnected:
            raise self._end() from None
        finally:
            if self._pings is not None:
                self._pings.pop(payload, None)

    # The end

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it, and wait until it is closed: for the peer's answer, close_timeout seconds at most.

        Messages that have not been received are lost. Nothing but the wait if it is closed already. Raises ValueError
        for a code that a close frame may not carry; a reason of more than 123 bytes is cut.
        """
        if not is_sendable(code):
            raise ValueError(f"{code!r} is not a code that a close frame may carry (RFC 6455 section 7.4)")
        self._told = True
        self._session.close(code, reason)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the connection beneath is gone too."""
        while not self._session.lost:
            waiter: asyncio.Future[None] = self._session.context.loop.create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            await waiter

    def abort(self) -> None:
        """End it now, without a closing handshake: the peer sees 1006."""
        self._told = True
        self._session.abort()

    async def __aenter__(self) -> WebSocket:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _end(self) -> ConnectionClosed:
        """Why it has ended, for whoever asks; from then on they know."""
        told, self._told = self._told, True
        error = self._error(told)
        connection = self._session.connection
        if connection.failed:
            error.__cause__ = _CAUSES.get(connection.close_code, ProtocolError)(connection.close_reason)
        return error

    def _error(self, told: bool = False) -> ConnectionClosed:
        connection = self._session.connection
        rcvd, sent = _close(connection.peer_close), _close(connection.sent_close)
        both = rcvd is not None and sent is not None
        if rcvd is not None and sent is not None and rcvd.code in _OK and sent.code in _OK:
            kind: type[ConnectionClosed] = _AlreadyClosedOK if told else ConnectionClosedOK
        else:
            kind = _AlreadyClosedError if told else ConnectionClosedError
        return kind(rcvd, sent, connection.answered if both else None)

    # As the monitor of its session

    def fed(self) -> None:
        """Bytes have come, but no message."""
        connection = self._session.connection
        if self._partial and connection.part_size:
            if connection.part_size > _HOLD_MARK:
                self._session.pause_reading()
            self._session.wake()

    def ponged(self, payload: bytes) -> None:
        """A pong has come; it answers the pings before it, too (RFC 6455 section 5.5.3)."""
        pings = self._pings
        if pings is None or payload not in pings:
            return
        now = perf_counter()
        for each, (pong, sent_at) in list(pings.items()):
            del pings[each]
            if not pong.done():
                pong.set_result(now - sent_at)
            if each == payload:
                break

    def lost(self) -> None:
        """The connection is gone."""
        pings, self._pings = self._pings, None
        for pong, _ in (pings or {}).values():
            if not pong.done():
                pong.set_exception(ClientDisconnected("the WebSocket is closed"))
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)


async def _each(fragments: Fragments) -> AsyncIterator[Data]:
    if isinstance(fragments, AsyncIterable):
        async for piece in fragments:
            yield piece
    elif isinstance(fragments, Iterable) and not isinstance(fragments, Mapping):
        for piece in fragments:
            yield piece
    else:
        raise TypeError(f"a message is str, bytes, or an iterable of these, not {type(fragments).__name__}")


def _close(payload: bytes | None) -> Close | None:
    """What a close frame says; one with a wrong code or reason says nothing."""
    if payload is None:
        return None
    if not payload:
        return Close(int(CloseCode.NO_STATUS), "")
    return Close(int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace"))
