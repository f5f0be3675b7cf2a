# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""A session's receiving side: its queue, whoever waits for it, and when reading stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from flowserve.session.writer import SessionWriter
from flowserve.transport.waiters import add_waiter, wake
from flowserve.websocket.connection import Connection

if TYPE_CHECKING:
    from flowserve.session.host import SessionContext
    from flowserve.transport.interfaces import Stream


class Receiver(SessionWriter):
    """Reading stops while the queue is full; whoever is in `wait()` is woken when something has come."""

    __slots__ = ("_loop", "_queued", "_reading", "_waiter", "_waiters", "context")

    def __init__(self, connection: Connection, stream: Stream, context: SessionContext) -> None:
        super().__init__(connection, stream, context.flush_queue)
        self.context = context
        self._loop = context.loop
        connection.max_waiting = context.config.ws_max_queue
        connection.set_budget(context.timeslice)
        self._reading = True
        self._queued = False  # in context.timeslice
        self._waiter: asyncio.Future[None] | None = None  # in wait(): nearly always one at most
        self._waiters: list[asyncio.Future[None]] | None = None  # the others

    @property
    def waiting(self) -> int:
        """Messages that have come and wait to be taken."""
        return self.connection.waiting

    def wait(self) -> Awaitable[None]:
        """Return an awaitable that is done when `ready()` may have become true. Whoever waits has sent what it had to
        send: it leaves now."""
        if self.connection.output_size:
            self.flush()
        if not self._reading:  # only a part of a message has come, and now the rest is wanted
            self.resume_reading()
        waiter: asyncio.Future[None] = self._loop.create_future()
        if self._waiter is None or self._waiter.done():  # done: cancelled
            self._waiter = waiter
        else:
            self._waiters = add_waiter(self._waiters, waiter)
        return waiter

    @property
    def awaited(self) -> bool:
        """Whether somebody is in `wait()`."""
        return self._waiter is not None and not self._waiter.done()

    def take(self) -> str | bytes:
        """Return the next message. IndexError when none is waiting."""
        connection = self.connection
        message = connection.take()
        if not self._reading and not connection.is_full(2):
            self.resume_reading()
        return message

    def pause_reading(self) -> None:
        """Stop the peer's bytes from coming in, until a message or a part of one is taken."""
        self._reading = False
        self.stream.pause_reading()

    def resume_reading(self) -> None:
        """Let them come again, behind those that have come but are not decoded yet."""
        if not self.connection.held:
            self._reading = True
            self.stream.resume_reading()
        elif not self._queued:
            self._queued = True
            self.context.timeslice.defer(self)

    def next_turn(self) -> None:
        """Decode more of what has come."""
        raise NotImplementedError

    def wake(self) -> None:
        """Have whoever is in `wait()` look again."""
        waiter = self._waiter
        if waiter is None:
            return
        self._waiter = None
        if not waiter.done():
            waiter.set_result(None)
        if self._waiters is not None:
            waiters, self._waiters = self._waiters, None
            wake(waiters)
