# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"
"""The sockets of a worker in one set that the kernel watches (epoll(7) of Linux), which an event loop watches in turn.

An event loop of Python calls a callback with objects of its own for each socket that is ready. Here one callback asks
for all of them, and calls what reads and writes them directly.
"""

from __future__ import annotations

import asyncio
import sys
from contextvars import Context as Variables

AVAILABLE = sys.platform == "linux" and not __file__.endswith(".py")
"""Whether there are Pollers: plain Python is faster with the event loop's own transports."""


class Watched:
    """Base class of what a Poller watches. Subclasses set `_descriptor`, and `_reads` and `_writes` to False at
    first."""

    __slots__ = ("_descriptor", "_reads", "_writes")

    _descriptor: int
    """Of the socket, which must not be closed while it is watched."""
    _reads: bool
    """It is watched for what can be read. Only the Poller writes it later."""
    _writes: bool
    """It is watched for room to write. Only the Poller writes it later."""

    def on_ready(self, readable: bool, writable: bool) -> None:
        """Called when the socket can be read or written, and for either if the connection has failed, as reading and
        writing tell how. What it raises ends the event loop."""


class Poller:
    """Watches sockets in one event loop. `variables` are the context variables in which all is called."""

    __slots__ = ("_count", "_epoll", "_watched", "loop", "variables")

    def __init__(self, loop: asyncio.AbstractEventLoop, variables: Variables) -> None:
        """Raises OSError without a free descriptor."""
        self._epoll = -1
        self.loop = loop
        self.variables = variables
        self._watched: list[Watched | None] = []  # by descriptor
        self._count = 0  # of those that are not None
        self._epoll = create_epoll()

    def __del__(self) -> None:
        if self._epoll >= 0:
            close_descriptor(self._epoll)

    def watch(self, watched: Watched, reads: bool, writes: bool) -> None:
        """Call `watched.on_ready()` whenever its socket can be read if `reads`, or written if `writes`."""
        before = watched._reads or watched._writes
        if reads == watched._reads and writes == watched._writes:
            return
        watched._reads, watched._writes = reads, writes
        if not before:
            self._add(watched)
        elif not (reads or writes):
            self._remove(watched)
        watch(self._epoll, watched._descriptor, before, reads, writes)

    def _add(self, watched: Watched) -> None:
        while len(self._watched) <= watched._descriptor:
            self._watched.append(None)
        self._watched[watched._descriptor] = watched
        self._count += 1
        if self._count == 1:
            self.variables.copy().run(self.loop.add_reader, self._epoll, self._poll)

    def _remove(self, watched: Watched) -> None:
        self._watched[watched._descriptor] = None
        self._count -= 1
        if self._count == 0 and not self.loop.is_closed():
            self.loop.remove_reader(self._epoll)

    def _poll(self) -> None:
        count = wait(self._epoll, events)
        for index in range(count):
            watched = self._watched[descriptor_of(events, index)]
            if watched is not None:  # as one before it has closed it
                watched.on_ready(is_readable(events, index), is_writable(events, index))
