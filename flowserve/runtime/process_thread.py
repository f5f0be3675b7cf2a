"""A thread of which a process has one at most."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

LONGEST_END = 3.0
"""Seconds that the end of the program waits for such a thread."""


class Stoppable(Protocol):
    """What runs in a thread of its own."""

    def stop(self) -> None:
        """End it, in at most LONGEST_END seconds."""


T = TypeVar("T", bound=Stoppable)


class ProcessThread(Generic[T]):
    """Starts the thread when it is first needed, stops it at the end of the program, and starts another one in a child
    of os.fork(), which has none of its parent's threads."""

    def __init__(self, start: Callable[[], T]) -> None:
        """`start()` starts the thread, and returns what runs in it."""
        self._start = start
        self._lock = threading.Lock()
        self._running: T | None = None
        self._inherited: list[T] = []
        """Those of the processes that this one was forked from. They are referenced, as closing such an event loop
        would change the parent's, with which it shares the descriptor of epoll."""
        atexit.register(self._stop)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def get(self) -> T:
        """Return what runs in the thread of this process, which is started if there is none."""
        with self._lock:
            if self._running is None:
                self._running = self._start()
            return self._running

    def _forget(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it
        if self._running is not None:
            self._inherited.append(self._running)
            self._running = None

    def _stop(self) -> None:
        if self._running is not None:
            self._running.stop()
