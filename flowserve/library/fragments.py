"""Messages in fragments: received as they arrive, and sent as they come to be (RFC 6455 section 5.4)."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from flowserve.library.data import Data, encoded
from flowserve.websocket.constants import CloseCode

if TYPE_CHECKING:
    from flowserve.library.websocket import WebSocket
    from flowserve.session.session import Session

Fragments = Iterable[Data] | AsyncIterable[Data]


class Pieces(AsyncIterator[str | bytes]):
    """What `WebSocket.receive_fragments()` gives: the next message, piece by piece as it arrives.

    The message belongs to the task that takes its pieces, until that has left it: by dropping this or closing it, by
    ending, by being cancelled while it waits for a piece, or by receiving something else.
    """

    __slots__ = ("__weakref__", "_begun", "_name", "_task", "_ws", "waiting")

    def __init__(self, ws: WebSocket) -> None:
        self.waiting = False
        """Whether the next piece will be taken as soon as it comes."""
        self._ws = ws
        self._name: weakref.ref[Pieces] | None = None  # by which the WebSocket knows this
        self._begun = False
        self._task: asyncio.Task[object] | None = None

    def held(self) -> bool:
        """Whether the message belongs to a task that is not the current one."""
        task = self._task
        return task is not None and not task.done() and task is not asyncio.current_task()

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> str | bytes:
        ws = self._ws
        if self._name is None:
            while ws._part is not None and ws._is_anothers():
                await ws.session.wait()
            self._name = ws._part = weakref.ref(self, ws._leave_part)
        elif ws._part is not self._name:  # it has come to its end, or somebody else has received the rest
            raise StopAsyncIteration
        self._task = asyncio.current_task()
        await self._wait(ws.session)
        if ws.session.waiting:
            piece = ws.session.take()
            ws._leave_part()
            if self._begun and not piece:
                raise StopAsyncIteration
        else:
            piece = ws.session.take_part()
            if not piece:
                ws._leave_part()
                raise await ws._ending()
        self._begun = True
        return piece

    async def aclose(self) -> None:
        """Leave the rest of the message to what is received next."""
        if self._name is not None:
            self._ws._leave_part(self._name)

    async def _wait(self, session: Session) -> None:
        """Wait until there is a piece, or the end."""
        self.waiting = True
        try:
            while not session.connection.part_size and not session.ready():
                await session.wait()
        except BaseException:
            self._task = None
            session.wake()  # others may be waiting for this one to leave
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
