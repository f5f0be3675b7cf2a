# cython: language_level=3, annotation_typing=False, binding=False
"""The time that one event loop iteration has for parsing and decoding received data, shared by all connections of a
worker.

A peer can send in one read what takes many times as long to parse as to send: chunks of one byte, requests that are
answered at once, messages that inflate to a thousand times their size. Connections parse in steps, and between them
check whether the time slice is used up. If so, they defer the rest to a later iteration, so that all others run first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from time import perf_counter
from typing import Protocol

from flowserve.websocket.budget import Budget

_SECONDS = 0.002
"""Enough for 100 ordinary requests. Together with reading, applications and writing, an iteration should not exceed 10
ms."""
_BUDGET = 1 << 20
"""Units of `budget.Budget`, for WebSockets, whose decoders have no clock: some 2 to 4 ms."""


class Deferrable(Protocol):
    """What `TimeSlice.defer()` accepts."""

    def on_time_slice(self) -> None:
        """Called in a later iteration, when there is time again: do at least one step. May call `defer()` again."""


class TimeSlice(Budget):
    """Measures the time of an event loop iteration from the first `used_up()` in it, and is the Budget of the
    WebSockets."""

    __slots__ = ("_deferred", "_end", "_loop", "_scheduled", "_variables")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(_BUDGET)
        self._loop = loop
        self._end = 0.0  # 0 before the first used_up() of this iteration
        self._scheduled = False
        self._deferred: deque[Deferrable] = deque()
        self._variables = copy_context()  # instead of the context variables of the first caller

    def used_up(self) -> bool:
        """Whether the remaining work should wait for another iteration."""
        now = perf_counter()
        if not self._end:
            self._end = now + _SECONDS
            self.refill()
        return now >= self._end or self.remaining <= 0

    def defer(self, item: Deferrable) -> None:
        """Call `item.on_time_slice()` in a later iteration, after those that are deferred already."""
        self._deferred.append(item)
        self.refill()

    def refill(self) -> None:
        """Restore the whole budget in the next iteration."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run_deferred, context=self._variables)

    def _run_deferred(self) -> None:
        self._scheduled = False
        self._end = 0.0
        self.remaining = self._size
        for _ in range(len(self._deferred)):  # not those that are added meanwhile
            item = self._deferred.popleft()
            try:
                item.on_time_slice()
            except Exception as error:  # it must not affect the other items
                self._loop.call_exception_handler({"message": f"{item!r} could not go on", "exception": error})
            if self.used_up():
                break
        if self._deferred:
            self.refill()
