"""What it means that the application raised: its client has left, the program is to end, or something is wrong. A leaf.

Only the disconnect of the call's own connection is quiet. Whatever else ends a call is told once, in the call's own
context, so that logging filters and error trackers see which request it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
