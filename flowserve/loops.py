"""Event loops for a command: the choice of one, a run in it from begin to end, and signals meanwhile. A leaf."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from flowserve.app_errors import ends_program
from flowserve.errors import ConfigError
from flowserve.logs import logger

T = TypeVar("T")


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
    factory = loop_factory(name)
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=factory) as runner:
            return _run_on(runner.get_loop().create_task(main()), lambda task: runner.run(_result_of(task)))
    else:
        loop = factory()
        asyncio.set_event_loop(loop)
        try:
            return _run_on(loop.create_task(main()), loop.run_until_complete)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


async def _result_of(task: asyncio.Task[T]) -> T:
    return await task


def _run_on(task: asyncio.Task[T], run: Callable[[asyncio.Task[T]], T]) -> T:
    """Run `task` to its end, also when another one says sys.exit(): asyncio stops the event loop then, but loses
    nothing by it."""
    while True:
        try:
            return run(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done() or ends_program(error):
                raise
            logger.warning("A task of the application's ended with %r; the server goes on", error)


def takers(loop: asyncio.AbstractEventLoop) -> int:
    """Return how many servers should take connections from one listening socket, so that many that come at once are
    taken in one turn of `loop`.

    libuv takes one a turn for each server (since 1.46). Measured with 50 clients that come and go: 88 us a visit with
    one, 68 with four, 61 with eight or sixteen, as one turn has more to do of the same kind; a visitor who is alone
    costs 5 % more with eight.
    """
    return 8 if type(loop).__module__.partition(".")[0] == "uvloop" else 1


@contextmanager
def handling(handlers: Mapping[signal.Signals, Callable[[signal.Signals], None]]) -> Iterator[None]:
    """Have the handlers called with their signal in the running event loop; afterwards all is as it was.

    Only the main thread can: in another one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        try:
            loop.add_signal_handler(number, handler, number)
        except NotImplementedError:  # Windows
            signal.signal(number, partial(_hand_over, loop, handler))
    try:
        yield
    finally:
        for number, former in before.items():
            try:
                loop.remove_signal_handler(number)
            except NotImplementedError:
                pass
            signal.signal(number, former)


def _hand_over(
    loop: asyncio.AbstractEventLoop, handler: Callable[[signal.Signals], None], number: int, _frame: object
) -> None:
    loop.call_soon_threadsafe(handler, signal.Signals(number))
