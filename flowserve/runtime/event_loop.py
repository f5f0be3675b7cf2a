"""Choosing, running and closing an event loop."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Collection, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from flowserve.errors import ConfigError, install_hint
from flowserve.logs.loggers import logger
from flowserve.runtime.signals import ends_program

T = TypeVar("T")

_CANCEL_TIMEOUT = 1.0
"""Seconds that a closing loop waits for cancelled tasks, and again for asynchronous generators."""
_unfinished: list[asyncio.Task[Any]] = []
"""Tasks that did not end within that time. They are referenced until the process ends, as Python would close their
coroutines otherwise."""


_NO_DESCRIPTORS = "socket.accept() out of system resource"
"""asyncio's message when no descriptors are left: logged for each waiting connection, and again a second later."""


class Lasting(Protocol):
    """What goes on in an event loop until all else in it has ended."""

    def tasks(self) -> Collection[asyncio.Task[Any]]:
        """Return the tasks that are not to be cancelled."""

    async def close(self) -> None:
        """End it, in bounded time."""


class _ExceptionHandler:
    """Logs as asyncio does, but at most once a second that no connection can be accepted."""

    def __init__(self) -> None:
        self._next_log_at = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") != _NO_DESCRIPTORS:
            loop.default_exception_handler(context)
        elif loop.time() >= self._next_log_at:
            self._next_log_at = loop.time() + 1
            logger.error("No connection can be accepted (ulimit -n): %s", context.get("exception"))


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of the event loop called `name`: "auto" (uvloop if installed), "asyncio", the name of a
    package such as "uvloop", or "module:factory". Raises ConfigError if it is not there."""
    if name == "asyncio":
        return asyncio.new_event_loop
    if ":" in name:
        return _import_factory(*name.split(":"))
    package = "uvloop" if name == "auto" else name
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(package).new_event_loop
        return factory
    except ImportError:
        if name == "auto":
            return asyncio.new_event_loop
        raise ConfigError(f"--loop: {install_hint(name)}, or use --loop asyncio") from None


def _import_factory(module: str, path: str) -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        factory: Any = importlib.import_module(module)
        for part in path.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"--loop: {module}:{path}: {error}") from None

    def make() -> asyncio.AbstractEventLoop:
        loop = factory()
        if not isinstance(loop, asyncio.AbstractEventLoop):
            raise ConfigError(f"--loop: {module}:{path} makes {loop!r}, not an event loop")
        return loop

    return make


def refuse_running_loop(what: str, instead: str) -> None:
    """Raise RuntimeError if an event loop is running in this thread, as in a notebook; `instead` is what to write there
    for the call `what`."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{what} starts an event loop, and one is running here already; write `{instead}`")


def loop_name(name: str) -> str:
    """Return the name of the event loop that `loop_factory(name)` makes. Raises as that does."""
    return "asyncio" if loop_factory(name) is asyncio.new_event_loop else "uvloop"


def run_in_loop(name: str, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main()` in a new event loop called `name` (see `loop_factory()`), and return its result."""
    with event_loop(name) as loop:
        return run_until_done(loop, main())


def run_until_done(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in `loop` and return its result, even if another task raises SystemExit: asyncio stops the event loop
    then, which can be run again without losing anything."""
    task = loop.create_task(main)
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done() or ends_program(error):
                raise
            logger.warning("A task of the application's ended with %r; the server goes on", error)


@contextmanager
def event_loop(name: str, lasting: Lasting | None = None) -> Iterator[asyncio.AbstractEventLoop]:
    """Create the event loop called `name` (see `loop_factory()`) and close it afterwards. It is not running yet, but is
    the one that asyncio.get_event_loop() returns.

    At the end the remaining tasks are cancelled and get _CANCEL_TIMEOUT seconds; tasks that suppress their
    cancellation, and threads of the default executor, are left behind. `lasting` is closed after that.
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
            loop.run_until_complete(_cancel_all(loop, lasting))
            loop.run_until_complete(_run_with_timeout(loop.shutdown_asyncgens()))
            if lasting is not None:
                loop.run_until_complete(lasting.close())
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            asyncio.set_event_loop(None)
            loop.close()


async def _cancel_all(loop: asyncio.AbstractEventLoop, lasting: Lasting | None) -> None:
    """Cancel all tasks but those of `lasting`; report what they raise, as asyncio.run() does."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()} - set(() if lasting is None else lasting.tasks())
    for task in tasks:
        task.cancel()
    done, pending = await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT) if tasks else (set(), set())
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            message = "unhandled exception in a task that was cancelled at the end"
            loop.call_exception_handler({"message": message, "exception": error, "task": task})
    for task in pending:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would log each
    _unfinished.extend(pending)


async def _run_with_timeout(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    _, late = await asyncio.wait({task}, timeout=_CANCEL_TIMEOUT)
    _unfinished.extend(late)


def accepts_per_iteration(loop: asyncio.AbstractEventLoop) -> int:
    """Return how many servers should accept from one listening socket, so that many connections that arrive at once are
    accepted in one iteration of `loop`.

    libuv accepts one connection an iteration for each server (since 1.46). Measured with 50 clients that connect and
    disconnect: 88 us a connection with one server, 68 with four, 61 with eight or sixteen, as one iteration does more
    work of the same kind; a single client takes 5 % longer with eight.
    """
    return 8 if type(loop).__module__.partition(".")[0] == "uvloop" else 1


async def first_of(work: asyncio.Future[None], event: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until `work` is done, `event` is set, or `seconds` have passed."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        waited: set[asyncio.Future[Any]] = {work, waiting}
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def uncancelled(ending: asyncio.Future[None]) -> None:
    """Wait until `ending` is done even if this task is cancelled meanwhile, and raise the CancelledError afterwards.

    Repeated cancellation is not taken for urgency: AnyIO cancels again in each iteration of the event loop.
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
