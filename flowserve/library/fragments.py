"""Messages in fragments: received as they arrive, and sent as they come to be (RFC 6455 section 5.4)."""

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
    """Which task receives the next message of a session in fragments. Other receivers wait until it has left.

    A task leaves by taking the last piece, by closing or dropping its Pieces, or by ending.
    """

    __slots__ = ("_name", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._name: weakref.ref[Pieces] | None = None  # None while no message is received in fragments

    @property
    def pieces(self) -> Pieces | None:
        """The iterator that the message belongs to."""
        return None if self._name is None else self._name()

    def is_held(self) -> bool:
        """Return whether the message belongs to another task than the current one. If it belongs to none any more, or
        to the current one, which receives something else now, the rest of the message is free."""
        if self._name is None:
            return False
        pieces = self._name()
        if pieces is not None and pieces.held():
            return True
        self.leave()
        return False

    def enter(self, pieces: Pieces) -> weakref.ref[Pieces]:
        """Give the next message to `pieces`. Returns the name to leave by."""
        self._name = weakref.ref(pieces, self.leave)
        return self._name

    def holds(self, name: weakref.ref[Pieces]) -> bool:
        """Return whether the message still belongs to the one that has entered by this name."""
        return self._name is name

    def leave(self, name: weakref.ref[Pieces] | None = None) -> None:
        """Let anybody receive, unless the message belongs to another than `name` by now."""
        if name is None or name is self._name:
            self._name = None
            self._session.resume_reading()
            self._session.wake()


class Pieces(AsyncIterator[str | bytes]):
    """What `WebSocket.receive_fragments()` returns: an iterator over the pieces of the next message, as they arrive.

    The message belongs to the task that iterates, until that task closes or drops the iterator, ends, is cancelled
    while it waits for a piece, or receives something else.
    """

    __slots__ = ("__weakref__", "_begun", "_ending", "_name", "_receive", "_session", "_task", "waiting")

    def __init__(
        self, session: Session, receive: FragmentedReceive, ending: Callable[[], Awaitable[ConnectionClosed]]
    ) -> None:
        """`ending()` gives the exception for a connection that ends before the message does."""
        self.waiting = False
        """Whether a task waits for the next piece."""
        self._session = session
        self._receive = receive
        self._ending = ending
        self._name: weakref.ref[Pieces] | None = None  # None before the first piece is asked for
        self._begun = False  # at least one piece was given
        self._task: asyncio.Task[object] | None = None

    def held(self) -> bool:
        """Return whether the message belongs to a task other than the current one."""
        task = self._task
        return task is not None and not task.done() and task is not asyncio.current_task()

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> str | bytes:
        session, receive = self._session, self._receive
        if self._name is None:
            while receive.is_held():
                await session.wait()
            self._name = receive.enter(self)
        elif not receive.holds(self._name):  # the message is complete, or its rest was received by other means
            raise StopAsyncIteration
        self._task = asyncio.current_task()
        await self._wait(session)
        if session.waiting:
            piece = session.take()
            receive.leave()
            if self._begun and not piece:
                raise StopAsyncIteration
        else:
            piece = session.take_part()
            if not piece:
                receive.leave()
                raise await self._ending()
        self._begun = True
        return piece

    async def aclose(self) -> None:
        """Leave the rest of the message to the next receiver."""
        if self._name is not None:
            self._receive.leave(self._name)

    async def _wait(self, session: Session) -> None:
        """Wait until there is a piece, or the end."""
        self.waiting = True
        try:
            while not session.connection.part_size and not session.ready():
                await session.wait()
        except BaseException:
            self._task = None
            session.wake()  # other receivers may be waiting for this one
            raise
        finally:
            self.waiting = False


class _Each(AsyncIterator[Data]):
    """An iterable as an asynchronous one."""

    def __init__(self, fragments: Iterator[Data]) -> None:
        self._fragments = fragments

    async def __anext__(self) -> Data:
        try:
            return next(self._fragments)
        except StopIteration:
            raise StopAsyncIteration from None


def each(fragments: Fragments) -> AsyncIterable[Data]:
    """Return what gives the fragments one by one. Raises TypeError for what is no iterable of messages."""
    if isinstance(fragments, AsyncIterable):
        return fragments
    if isinstance(fragments, Iterable) and not isinstance(fragments, Mapping):
        return _Each(iter(fragments))
    raise TypeError(f"a message is str, bytes, or an iterable of these, not {type(fragments).__name__}")


async def send_fragments(
    session: Session, fragments: AsyncIterable[Data], text: bool | None, compress: bool | None
) -> None:
    """Send one message in fragments; see `WebSocket.send_fragmented`. Raises ClientDisconnected when it can't be sent.

    It waits for a slow peer whatever the policy: what is to come can wait, and half a message can't be dropped.
    """
    await session.join()
    kind: type | None = None  # of the first piece
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
