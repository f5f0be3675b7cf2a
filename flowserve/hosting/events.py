"""The events of all WebSockets of a server, as one asynchronous stream."""

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
    """A WebSocket was opened. Use `ws` to send and to close; do not receive with it, its messages become events."""

    id: UUID
    """The WebSocket's `id`, which all its events have."""
    ws: WebSocket
    """The WebSocket."""


@sealed
@dataclass(frozen=True, slots=True)
class NewMessage:
    """A WebSocket received a message."""

    id: UUID
    """The WebSocket's `id`."""
    message: str | bytes
    """The message: str for text, bytes for binary."""


@sealed
@dataclass(frozen=True, slots=True)
class Disconnect:
    """A WebSocket is closed and its connection gone; this is its last event."""

    id: UUID
    """The WebSocket's `id`."""
    code: int
    """The peer's close code; 1005 if its close frame had none, 1006 if it sent no close frame."""
    reason: str
    """The peer's close reason; "" if there is none."""


@sealed
@dataclass(frozen=True, slots=True)
class Error:
    """A WebSocket failed: its peer violated the protocol or a limit, or the connection was lost without a close frame.
    A Disconnect follows. There is no Error if the program closed the WebSocket itself."""

    id: UUID
    """The WebSocket's `id`."""
    error: ConnectionClosedError
    """How it ended; `error.__cause__` says what the peer did wrong."""


Event = NewClient | NewMessage | Disconnect | Error


class EventStream:
    """The events of many WebSockets: `async for event in events`, in one task. Each WebSocket has one NewClient, any
    number of NewMessage, an Error if it failed, and finally a Disconnect.

    At most one event of each WebSocket is queued. Asking for the next event means that the one before has been handled;
    only then is the next message taken from that WebSocket's own queue. As that queue is bounded, a slow program slows
    its peers down (backpressure); and a peer's close frame is answered only after the messages before it were taken.
    """

    def __init__(self) -> None:
        self.connections: dict[UUID, WebSocket] = {}
        """The WebSockets by `id`, from the iteration that returned their NewClient to that of their Disconnect."""
        # An event with the future that is done when it was handled; None at the end of the stream.
        self._events: asyncio.Queue[tuple[Event, asyncio.Future[None] | None] | None] = asyncio.Queue()
        self._unhandled: set[asyncio.Future[None]] = set()
        self._current: asyncio.Future[None] | None = None  # that of the event returned last
        self._discarding = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        handled, self._current = self._current, None
        if handled is not None and not handled.done():
            handled.set_result(None)
        entry = await self._events.get()
        if entry is None:
            self._events.put_nowait(None)  # so that the next call raises too
            raise StopAsyncIteration
        event, self._current = entry
        if isinstance(event, NewClient):
            self.connections[event.id] = event.ws
        elif isinstance(event, Disconnect):
            self.connections.pop(event.id, None)
        return event

    async def _handle(self, ws: WebSocket) -> None:
        """Queue the events of a WebSocket until its end; the handler for `serve()`."""
        try:
            await self._put(NewClient(ws.id, ws))
            async for message in ws:
                await self._put(NewMessage(ws.id, message))
        except ConnectionClosedError as error:
            failed = error.__cause__ is not None or error.rcvd is None
            if failed and not isinstance(error, AlreadyClosed):  # otherwise this end closed it
                await self._put(Error(ws.id, error))
        finally:
            await self._put_disconnect(ws)

    async def _put_disconnect(self, ws: WebSocket) -> None:
        try:
            await ws.wait_closed()  # until the peer's close code is known
        finally:  # also when this is cancelled
            event = Disconnect(ws.id, ws.close_code or 1006, ws.close_reason or "")
            self._events.put_nowait((event, None))

    async def _put(self, event: Event) -> None:
        """Queue an event, and wait until it was handled."""
        if self._discarding:
            return
        handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._events.put_nowait((event, handled))
        self._unhandled.add(handled)
        try:
            await handled
        finally:
            self._unhandled.discard(handled)

    def _discard_events(self) -> None:
        """Discard events from now on, and stop waiting for those that were not handled: the program has stopped
        iterating."""
        self._discarding = True
        for handled in self._unhandled:
            if not handled.done():
                handled.set_result(None)

    def _finish(self) -> None:
        """End the stream after the events that are queued."""
        self._events.put_nowait(None)
