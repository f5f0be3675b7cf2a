"""Signal handlers for a limited time, and recognising the exceptions that signal handlers raise."""

from __future__ import annotations

import asyncio
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import CodeType, FrameType, MethodType
from typing import Any


@contextmanager
def handling(
    handlers: Mapping[signal.Signals, Callable[[signal.Signals], None]],
    at_once: Mapping[signal.Signals, Callable[[int, FrameType | None], object]] | None = None,
) -> Iterator[None]:
    """Call `handlers` with their signal in the running event loop, and restore the previous handlers afterwards.

    The handlers in `at_once` are called as signal.signal() does, even while the event loop is blocked; with at least
    one of the others installed, asyncio's loop wakes up for them too. Only the main thread can handle signals: in other
    threads this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    immediate = dict(at_once or {})
    previous = {number: signal.getsignal(number) for number in (*handlers, *immediate)}
    for number, handler in handlers.items():
        try:
            loop.add_signal_handler(number, handler, number)
        except NotImplementedError:  # Windows
            signal.signal(number, partial(_call_in_loop, loop, handler))
    for number, function in immediate.items():
        signal.signal(number, function)
    try:
        yield
    finally:
        for number in handlers:
            try:
                loop.remove_signal_handler(number)
            except NotImplementedError:
                pass
        for number, previous_handler in previous.items():
            signal.signal(number, previous_handler)


def again_hint(number: int, what: str = "stop at once") -> str:
    """Return what a log line about waiting ends with: that the signal that has come once does `what` if it comes
    again."""
    again = "press Ctrl-C" if number == signal.SIGINT else f"send {signal.Signals(number).name}"
    return f"; {again} again to {what}"


def _call_in_loop(
    loop: asyncio.AbstractEventLoop, handler: Callable[[signal.Signals], None], number: int, _frame: object
) -> None:
    loop.call_soon_threadsafe(handler, signal.Signals(number))


def ends_program(error: BaseException) -> bool:
    """Whether `error` was raised by a signal handler. Signals interrupt any code: the exception is meant for the
    program, not for the call of the application that was running. Python's own SIGINT handler leaves no frame in the
    traceback, so while it is installed every KeyboardInterrupt counts."""
    if not isinstance(error, (KeyboardInterrupt, SystemExit)):
        return False
    if threading.current_thread() is not threading.main_thread():  # handlers run in the main thread only
        return False
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    if isinstance(error, KeyboardInterrupt) and signal.default_int_handler in handlers:
        return True
    codes = {code for handler in handlers if (code := _code_object(handler)) is not None}
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def _code_object(handler: Any) -> CodeType | None:
    while hasattr(handler, "func"):  # a partial
        handler = handler.func
    function = handler.__func__ if isinstance(handler, MethodType) else handler
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None
