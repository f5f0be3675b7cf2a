# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Writing once per event loop iteration, for all connections of a worker.

Everything a connection queues in one loop iteration leaves as one write, and all connections are flushed back to back
before any woken peer runs.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context

from flowserve.transport.timers import Timed


class Flushable(Timed):
    """Base class of what a FlushQueue flushes, all of which has deadlines too, as a compiled class has one base.
    Subclasses set `_flush_pending` to False at first."""

    __slots__ = ("_flush_pending",)

    _flush_pending: bool
    """It is in the queue. Only FlushQueue writes it later."""

    def flush(self) -> None:
        """Write all queued output."""


class FlushQueue:
    """The connections of a worker with output to write, flushed by one callback per event loop iteration."""

    __slots__ = ("_loop", "_pending", "_variables")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: list[Flushable] = []
        self._variables = copy_context()  # instead of the context variables of the first caller of add()

    def add(self, flushable: Flushable) -> None:
        """Schedule `flushable.flush()` for the end of this event loop iteration, unless it is scheduled already."""
        if flushable._flush_pending:
            return
        flushable._flush_pending = True
        if not self._pending:
            self._loop.call_soon(self.flush, context=self._variables)
        self._pending.append(flushable)

    def flush(self) -> None:
        """Flush everything in the queue."""
        pending = self._pending
        self._pending = []
        for flushable in pending:
            flushable._flush_pending = False
            try:
                flushable.flush()
            except Exception as error:  # it must not affect the other connections
                self._loop.call_exception_handler({"message": f"{flushable!r} could not write", "exception": error})
