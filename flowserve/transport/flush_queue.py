# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Writing at the end of a turn of the event loop, for all who have something to write.

So what one connection has to say in a turn is one write; and a peer that waits is not woken, and done with it, before
the next one is written to.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context


class Flushable:
    """What an Outbox flushes. `_listed` says that it stands there."""

    __slots__ = ("_listed",)

    _listed: bool

    def flush(self) -> None:
        """Write what there is to write."""


class FlushQueue:
    """Those of a worker that have something to write: one callback a turn of the event loop for all of them."""

    __slots__ = ("_all", "_loop", "_variables")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._all: list[Flushable] = []
        self._variables = copy_context()  # not those of whoever writes first

    def add(self, flushable: Flushable) -> None:
        """Have `flushable.flush()` called at the end of this turn, unless that is so already."""
        if flushable._listed:
            return
        flushable._listed = True
        if not self._all:
            self._loop.call_soon(self.flush, context=self._variables)
        self._all.append(flushable)

    def flush(self) -> None:
        """Write what they have."""
        listed = self._all
        self._all = []
        for flushable in listed:
            flushable._listed = False
            try:
                flushable.flush()
            except Exception as error:  # the others have nothing to do with it
                self._loop.call_exception_handler({"message": f"{flushable!r} could not write", "exception": error})
