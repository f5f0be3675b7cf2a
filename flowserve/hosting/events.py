"""What happens to the WebSockets of a server, as one stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from flowserve.config.sealed import sealed
from flowserve.errors import AlreadyClosed, ConnectionClosedError
from flowserve.library.websocket import WebSocket


@sealed
@dataclass(frozen=True, slots=True)
class NewClient:
    """A WebSocket is open; send and close with `ws`, its messages come as events."""

    id: UUID
    ws: WebSocket


@sealed
@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message has come: str for text, bytes for binary."""

    id: UUID
    message: str | bytes


@sealed
@dataclass(frozen=True, slots=True)
class Disconnect:
    """A WebSocket has ended, and nothing more comes of it. `code` and `reason` are the peer's: 1005 if it gave no code,
    1006 if it sent no close frame."""

    id: UUID
    code: int
    reason: str


@sealed
@dataclass(frozen=True, slots=True)
class Error:
    """A WebSocket ends as it should not: its peer broke the protocol or a limit (`error.__cause__` says how), or went
    without a close frame. Disconnect follows."""

    id: UUID
    error: ConnectionClosedError


Event = NewClient | NewMessage | Disconnect | Error


class EventStream:
    """`async for event in events`, in one task: of each WebSocket a NewClient, any number of NewMessage, an Error if
    its end is none in order, and at last a Disconnect.

    Of each WebSocket one event waits at most. Asking for the next event says that the one before has been dealt with:
    only then is more of that WebSocket's taken from its own queue, which is bounded, so that a slow program makes its
    peers wait; and its end is not answered before what it sent.

    `connections` has the WebSockets of which a NewClient has been taken, but no Disconnect.
    """

    def __init__(self) -> None:
        self.connections: dict[UUID, WebSocket] = {}
        self._events: asyncio.Queue[tuple[Event, asyncio.Future[None] | None] | None] = asyncio.Queue()
        self._waiting: set[asyncio.Future[None]] = set()  # for an event to be dealt with
        self._taken: asyncio.Future[None] | None = None  # of these the last event's
        self._leaving = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        taken, self._taken = self._taken, None
        if taken is not None and not taken.done():
            taken.set_result(None)
        found = await self._events.get()
        if found is None:
            self._events.put_nowait(None)  # for whoever asks again
            raise StopAsyncIteration
        event, self._taken = found
        if isinstance(event, NewClient):
            self.connections[event.id] = event.ws
        elif isinstance(event, Disconnect):
            self.connections.pop(event.id, None)
        return event

    async def handle(self, ws: WebSocket) -> None:
        """Make events of a WebSocket, until its end."""
        try:
            await self._tell(NewClient(ws.id, ws))
            async for message in ws:
                await self._tell(NewMessage(ws.id, message))
        except ConnectionClosedError as error:
            failed = error.__cause__ is not None or error.rcvd is None
            if failed and not isinstance(error, AlreadyClosed):  # else it was this end's wish
                await self._tell(Error(ws.id, error))
        finally:
            await self._say_goodbye(ws)

    async def _say_goodbye(self, ws: WebSocket) -> None:
        try:
            await ws.wait_closed()  # then it is known what the peer said
        finally:  # also when this is cancelled
            end = Disconnect(ws.id, ws.close_code or 1006, ws.close_reason or "")
            self._events.put_nowait((end, None))

    async def _tell(self, event: Event) -> None:
        if self._leaving:
            return
        dealt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._events.put_nowait((event, dealt))
        self._waiting.add(dealt)
        try:
            await dealt
        finally:
            self._waiting.discard(dealt)

    def leave(self) -> None:
        """Nobody asks for events any more: nobody is to wait for that."""
        self._leaving = True
        for dealt in self._waiting:
            if not dealt.done():
                dealt.set_result(None)

    def finish(self) -> None:
        """There will be no more WebSockets: the stream ends behind the events that wait."""
        self._events.put_nowait(None)
