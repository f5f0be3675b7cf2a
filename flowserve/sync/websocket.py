"""WebSocket, the object by which threads use one WebSocket connection: that of the library, in the loop's thread."""

from __future__ import annotations

import asyncio
import logging
import queue
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

from flowserve.errors import ConnectionClosedOK
from flowserve.library import websocket
from flowserve.library.data import Data
from flowserve.library.messages import Request, Response
from flowserve.library.timeout import Deadline
from flowserve.sync.loop_thread import SLICE, LoopThread
from flowserve.websocket.constants import CloseCode, State

T = TypeVar("T")

_NO_MORE = object()
"""In the place of a fragment, when there are no more."""


class WebSocket:
    """One WebSocket connection of a client, for programs without asyncio. `flowserve.sync.connect()` returns it.

    `for message in ws` iterates over the messages, str for text and bytes for binary, until the WebSocket is closed; it
    raises ConnectionClosedError if that was not a normal closure. `with ws` closes the WebSocket at the end of the
    block, with 1011 after an exception.

    All methods wait until they are done, and may be called by several threads at once: one may receive while another
    one sends; of several that receive, each gets other messages. An exception that a signal raises meanwhile, such as
    KeyboardInterrupt, ends the call, and no message is lost. Each `timeout` is in seconds, None for no limit; when it
    is over, the call raises TimeoutError, and the WebSocket goes on.
    """

    def __init__(self, ws: websocket.WebSocket, thread: LoopThread) -> None:
        self._ws = ws
        self._thread = thread
        self._kept: deque[str | bytes] = deque()  # messages that a call took which was interrupted then
        thread.add(ws)

    def __repr__(self) -> str:
        return repr(self._ws)

    # Receiving

    def receive(self, timeout: float | None = None, decode: bool | None = None) -> str | bytes:
        """Wait for the next message and return it: str for text, bytes for binary (RFC 6455 section 5.6). `decode`
        True returns str for both, False bytes.

        Raises ConnectionClosedOK or ConnectionClosedError if the WebSocket ends first, TimeoutError after `timeout`
        seconds, UnicodeDecodeError for a binary message that is not UTF-8 with `decode=True`.
        """
        try:
            message = self._kept.popleft()
        except IndexError:
            message = self._run(self._ws.receive, timeout, "waiting for a message", self._kept.append)
        if decode is None or isinstance(message, str) == decode:
            return message
        return message.encode() if isinstance(message, str) else message.decode()

    recv = receive

    def __iter__(self) -> Iterator[str | bytes]:
        while True:
            try:
                message = self.receive()
            except ConnectionClosedOK:
                return
            yield message

    def receive_fragments(self) -> Iterator[str | bytes]:
        """Return an iterator over the next message, in pieces as they arrive: all str, or all bytes.

        The pieces are not the peer's frames; text is cut between characters. While none is taken, reading pauses
        (backpressure). Iterating raises ConnectionClosedOK or ConnectionClosedError if the WebSocket ends before the
        message does. If the iteration is left early, the next call that receives returns the rest of the message.
        """
        if self._kept:
            yield self._kept.popleft()
            return
        pieces: queue.SimpleQueue[str | bytes | None] = queue.SimpleQueue()
        wanted = asyncio.Semaphore(0)

        async def hand_out() -> None:  # in one task, to which the message belongs meanwhile
            arriving = self._ws.receive_fragments()
            try:
                while True:
                    await wanted.acquire()
                    pieces.put(await arriving.__anext__())
            except StopAsyncIteration:
                pass
            finally:
                await arriving.aclose()

        with self._thread.calling(hand_out, lambda: pieces.put(None)) as call:
            while True:
                self._thread.loop.call_soon_threadsafe(wanted.release)
                piece = _get(pieces)
                if piece is None:
                    break
                yield piece
        call.result()

    recv_streaming = receive_fragments

    # Sending

    def send(
        self,
        message: Data | Iterable[Data],
        *,
        text: bool | None = None,
        compress: bool | None = None,
        timeout: float | None = None,
    ) -> None:
        """Send a message: str as text; bytes, bytearray or memoryview as binary; an iterable of these as one fragmented
        message, see `send_fragmented()`.

        `text` True sends bytes, which must be UTF-8, as text; False sends a str as binary. `compress` says whether to
        compress the message if permessage-deflate (RFC 7692) was negotiated; None decides by its length.

        Waits while the transport is above its high-water mark (backpressure), at most `timeout` seconds: then it raises
        TimeoutError, and the message is sent entirely or not at all. Raises ConnectionClosedOK or ConnectionClosedError
        if the WebSocket is closed, TypeError for a message of another type, UnicodeError for a str with lone surrogates
        or, as text, bytes that are not UTF-8.
        """
        if isinstance(message, (str, bytes, bytearray, memoryview)):
            self._run(lambda: self._ws.send(message, text=text, compress=compress), timeout, "sending a message")
        elif timeout is not None:
            raise TypeError("a message in fragments takes as long as these; it has no timeout")
        else:
            self.send_fragmented(message, text=text, compress=compress)

    def send_fragmented(
        self, fragments: Iterable[Data], *, text: bool | None = None, compress: bool | None = None
    ) -> None:
        """Send one message in fragments (RFC 6455 section 5.4): each item of `fragments`, all str or all bytes-like,
        becomes a frame, sent as soon as the iterable, in this thread, yields it. `text` is as for `send()`; the message
        is compressed only if `compress` is True. Other messages wait until this one is complete.

        If an exception is raised after a fragment was sent, by `fragments` or by a signal, the message cannot be
        completed: the WebSocket is closed with 1011, and the exception propagates. Raises ConnectionClosedOK or
        ConnectionClosedError if the WebSocket is closed, TypeError for an item of another type or items of both.
        """
        if isinstance(fragments, Mapping) or not isinstance(fragments, Iterable):
            raise TypeError(f"a message is str, bytes, or an iterable of these, not {type(fragments).__name__}")
        loop, items = self._thread.loop, iter(fragments)
        requests: queue.SimpleQueue[asyncio.Future[Any] | None] = queue.SimpleQueue()

        async def take() -> AsyncIterator[Data]:
            while True:
                request = loop.create_future()
                requests.put(request)
                item = await request
                if item is _NO_MORE:
                    return
                yield item

        async def send() -> None:
            await self._ws.send_fragmented(take(), text=text, compress=compress)

        with self._thread.calling(send, lambda: requests.put(None)) as call:
            while (request := _get(requests)) is not None:
                loop.call_soon_threadsafe(_answer, request, next(items, _NO_MORE))
        call.result()

    def ping(self, data: Data | None = None, timeout: float | None = None) -> float:
        """Send a ping and wait for its pong; return the seconds between (RFC 6455 section 5.5.2). `data` is the
        payload, str or bytes-like, at most 125 bytes; None for random bytes.

        Raises ConnectionClosedOK or ConnectionClosedError if the WebSocket ends before the pong arrives, TimeoutError
        after `timeout` seconds, ValueError if `data` is too long or that of another unanswered ping.
        """
        return float(self._run(lambda: self._ws.ping(data), timeout, "waiting for a pong"))

    def pong(self, data: Data = b"") -> None:
        """Send an unsolicited pong, a unidirectional heartbeat (RFC 6455 section 5.5.3); pings are answered without
        it. `data` is the payload, str or bytes-like, at most 125 bytes.

        Raises ConnectionClosedOK or ConnectionClosedError if the WebSocket is closed, ValueError if `data` is too long.
        """
        self._run(lambda: self._ws.pong(data))

    # The end

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Do the closing handshake (RFC 6455 section 7.1.2): send a close frame with `code` and `reason`, wait for the
        peer's, at most close_timeout seconds, and until the connection is closed.

        Messages that were received before can still be taken. If the WebSocket is closing already, it only waits. If it
        is interrupted, closing continues. `reason` is cut to 123 bytes of UTF-8. Raises ValueError for a code that a
        close frame must not have (RFC 6455 section 7.4), TypeError for arguments of another type.
        """
        self._run(lambda: self._ws.close(code, reason))

    def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the WebSocket is closed and its transport, too. Raises TimeoutError after `timeout` seconds."""
        self._run(self._ws.wait_closed, timeout, "waiting for the end")

    def abort(self) -> None:
        """Close the transport at once, without a closing handshake; output that is not sent yet is lost. The peer sees
        close code 1006."""

        async def abort() -> None:
            self._ws.abort()
            await self._ws.wait_closed()

        self._run(abort)

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close(CloseCode.NORMAL if kind is None else CloseCode.INTERNAL_ERROR)
        except BaseException:
            self.abort()
            raise

    # Properties

    @property
    def subprotocol(self) -> str | None:
        """The negotiated subprotocol (RFC 6455 section 1.9), or None."""
        return self._ws.subprotocol

    @property
    def logger(self) -> logging.Logger | logging.LoggerAdapter[Any]:
        """The logger that was passed to `connect()`, by default "flowserve"."""
        return self._ws.logger

    @property
    def request(self) -> Request | None:
        """The request of the opening handshake."""
        return self._ws.request

    @property
    def response(self) -> Response | None:
        """The response of the opening handshake."""
        return self._ws.response

    @property
    def id(self) -> uuid.UUID:
        """See `flowserve.WebSocket.id`."""
        return self._ws.id

    @property
    def latency(self) -> float:
        """See `flowserve.WebSocket.latency`."""
        return self._ws.latency

    @property
    def closed(self) -> bool:
        """See `flowserve.WebSocket.closed`."""
        return self._ws.closed

    @property
    def state(self) -> State:
        """See `flowserve.WebSocket.state`."""
        return self._ws.state

    @property
    def close_code(self) -> int | None:
        """See `flowserve.WebSocket.close_code`."""
        return self._ws.close_code

    @property
    def close_reason(self) -> str | None:
        """See `flowserve.WebSocket.close_reason`."""
        return self._ws.close_reason

    @property
    def local_address(self) -> Any:
        """See `flowserve.WebSocket.local_address`."""
        return self._ws.local_address

    @property
    def remote_address(self) -> Any:
        """See `flowserve.WebSocket.remote_address`."""
        return self._ws.remote_address

    def _run(
        self,
        function: Callable[[], Coroutine[Any, Any, T]],
        timeout: float | None = None,
        doing: str = "",
        keep: Callable[[T], object] | None = None,
    ) -> T:
        """Wait for a method of the asynchronous WebSocket, at most `timeout` seconds; see `LoopThread.run()`."""

        async def limited() -> T:
            async with Deadline(timeout) as deadline:
                deadline.doing = doing
                return await function()

        return self._thread.run(function if timeout is None else limited, keep)


def _get(items: queue.SimpleQueue[T]) -> T:
    while True:
        try:
            return items.get(timeout=SLICE)
        except queue.Empty:
            pass


def _answer(request: asyncio.Future[Any], item: object) -> None:
    if not request.done():
        request.set_result(item)
