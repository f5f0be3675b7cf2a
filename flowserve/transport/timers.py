# cython: language_level=3, annotation_typing=False, binding=False
"""The deadlines of all connections of a worker, over one timer of the event loop."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from heapq import heapify, heappop, heappush

_RESOLUTION = 0.05
"""Seconds per tick; all deadlines within a tick share a bucket and are checked together."""
_SLACK = 64
"""Ticks that the heap may hold in addition to two per bucket."""


class Timed:
    """Base class of what has a deadline. Subclasses set both attributes to 0 at first."""

    __slots__ = ("deadline", "tick")

    deadline: float
    """When `on_deadline()` is due, in the event loop's time. The owner may increase it directly; all other changes need
    `Timers.set()`."""
    tick: int
    """The bucket that holds the item; 0 for none. Only Timers writes it."""

    def on_deadline(self, now: float) -> None:
        """Called once the deadline has passed, when no bucket holds the item; it may set a new deadline. `now` is the
        event loop's time."""


class Timers:
    """The deadlines of many items over one timer of the event loop.

    Setting a deadline costs at most a set operation, and nothing if it only moves later, which is nearly always the
    case: the item stays in its bucket, and moves to the right one when that comes up.

    Cancelled items leave no garbage: an empty bucket is deleted when the next one becomes empty, and its tick leaves
    the heap in its order or when the heap has more than twice as many ticks as there are buckets.
    """

    __slots__ = ("_armed_tick", "_buckets", "_empty_tick", "_handle", "_last_tick", "_loop", "_ticks", "_variables")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, set[Timed]] = {}
        self._ticks: list[int] = []  # a heap of all buckets' ticks, with some duplicates and some of deleted buckets
        self._empty_tick = 0  # bucket that became empty last; it is kept, as items often cancel and set alternately
        self._last_tick = 0  # the last tick that was processed; its bucket accepts no items any more
        self._armed_tick = 0  # the tick that the handle waits for
        self._handle: asyncio.TimerHandle | None = None
        self._variables = copy_context()  # instead of the context variables of the callers of set()

    def set(self, item: Timed, deadline: float) -> None:
        """Call `item.on_deadline(now)` at `deadline` (the event loop's time), or up to a tick later."""
        item.deadline = deadline
        tick = int(deadline / _RESOLUTION) + 1
        if tick <= self._last_tick:
            tick = self._last_tick + 1
        current = item.tick
        if current:
            if current <= tick:
                return
            self._remove(item, current)
        item.tick = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = bucket = set()
            heappush(self._ticks, tick)
            if self._handle is None or tick < self._armed_tick:
                self._arm()
        bucket.add(item)

    def cancel(self, item: Timed) -> None:
        """Cancel the deadline of `item`, if it has one."""
        current = item.tick
        if current:
            self._remove(item, current)
            item.tick = 0

    def _remove(self, item: Timed, tick: int) -> None:
        bucket = self._buckets[tick]
        bucket.discard(item)
        if not bucket and tick != self._empty_tick:
            self._delete_if_empty(self._empty_tick)
            self._empty_tick = tick

    def _delete_if_empty(self, tick: int) -> None:
        """Delete the bucket of a tick if it is still empty."""
        bucket = self._buckets.get(tick)
        if bucket is None or bucket:
            return
        del self._buckets[tick]
        if len(self._ticks) > 2 * len(self._buckets) + _SLACK:
            self._ticks = list(self._buckets)
            heapify(self._ticks)

    def close(self) -> None:
        """Cancel all deadlines."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        for bucket in self._buckets.values():
            for item in bucket:
                item.tick = 0
        self._buckets.clear()
        self._ticks.clear()

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_tick = self._ticks[0]
        self._handle = self._loop.call_at(self._armed_tick * _RESOLUTION, self._fire, context=self._variables)

    def _call_item(self, item: Timed, now: float) -> None:
        try:
            item.on_deadline(now)
        except Exception as error:  # one item's error must not stop the deadlines of all others
            message = f"Exception in on_deadline() of {item!r}"
            self._loop.call_exception_handler({"message": message, "exception": error})

    def _fire(self) -> None:
        self._handle = None
        now = self._loop.time() + _RESOLUTION / 2  # event loops may be early by the resolution of their clock
        while self._ticks and self._ticks[0] * _RESOLUTION <= now:
            self._last_tick = heappop(self._ticks)
            bucket = self._buckets.get(self._last_tick) or set()
            while bucket:  # on_deadline() may cancel other items
                item = bucket.pop()
                item.tick = 0
                if item.deadline > now:
                    self.set(item, item.deadline)
                else:
                    self._call_item(item, now)
            self._buckets.pop(self._last_tick, None)
        if self._ticks and self._handle is None:
            self._arm()
