"""Signals: handlers for as long as something runs, and exceptions that came from one."""

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
    """Have the handlers called with their signal in the running event loop; afterwards all is as it was.

    Those in `at_once` are called as Python's own signal handlers are, also while the event loop is blocked; with at
    least one of the others, asyncio's loop wakes for them too. Only the main thread can: in another one nothing is
    changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    immediate = dict(at_once or {})
    before = {number: signal.getsignal(number) for number in (*handlers, *immediate)}
    for number, handler in handlers.items():
        try:
            loop.add_signal_handler(number, handler, number)
        except NotImplementedError:  # Windows
            signal.signal(number, partial(_hand_over, loop, handler))
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
        for number, former in before.items():
            signal.signal(number, former)


def _hand_over(
    loop: asyncio.AbstractEventLoop, handler: Callable[[signal.Signals], None], number: int, _frame: object
) -> None:
    loop.call_soon_threadsafe(handler, signal.Signals(number))


def ends_program(error: BaseException) -> bool:
    """Whether `error` came from the handler of a signal, which can interrupt any code: it is meant for the program, not
    for the call of the application that happened to run. Python's own handler of SIGINT leaves no trace, so while that
    is in place every KeyboardInterrupt counts.
    """
    if not isinstance(error, (KeyboardInterrupt, SystemExit)):
        return False
    if threading.current_thread() is not threading.main_thread():  # handlers run in the main thread only
        return False
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    if isinstance(error, KeyboardInterrupt) and signal.default_int_handler in handlers:
        return True
    codes = {code for handler in handlers if (code := _code_of(handler)) is not None}
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def _code_of(handler: Any) -> CodeType | None:
    while hasattr(handler, "func"):  # a partial
        handler = handler.func
    function = handler.__func__ if isinstance(handler, MethodType) else handler
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None
