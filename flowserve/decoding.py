# cython: language_level=3, annotation_typing=False, binding=False
"""Decoding in parts, for bytes that would hold up the event loop: the rest of them waits for the next iteration."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from typing import Protocol

from flowserve.websocket.budget import Budget

_ITERATION = 1 << 20  # units in one iteration of the event loop: some 2 to 4 ms


class Decoding(Protocol):
    """What a DecodingQueue holds: a `session.Session` is one."""

    def decode_on(self) -> None:
        """Decode more of what has come."""


class DecodingQueue(Budget):
    """The budget of all connections of an event loop, and the sessions whose bytes were too many for it: they take
    turns."""

    __slots__ = ("_loop", "_scheduled", "_variables", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(_ITERATION)
        self._loop = loop
        self._scheduled = False
        self._waiting: deque[Decoding] = deque()
        self._variables = copy_context()  # not those of whichever application asks for messages

    def add(self, session: Decoding) -> None:
        """Have `session.decode_on()` called in one of the next iterations."""
        self._waiting.append(session)
        self.refill()

    def refill(self) -> None:
        """Have all of it back in the next iteration."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._go_on, context=self._variables)

    def _go_on(self) -> None:
        self._scheduled = False
        self.left = self._size
        try:
            for _ in range(len(self._waiting)):
                if self.left <= 0:
                    break
                self._waiting.popleft().decode_on()
        finally:
            if self._waiting:
                self.refill()
