"""An event loop in a thread of its own, for layers in processes that flowserve does not serve.

There is one in a process, started when it is first needed. A loop that calls a layer may live as short as one call of
`async_to_sync()`, so that no connection could be kept in it. The thread is a daemon, and ends with the program; after
os.fork() the child starts its own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_LONGEST_END = 3.0
"""Seconds that the end of the program waits for the thread."""


class _Thread:
    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._end: asyncio.Event
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),), name="flowserve.topics", daemon=True)
        self._thread.start()
        self._ready.wait()

    async def _run(self) -> None:
        self.loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._end.wait()

    def stop(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._end.set)
            self._thread.join(_LONGEST_END)


class _Shared:
    """The thread of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: _Thread | None = None
        self.inherited: list[_Thread] = []  # referenced, as closing a loop of the parent would change its epoll

    def forget(self) -> None:
        self.lock = threading.Lock()  # another thread may have held it
        if self.thread is not None:
            self.inherited.append(self.thread)
            self.thread = None

    def stop(self) -> None:
        if self.thread is not None:
            self.thread.stop()


_shared = _Shared()
atexit.register(_shared.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.forget)


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of this process's thread, which is started if there is none."""
    with _shared.lock:
        if _shared.thread is None:
            _shared.thread = _Thread()
        return _shared.thread.loop


async def take(
    loop: asyncio.AbstractEventLoop, get: Callable[[], Coroutine[Any, Any, T]], put_back: Callable[[T], object]
) -> T:
    """Await `get()` in the loop of another thread. What it brings when the caller is cancelled already is put back, by
    `put_back()` in that loop."""
    answer: Future[T] = Future()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        tasks.append(loop.create_task(get()))
        tasks[0].add_done_callback(done)

    def done(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            answer.cancel()
        elif not answer.set_running_or_notify_cancel():
            if task.exception() is None:
                put_back(task.result())
        elif (error := task.exception()) is not None:
            answer.set_exception(error)
        else:
            answer.set_result(task.result())

    def refuse(late: Future[T]) -> None:
        if late.exception() is None:
            loop.call_soon_threadsafe(put_back, late.result())

    loop.call_soon_threadsafe(start)
    try:
        return await asyncio.wrap_future(answer)
    except BaseException:
        if not answer.cancel() and not answer.cancelled():
            answer.add_done_callback(refuse)
        loop.call_soon_threadsafe(lambda: tasks[0].cancel())
        raise
