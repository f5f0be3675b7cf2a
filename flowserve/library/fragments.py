"""Receiving a message in pieces as they arrive, and sending one in fragments (RFC 6455 section 5.4)."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from flowserve.library.data import Data, encoded
from flowserve.websocket.constants import CloseCode

if TYPE_CHECKING:
    from flowserve.errors import ConnectionClosed
    from flowserve.session.session import Session

Fragments = Iterable[Data] | AsyncIterable[Data]


class FragmentedReceive:
    """Records which iterator, if any, receives the next message of a session in pieces. Other receivers wait meanwhile.

    The message is released when the last piece is taken, the iterator is closed or dropped, or its task ends.
    """

    __slots__ = ("_owner", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._owner: weakref.ref[Pieces] | None = None  # None while no message is received in pieces

    @property
    def pieces(self) -> Pieces | None:
        """The iterator that receives the next message, None if there is none."""
        return None if self._owner is None else self._owner()

    def is_held(self) -> bool:
        """Whether the current task must wait as another task receives the message in pieces. If there is no such task,
        or it is the current one, which receives in another way now, the rest of the message is released."""
        if self._owner is None:
            return False
        pieces = self._owner()
        if pieces is not None and pieces._is_used_elsewhere():
            return True
        self.release()
        return False

    def acquire(self, pieces: Pieces) -> weakref.ref[Pieces]:
        """Let `pieces` receive the next message. Returns the reference by which it is known to `owns()` and
        `release()`."""
        self._owner = weakref.ref(pieces, self.release)
        return self._owner

    def owns(self, reference: weakref.ref[Pieces]) -> bool:
        """Whether the iterator with this reference still receives the message."""
        return self._owner is reference

    def release(self, reference: weakref.ref[Pieces] | None = None) -> None:
        """Let other receivers have the rest of the message; no effect if `reference` is not that of the current
        iterator."""
        if reference is None or reference is self._owner:
            self._owner = None
            self._session.resume_reading()
            self._session.wake()


class Pieces(AsyncIterator[str | bytes]):
    """The iterator that `WebSocket.receive_fragments()` returns: the pieces of the next message, as they arrive.

    Only the task that iterates receives the message, until it closes or drops the iterator, ends, is cancelled while it
    waits for a piece, or receives in another way; then others receive the rest.
    """

    __slots__ = (
        "__weakref__",
        "_has_yielded",
        "_receive",
        "_reference",
        "_session",
        "_task",
        "_wait_for_end",
        "_waiting",
    )

    def __init__(
        self, session: Session, receive: FragmentedReceive, wait_for_end: Callable[[], Awaitable[ConnectionClosed]]
    ) -> None:
        """`wait_for_end()` returns the exception to raise if the connection ends before the message does."""
        self._waiting = False  # a task waits for the next piece
        self._session = session
        self._receive = receive
        self._wait_for_end = wait_for_end
        self._reference: weakref.ref[Pieces] | None = None  # as of acquire(); None before the first piece is awaited
        self._has_yielded = False
        self._task: asyncio.Task[object] | None = None

    def _is_used_elsewhere(self) -> bool:
        """Whether a task other than the current one iterates."""
        task = self._task
        return task is not None and not task.done() and task is not asyncio.current_task()

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> str | bytes:
        session, receive = self._session, self._receive
        if self._reference is None:
            while receive.is_held():
                await session.wait()
            self._reference = receive.acquire(self)
        elif not receive.owns(self._reference):  # the message is complete, or another call has received the rest
            raise StopAsyncIteration
        self._task = asyncio.current_task()
        await self._wait_for_piece(session)
        if session.waiting:
            piece = session.take()
            receive.release()
            if self._has_yielded and not piece:
                raise StopAsyncIteration
        else:
            piece = session.take_part()
            if not piece:
                receive.release()
                raise await self._wait_for_end()
        self._has_yielded = True
        return piece

    async def aclose(self) -> None:
        """Stop iterating; the next call that receives returns the rest of the message."""
        if self._reference is not None:
            self._receive.release(self._reference)

    async def _wait_for_piece(self, session: Session) -> None:
        """Wait for a part of the message, its end, or the end of the WebSocket."""
        self._waiting = True
        try:
            while not session.connection.part_size and not session.ready():
                await session.wait()
        except BaseException:
            self._task = None
            session.wake()  # other receivers may be waiting for this task
            raise
        finally:
            self._waiting = False


class _AsyncAdapter(AsyncIterator[Data]):
    """Iterates over an iterator asynchronously."""

    def __init__(self, fragments: Iterator[Data]) -> None:
        self._fragments = fragments

    async def __anext__(self) -> Data:
        try:
            return next(self._fragments)
        except StopIteration:
            raise StopAsyncIteration from None


def as_async_iterable(fragments: Fragments) -> AsyncIterable[Data]:
    """Return the fragments of a message as an asynchronous iterable. Raises TypeError if they are not iterable, or a
    mapping."""
    if isinstance(fragments, AsyncIterable):
        return fragments
    if isinstance(fragments, Iterable) and not isinstance(fragments, Mapping):
        return _AsyncAdapter(iter(fragments))
    raise TypeError(f"a message is str, bytes, or an iterable of these, not {type(fragments).__name__}")


async def send_fragments(
    session: Session, fragments: AsyncIterable[Data], text: bool | None, compress: bool | None
) -> None:
    """Send one message in fragments; see `WebSocket.send_fragmented()`, also for `text` and `compress`.

    It waits while the transport is above its high-water mark, whatever the option slow_consumer says: the rest of the
    message can wait, and half a message cannot be dropped. Raises ClientDisconnected if the session is closing,
    TypeError for fragments that are neither str nor bytes-like, or of both kinds.
    """
    await session.join()
    kind: type | None = None  # of the first fragment: str or bytes
    as_text = False
    try:
        async for piece in fragments:
            payload = encoded(piece, "a fragment")
            first = kind is None
            if first:
                kind = str if isinstance(piece, str) else bytes
                as_text = kind is str if text is None else text
            elif isinstance(piece, str) != (kind is str):
                raise TypeError("the fragments of a message must be all str, or all bytes")
            if session.send_fragment(as_text, payload, first, False, bool(compress)):
                await session.stream.drain()
        if kind is not None and session.send_fragment(as_text, b"", False, True):
            await session.drain()
    finally:
        if session.connection.fragmenting:
            session.close(CloseCode.INTERNAL_ERROR, "a message was not finished")
