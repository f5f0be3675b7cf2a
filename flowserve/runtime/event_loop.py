"""Event loops for a command: the choice of one, and a run in it from begin to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from flowserve.errors import ConfigError
from flowserve.logs.loggers import logger
from flowserve.runtime.signals import ends_program

T = TypeVar("T")

_GRACE = 1.0
"""Seconds for tasks that are cancelled at the end."""
_left_behind: list[asyncio.Task[Any]] = []
"""Tasks that did not end then. They stay until the process ends, as Python would close them in the midst."""


_EXHAUSTED = "socket.accept() out of system resource"
"""What asyncio says when there are no more descriptors, for each connection that waits, and again a second later."""


class _ExceptionHandler:
    """Reports as asyncio does, but tells once a second that no connection can be accepted."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") != _EXHAUSTED:
            loop.default_exception_handler(context)
        elif loop.time() >= self._next:
            self._next = loop.time() + 1
            logger.error("No connection can be accepted (ulimit -n): %s", context.get("exception"))


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop called `name`: auto, uvloop or asyncio. Raises ConfigError without uvloop."""
    if name != "asyncio":
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise ConfigError("--loop: uvloop is not installed; install it or use --loop asyncio") from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


def run_in_loop(name: str, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main()` to its end in a new event loop, the one called `name` (see loop_factory); return what it returns."""
    with event_loop(name) as loop:
        return run_until_done(loop, main())


def run_until_done(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in `loop`, also when another task says sys.exit(): asyncio stops the event loop then, but
    loses nothing by it."""
    task = loop.create_task(main)
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done() or ends_program(error):
                raise
            logger.warning("A task of the application's ended with %r; the server goes on", error)


@contextmanager
def event_loop(name: str) -> Iterator[asyncio.AbstractEventLoop]:
    """Make the event loop called `name` (see loop_factory), and close it afterwards; it does not run yet, but is what
    asyncio.get_event_loop() returns.

    What still runs in it at its end is cancelled, and waited for no longer than a second or two: not for tasks that
    swallow their cancellation, and not for threads.
    """
    loop = loop_factory(name)()
    loop.set_exception_handler(_ExceptionHandler())
    threads = ThreadPoolExecutor(thread_name_prefix="asyncio")
    loop.set_default_executor(threads)
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        try:
            loop.run_until_complete(_cancel_all(loop))
            loop.run_until_complete(_bounded(loop.shutdown_asyncgens()))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            asyncio.set_event_loop(None)
            loop.close()


async def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel all tasks; report what they raise, as asyncio.run() does."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    done, stubborn = await asyncio.wait(tasks, timeout=_GRACE) if tasks else (set(), set())
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            message = "unhandled exception in a task that was cancelled at the end"
            loop.call_exception_handler({"message": message, "exception": error, "task": task})
    for task in stubborn:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would complain of each
    _left_behind.extend(stubborn)


async def _bounded(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    _, late = await asyncio.wait({task}, timeout=_GRACE)
    _left_behind.extend(late)


def accepts_per_iteration(loop: asyncio.AbstractEventLoop) -> int:
    """Return how many servers should take connections from one listening socket, so that many that come at once are
    taken in one turn of `loop`.

    libuv takes one a turn for each server (since 1.46). Measured with 50 clients that come and go: 88 us a visit with
    one, 68 with four, 61 with eight or sixteen, as one turn has more to do of the same kind; a visitor who is alone
    costs 5 % more with eight.
    """
    return 8 if type(loop).__module__.partition(".")[0] == "uvloop" else 1


async def first_of(work: asyncio.Future[None], event: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until the one is done or the other set, or the time is over."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        waited: set[asyncio.Future[Any]] = {work, waiting}
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def uncancelled(ending: asyncio.Future[None]) -> None:
    """Wait for it to the end, though this task is cancelled meanwhile; that is raised then.

    How often is no sign of haste: AnyIO cancels again in each iteration of the event loop.
    """
    cancelled: asyncio.CancelledError | None = None
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    ending.result()
