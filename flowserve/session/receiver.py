# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""A session's receiving side: its queue, the tasks that wait for it, and when reading is paused.

Session, Sender, Receiver and SessionWriter are layers of one object, by inheritance: a single Cython object keeps an
idle connection small. Each begins with a method of its own: to call __init__() of a base class takes compiled code as
long as all that it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from flowserve.session.host import SessionContext
from flowserve.session.writer import SessionWriter
from flowserve.transport.bases import Stream
from flowserve.transport.waiters import add_waiter, wake
from flowserve.websocket.connection import Connection


class Receiver(SessionWriter):
    """Pauses reading while the queue is full, and wakes the waiters in `wait()`."""

    __slots__ = ("_deferred", "_loop", "_reading", "_waiter", "_waiters", "context")

    def _begin_receiver(self, connection: Connection, stream: Stream, context: SessionContext) -> None:
        self._begin_writer(connection, stream, context.flush_queue)
        self.context = context
        self._loop = context.loop
        connection.max_waiting = context.config.ws_max_queue
        connection.set_budget(context.timeslice)
        self._reading = True
        self._deferred = False  # it waits in context.timeslice to decode more
        self._waiter: asyncio.Future[None] | None = None  # in wait(); nearly always there is at most one
        self._waiters: list[asyncio.Future[None]] | None = None  # further ones

    @property
    def waiting(self) -> int:
        """Messages in the queue."""
        return self.connection.waiting

    def wait(self) -> Awaitable[None]:
        """Return an awaitable that is done when `ready()` may have become true. Output that is queued is written now,
        as the caller has finished sending."""
        if self.connection.output_size:
            self.flush()
        if not self._reading:  # only a part of a message was received, and the caller wants the rest
            self.resume_reading()
        waiter: asyncio.Future[None] = self._loop.create_future()
        if self._waiter is None or self._waiter.done():  # done: cancelled
            self._waiter = waiter
        else:
            self._waiters = add_waiter(self._waiters, waiter)
        return waiter

    @property
    def awaited(self) -> bool:
        """Whether a task is in `wait()`."""
        return self._waiter is not None and not self._waiter.done()

    def take(self) -> str | bytes:
        """Return the next message. Raises IndexError if the queue is empty."""
        connection = self.connection
        message = connection.take()
        if not self._reading and not connection.is_full(2):
            self.resume_reading()
        return message

    def pause_reading(self) -> None:
        """Stop reading until a message or a part of one is taken."""
        self._reading = False
        self.stream.pause_reading()

    def resume_reading(self) -> None:
        """Continue reading, but first decode the bytes that have been received already."""
        if not self.connection.held:
            self._reading = True
            self.stream.resume_reading()
        elif not self._deferred:
            self._deferred = True
            self.context.timeslice.defer(self)

    def on_time_slice(self) -> None:
        """Decode more of the received bytes; see `time_slice.Deferrable`."""
        raise NotImplementedError

    def wake(self) -> None:
        """Wake all waiters in `wait()`, so that they check `ready()` again."""
        waiter = self._waiter
        if waiter is None:
            return
        self._waiter = None
        if not waiter.done():
            waiter.set_result(None)
        if self._waiters is not None:
            waiters, self._waiters = self._waiters, None
            wake(waiters)
