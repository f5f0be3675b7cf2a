"""Which hub the calling code uses: that of the server that has called it, or one of its own event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Coroutine
from concurrent.futures import Future
from contextvars import ContextVar
from functools import cache
from threading import get_ident
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.metrics import Snapshot
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.hub import Hub
from flowserve.topics.hub.open import open_hub
from flowserve.topics.settings import Settings

T = TypeVar("T")

_LASTING_TIME = 2.0
"""Seconds that `HubSource.close()` waits for lasting work."""
_ENDED = "the server that has called this code has ended"

_forks = 0
"""How often the process that this one was forked from, and so on, was forked: to ask for its id takes a system call."""


def _on_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_on_fork)


class HubSource:
    """Makes the hub of one event loop when it is first used."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], Hub], url: str | None = None) -> None:
        """`url` is that of the backplane."""
        self.loop = loop
        self.url = url
        self._forks = _forks
        self._draining = False
        self._queues: WeakSet[QueueSubscriber] = WeakSet()
        self._make = make
        self._hub: Hub | None = None
        self._lasting: set[asyncio.Task[Any]] = set()
        self._calls: set[Future[Any]] = set()  # those of other threads
        self._closed = False

    @property
    def runs(self) -> bool:
        """Whether it can be used: it is not closed, nor that of the process that this one was forked from."""
        return not self._closed and not self.loop.is_closed() and self._forks == _forks

    def check(self) -> None:
        """Raise TopicsError unless it `runs`."""
        if not self._closed and self._forks == _forks and not self.loop.is_closed():
            return  # `runs`, without another call: this is asked for each message
        if self._forks != _forks:
            raise TopicsError("this process was forked from that of a server, and is not served: use topics.connect()")
        raise TopicsError(_ENDED)

    @property
    def hub(self) -> Hub:
        """The hub. Use it in the thread of `loop`."""
        if self._hub is None:
            self._hub = self._make()
        return self._hub

    def announce(self) -> None:
        """Be found by code in the same event loop that no server has called, such as the program around it, until
        `close()`."""
        _servers.append(self)

    def close_on_drain(self, queue: QueueSubscriber) -> None:
        """Have a queue closed by `drain()`."""
        if self._draining:
            queue.close()
        self._queues.add(queue)

    def drain(self) -> None:
        """Close the queues whose streams would keep the server from ending; their clients come back elsewhere."""
        self._draining = True
        for queue in list(self._queues):
            queue.close()

    def snapshot(self) -> Snapshot:
        """Return what the hub has counted; nothing before it is first used."""
        return {} if self._hub is None else self._hub.snapshot()

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]], lasting: bool = False) -> T:
        """Await `work()` in `loop`, which may be that of another thread. `lasting` work goes on if the caller is
        cancelled. Raises TopicsError if the server ends meanwhile."""
        if self.loop is asyncio.get_running_loop():
            return await work()
        self.check()
        caller, ended = get_ident(), False

        def done(call: Future[T]) -> None:
            nonlocal ended
            self._calls.discard(call)
            ended = call.cancelled() and get_ident() != caller  # by the server, in its thread

        call = asyncio.run_coroutine_threadsafe(work(), self.loop)
        self._calls.add(call)
        call.add_done_callback(done)
        if self._closed:  # in between
            call.cancel()
        running: Awaitable[T] = asyncio.wrap_future(call)
        try:
            return await (asyncio.shield(running) if lasting else running)
        except asyncio.CancelledError:
            if ended:
                raise TopicsError(_ENDED) from None
            if call.cancelled():
                self.check()
            raise

    async def run_lasting(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, which goes on if the caller is cancelled, however often; `close()` waits for it."""
        task = self.loop.create_task(work)
        self._lasting.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait([task])
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._lasting.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be there to see it

    def lasting_tasks(self) -> Collection[asyncio.Task[Any]]:
        """Return the tasks that must not be cancelled, but by `close()`: those of `run_lasting()`."""
        return list(self._lasting)

    async def close(self) -> None:
        """Close the hub, if there is one, after the work of `run_lasting()`, as long as that takes no longer than
        _LASTING_TIME."""
        if self in _servers:
            _servers.remove(self)
        if self._lasting:
            await asyncio.wait(self._lasting, timeout=_LASTING_TIME)
        for task in (late := list(self._lasting)):
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        self._closed = True
        if self._hub is not None:
            await self._hub.close()
        for call in list(self._calls):  # which nobody would end once the loop has stopped
            call.cancel()


source: ContextVar[HubSource] = ContextVar("flowserve.topics")
"""The hub of the server that has called the application; set by the server."""

_servers: list[HubSource] = []
"""Those of the servers that run in this process."""

_local: WeakKeyDictionary[asyncio.AbstractEventLoop, HubSource] = WeakKeyDictionary()
"""The hubs of event loops in which no server has called the application: under another server, or in tests."""


def current_source() -> HubSource:
    """Return the source of the hub of the calling code: that of the server that has called it, or else of the server
    that runs in the same event loop. Raises RuntimeError if there are several."""
    if (calling := source.get(None)) is not None:
        calling.check()
        return calling
    loop = asyncio.get_running_loop()
    return _one_of([each for each in _servers if each.loop is loop], "event loop") or _local_source(loop)


def server_source() -> HubSource | None:
    """Return the source of the server that has called this code, or else of the server that runs in this process, in
    whatever thread; None if there is none. Raises RuntimeError if there are several."""
    calling = source.get(None)
    if calling is not None and calling.runs:
        return calling
    return _one_of([each for each in _servers if each.runs], "process")


def _one_of(servers: list[HubSource], where: str) -> HubSource | None:
    if len(servers) > 1:
        raise RuntimeError(f"several servers run in this {where}: use topics in what one of them calls")
    return servers[0] if servers else None


def _local_source(loop: asyncio.AbstractEventLoop) -> HubSource:
    found = _local.get(loop)
    if found is None:
        for closed in [each for each in _local if each.is_closed()]:  # its source refers to it
            del _local[closed]
        _warn_once()
        found = _local[loop] = HubSource(loop, local_hub)
    return found


@cache
def _warn_once() -> None:
    """Log that messages reach less than one might think; once."""
    logger.warning(
        "Topics: no server of flowserve has called this code, so that its messages stay in this event loop; a thread "
        "runs it in a copy of the server's context, a program that is not served uses topics.connect()"
    )


def local_hub() -> Hub:
    """Return a hub that reaches this event loop alone."""
    return open_hub(None, Settings())


def hub_here() -> Hub | None:
    """Return the hub of the calling code, if it runs in the hub's event loop. Raises as `current_source()`."""
    found = current_source()
    return found._hub or found.hub if found.loop is asyncio.get_running_loop() else None


async def in_hub(work: Callable[[Hub], Coroutine[Any, Any, T]], lasting: bool = False) -> T:
    """Await `work(hub)` in the event loop of the hub, which may be that of another thread. `lasting` work goes on if
    the caller is cancelled."""
    found = current_source()

    async def here() -> T:
        return await (found.run_lasting(work(found.hub)) if lasting else work(found.hub))

    return await found.call(here, lasting)
