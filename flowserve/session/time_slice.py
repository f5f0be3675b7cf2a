# cython: language_level=3, annotation_typing=False, binding=False
"""The time that one turn of the event loop has for parsing and decoding what came in, shared by all connections of a
worker.

A peer can send in one read what takes many times as long to parse as to send: chunks of one byte, requests that are
answered on the spot, messages that inflate to a thousand times their size. Whoever parses in steps asks between them
whether the time of this turn is used up, and if so leaves the rest for another one; so all others get their turn first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from time import perf_counter
from typing import Protocol

from flowserve.websocket.budget import Budget

_SECONDS = 0.002
"""Enough for 100 ordinary requests. Reading, applications and writing come to it, and 10 ms should be the most."""
_BUDGET = 1 << 20
"""Of WebSockets, whose decoders have no clock: some 2 to 4 ms."""


class Deferrable(Protocol):
    """What can stand in the queue of a `TimeSlice`."""

    def next_turn(self) -> None:
        """There is time again: do at least one step. May defer itself anew."""


class TimeSlice(Budget):
    """Measures the time of a turn from the first time that somebody asks in it; and is the budget of the WebSockets."""

    __slots__ = ("_end", "_loop", "_scheduled", "_variables", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(_BUDGET)
        self._loop = loop
        self._end = 0.0  # 0 while nobody has asked in this turn
        self._scheduled = False
        self._waiting: deque[Deferrable] = deque()
        self._variables = copy_context()  # not those of whoever asks

    def used_up(self) -> bool:
        """Whether what is left should wait for another turn."""
        now = perf_counter()
        if not self._end:
            self._end = now + _SECONDS
            self.refill()
        return now >= self._end or self.remaining <= 0

    def defer(self, item: Deferrable) -> None:
        """Have `item.next_turn()` called in another turn, behind those that wait already."""
        self._waiting.append(item)
        self.refill()

    def refill(self) -> None:
        """Have all of it back in the next turn."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._next_turn, context=self._variables)

    def _next_turn(self) -> None:
        self._scheduled = False
        self._end = 0.0
        self.remaining = self._size
        for _ in range(len(self._waiting)):  # those that are added meanwhile have had their turn
            item = self._waiting.popleft()
            try:
                item.next_turn()
            except Exception as error:  # the others have nothing to do with it
                self._loop.call_exception_handler({"message": f"{item!r} could not go on", "exception": error})
            if self.used_up():
                break
        if self._waiting:
            self.refill()
