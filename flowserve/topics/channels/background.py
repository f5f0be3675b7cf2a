"""An event loop in a thread of its own, for layers in processes that flowserve does not serve.

There is one in a process. A loop that calls a layer may live as short as one call of `async_to_sync()`, so that no
connection could be kept in it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from flowserve.runtime.process_thread import LONGEST_END, ProcessThread

T = TypeVar("T")


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
            self._thread.join(LONGEST_END)


_thread = ProcessThread(_Thread)


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of this process's thread, which is started if there is none."""
    return _thread.get().loop


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
