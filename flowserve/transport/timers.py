# cython: language_level=3, annotation_typing=False, binding=False
"""One timer for all connections of a worker: they stand in order of their next deadline."""

from __future__ import annotations

import asyncio
import heapq
from contextvars import copy_context
from typing import Protocol

_RESOLUTION = 0.05
"""Seconds; deadlines within one tick are looked at together."""
_SLACK = 64
"""Ticks beside twice those in use that the heap may hold."""


class Timed(Protocol):
    """What can stand in `Timers`."""

    deadline: float
    """When `on_deadline()` is due, in the event loop's time. May be moved later at will; `Timers.set()` moves it
    anywhere."""
    tick: int
    """Where it stands; 0 for nowhere. Only Timers writes it."""

    def on_deadline(self, now: float) -> None:
        """The deadline has come. It stands nowhere now; it may set another."""


class Timers:
    """Deadlines of many connections over one timer of the event loop.

    Setting one costs a set operation at most, and nothing when it only moves later, which is what they nearly always
    do: the connection is looked at when its old place comes up, and then put where its deadline is now.

    What is cancelled leaves nothing behind: a bucket that becomes empty goes when the next one does, and its tick, if
    it does not come first, when the heap has twice as many as there are buckets.
    """

    __slots__ = ("_armed", "_buckets", "_fired", "_handle", "_loop", "_ticks", "_vacant", "_variables")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, set[Timed]] = {}
        self._ticks: list[int] = []  # a heap: those of the buckets, some twice, and some of buckets that have gone
        self._vacant = 0  # whose bucket became empty last: it stays, as a connection often cancels and sets in turn
        self._fired = 0  # the last tick that was looked at: nothing is put there any more
        self._armed = 0  # the tick that the handle waits for
        self._handle: asyncio.TimerHandle | None = None
        self._variables = copy_context()  # not those of whoever sets a deadline

    def set(self, item: Timed, deadline: float) -> None:
        """Have `item.on_deadline(now)` called at `deadline` (the event loop's time), or up to a tick later."""
        item.deadline = deadline
        tick = int(deadline / _RESOLUTION) + 1
        if tick <= self._fired:
            tick = self._fired + 1
        stands = item.tick
        if stands:
            if stands <= tick:
                return
            self._leave(item, stands)
        item.tick = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = bucket = set()
            heapq.heappush(self._ticks, tick)
            if self._handle is None or tick < self._armed:
                self._arm()
        bucket.add(item)

    def cancel(self, item: Timed) -> None:
        """Forget `item`."""
        stands = item.tick
        if stands:
            self._leave(item, stands)
            item.tick = 0

    def _leave(self, item: Timed, tick: int) -> None:
        bucket = self._buckets[tick]
        bucket.discard(item)
        if not bucket and tick != self._vacant:
            self._clear_away(self._vacant)
            self._vacant = tick

    def _clear_away(self, tick: int) -> None:
        """Forget the bucket of a tick, if it is empty still."""
        bucket = self._buckets.get(tick)
        if bucket is None or bucket:
            return
        del self._buckets[tick]
        if len(self._ticks) > 2 * len(self._buckets) + _SLACK:
            self._ticks = list(self._buckets)
            heapq.heapify(self._ticks)

    def close(self) -> None:
        """Forget everything."""
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
        self._armed = self._ticks[0]
        self._handle = self._loop.call_at(self._armed * _RESOLUTION, self._fire, context=self._variables)

    def _call(self, item: Timed, now: float) -> None:
        try:
            item.on_deadline(now)
        except Exception as error:  # one connection's fault must not stop the deadlines of all others
            message = f"Exception in on_deadline() of {item!r}"
            self._loop.call_exception_handler({"message": message, "exception": error})

    def _fire(self) -> None:
        self._handle = None
        now = self._loop.time() + _RESOLUTION / 2  # event loops may be early by their clock's resolution
        while self._ticks and self._ticks[0] * _RESOLUTION <= now:
            self._fired = heapq.heappop(self._ticks)
            bucket = self._buckets.get(self._fired) or set()
            while bucket:  # a deadline that is looked at may cancel another one
                item = bucket.pop()
                item.tick = 0
                if item.deadline > now:
                    self.set(item, item.deadline)
                else:
                    self._call(item, now)
            self._buckets.pop(self._fired, None)
        if self._ticks and self._handle is None:
            self._arm()
