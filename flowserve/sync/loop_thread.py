"""The event loop in a thread of its own in which the WebSockets of all other threads live.

Rules: there is one such thread in a process, started when it is first needed; it is a daemon, and ends with the
program. What other threads ask for runs as a task in its loop, and they wait for that task. A thread that is
interrupted while it waits (Ctrl-C) cancels its task and waits until it has ended; what the task has brought all the
same is kept. After os.fork() the child has no such thread, and starts its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from flowserve.library.websocket import WebSocket
from flowserve.runtime.event_loop import event_loop
from flowserve.runtime.process_thread import LONGEST_END, ProcessThread

T = TypeVar("T")

SLICE = 0.5
"""Seconds after which a thread that waits looks for signals: one that came just before the wait does not end it, and on
Windows none does."""


class Call(Generic[T]):
    """A coroutine that runs in the loop's thread, and what another thread needs to wait for it."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]], ended: Callable[[], object]) -> None:
        """The loop's thread calls `function()`, runs the coroutine that it returns, and calls `ended()` when that is
        done."""
        self._function = function
        self._ended = ended
        self._task: asyncio.Task[T] | None = None
        self._abandoned = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called in the thread of `loop`."""
        if not self._abandoned:
            self._task = loop.create_task(self._function())
            self._task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # mark as retrieved: after a second interruption nobody asks for it
        self._ended()

    def result(self) -> T:
        """Return the result of the coroutine, or raise its exception; only when it is done."""
        assert self._task is not None
        return self._task.result()

    def abandon(self, keep: Callable[[T], object] | None, ended: Callable[[], object]) -> None:
        """Called in the loop's thread: cancel the coroutine, and call `ended()` when it is done, after `keep(result)`
        if it has a result all the same."""

        def end(task: asyncio.Task[T]) -> None:
            if keep is not None and not task.cancelled() and task.exception() is None:
                keep(task.result())
            ended()

        self._abandoned = True
        if self._task is None:
            ended()
        else:
            self._task.cancel()
            self._task.add_done_callback(end)


class LoopThread:
    """A thread that runs an event loop until the program ends."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._open: weakref.WeakSet[WebSocket] = weakref.WeakSet()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="flowserve.sync", daemon=True)
        self._thread.start()
        ready.wait()

    def _run(self, ready: threading.Event) -> None:
        with event_loop("auto") as self.loop:
            self.loop.call_soon(ready.set)
            self.loop.run_forever()
            for ws in list(self._open):
                ws.abort()

    def add(self, ws: WebSocket) -> None:
        """Abort `ws` if it is still open when the program ends."""
        self._open.add(ws)

    def run(self, function: Callable[[], Coroutine[Any, Any, T]], keep: Callable[[T], object] | None = None) -> T:
        """Run the coroutine that `function()` returns in the loop, wait for it, and return its result. If the wait is
        interrupted, the coroutine is cancelled; a result that it has all the same is passed to `keep()`.

        Raises RuntimeError in the thread of the loop itself, and in a process forked later.
        """
        done = _acquired()
        with self.calling(function, done.release, keep) as call:
            _wait(done)
        return call.result()

    @contextmanager
    def calling(
        self,
        function: Callable[[], Coroutine[Any, Any, T]],
        ended: Callable[[], object],
        keep: Callable[[T], object] | None = None,
    ) -> Iterator[Call[T]]:
        """Like `run()`, for a body that waits until `ended()` was called in the loop's thread."""
        problem = self._problem()
        if problem is not None:
            raise RuntimeError(problem)
        call = Call(function, ended)
        try:
            self.loop.call_soon_threadsafe(call.start, self.loop)
            yield call
        except BaseException:
            done = _acquired()
            self.loop.call_soon_threadsafe(call.abandon, keep, done.release)
            _wait(done)
            raise

    def stop(self) -> None:
        """End the loop and its thread."""
        if self._problem() is None:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(LONGEST_END)

    def _problem(self) -> str | None:
        """Return what keeps the current thread from using the loop, None if nothing does."""
        if os.getpid() != self._process:
            return "this WebSocket belongs to the process that was forked; open another one in this process"
        if threading.current_thread() is self._thread:
            return "a callback can't use flowserve.sync: it would wait for itself"
        return "the program is ending" if self.loop.is_closed() else None


def _acquired() -> threading.Lock:
    """A lock to wait for. An Event has more steps, between which a signal's exception could leave it broken."""
    lock = threading.Lock()
    lock.acquire()
    return lock


def _wait(lock: threading.Lock) -> None:
    while not lock.acquire(timeout=SLICE):
        pass


_thread = ProcessThread(LoopThread)


def loop_thread() -> LoopThread:
    """Return the thread of this process, and start it if there is none."""
    return _thread.get()
