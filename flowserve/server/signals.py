"""The signals of the servers that serve in one event loop: each signal is for all of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, MethodType
from typing import Protocol

from flowserve.logs.loggers import logger
from flowserve.runtime.signals import handling

_ENDS = (signal.SIGINT, signal.SIGTERM)
_HANGUP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []


class Signalled(Protocol):
    """A server, as this module sees it."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None: ...
    def _on_hangup(self) -> None: ...


_servers: list[Signalled] = []
_handlers = ExitStack()  # restores the previous handlers when the last server ends


@contextmanager
def signals_for(server: Signalled) -> Iterator[None]:
    """While in this context, SIGINT and SIGTERM call `server.handle_exit()`, SIGHUP calls `server._on_hangup()`, each
    besides those of other servers. Only the main thread can handle signals: in other threads this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _servers.append(server)
    if len(_servers) == 1:
        _handlers.enter_context(handling(dict.fromkeys(_HANGUP, _on_hangup), dict.fromkeys(_ENDS, _handler())))
    try:
        yield
    finally:
        _servers.remove(server)
        if not _servers:
            _handlers.close()
        else:
            _replace_handlers()


def _handler() -> MethodType:
    """Return the handler of SIGINT and SIGTERM. Its `__self__` is a server, which is where libraries look for one."""
    return MethodType(_on_exit, _servers[0])


def _replace_handlers() -> None:
    for number in _ENDS:
        if getattr(signal.getsignal(number), "__func__", None) is _on_exit:  # the application has not replaced it
            signal.signal(number, _handler())


def _on_exit(_server: Signalled, sig: int, frame: FrameType | None) -> None:
    for each in list(_servers):
        each.handle_exit(sig, frame)


def _on_hangup(_number: signal.Signals) -> None:
    for each in list(_servers):
        each._on_hangup()


def log_signal(sig: int, again: bool) -> None:
    """Log a signal that ends a server."""
    logger.info("%s%s", signal.Signals(sig).name, " again: stopping at once" if again else ": shutting down")
