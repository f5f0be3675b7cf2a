"""Logging what the application raised: a disconnect of its client, or an error.

Only the disconnect of the call's own connection is not logged as an error. Everything else is logged once, in the
call's own context, so that logging filters and error trackers see which request it belongs to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from flowserve.errors import ClientDisconnected, SyncApplication
from flowserve.logs.loggers import logger

_DISCONNECTS = ("ClientDisconnect", "WebSocketDisconnect")
"""The names of the exceptions by which Starlette, Litestar, Lilya and BaiZe signal a disconnect."""


def report(error: BaseException, disconnected: bool) -> None:
    """Log what a call of the application raised. `disconnected` says that the call's own connection has ended."""
    if disconnected and holds_only(error, _is_disconnect):
        logger.debug("The application ended with %r, as the client had left", error)
    elif isinstance(error, SyncApplication):
        logger.error("%s", error)
    else:
        logger.error("Exception in the application", exc_info=error)


def holds_only(error: BaseException, predicate: Callable[[BaseException], bool]) -> bool:
    """Whether `predicate(error)` is true, or `error` is an exception group for whose members, at any depth, it is."""
    # of Python 3.11, or of the package exceptiongroup
    if any(each.__name__ == "BaseExceptionGroup" for each in type(error).__mro__):
        group: Any = error
        return all(holds_only(each, predicate) for each in group.exceptions)
    return predicate(error)


def _is_disconnect(error: BaseException) -> bool:
    """Whether an application may end with this when its client has left. CancelledError is included: some frameworks
    cancel their handlers then."""
    return isinstance(error, (ClientDisconnected, asyncio.CancelledError)) or type(error).__name__ in _DISCONNECTS
