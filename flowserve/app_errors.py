"""What it means that the application raised: its client has left, the program is to end, or something is wrong. A leaf.

Only the disconnect of the call's own connection is quiet. Whatever else ends a call is told once, in the call's own
context, so that logging filters and error trackers see which request it was.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import traceback
from collections.abc import Callable
from types import CodeType, MethodType
from typing import Any

from flowserve.errors import ClientDisconnected, SyncApplication
from flowserve.logs.loggers import logger

_DISCONNECTS = ("ClientDisconnect", "WebSocketDisconnect")
"""What Starlette, Litestar, Lilya and BaiZe call the exception that tells of the client's leaving."""


def report(error: BaseException, disconnected: bool) -> None:
    """Log what a call of the application raised; `disconnected` says that its own client has left, or has all."""
    if disconnected and holds_only(error, _is_disconnect):
        logger.debug("The application ended with %r, as the client had left", error)
    elif isinstance(error, SyncApplication):
        logger.error("%s", error)
    else:
        logger.error("Exception in the application", exc_info=error)


def holds_only(error: BaseException, wanted: Callable[[BaseException], bool]) -> bool:
    """Whether `error` is `wanted`, or an exception group of nothing else."""
    if any(each.__name__ == "BaseExceptionGroup" for each in type(error).__mro__):  # of Python 3.11, or the backport
        inner: Any = error
        return all(holds_only(each, wanted) for each in inner.exceptions)
    return wanted(error)


def _is_disconnect(error: BaseException) -> bool:
    """Whether it is what an application ends with when its client has left. CancelledError is one of them: there are
    frameworks that cancel their handlers then."""
    return isinstance(error, (ClientDisconnected, asyncio.CancelledError)) or type(error).__name__ in _DISCONNECTS


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
