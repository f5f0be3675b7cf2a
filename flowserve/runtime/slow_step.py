"""A log line for a step that takes long."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flowserve.logs.loggers import logger

_NOTICE_TIME = 1.0
"""Seconds of waiting after which a log line says what for."""


@contextmanager
def noticed_if_slow(what: str) -> Iterator[None]:
    """Log that the program waits for `what`, once, if this context lasts long. A thread does it, since what is waited
    for may block this one, and its event loop."""
    timer = threading.Timer(_NOTICE_TIME, logger.info, (f"Waiting for {what}",))
    timer.daemon = True
    _start_without_signals(timer)
    try:
        yield
    finally:
        timer.cancel()


def _start_without_signals(thread: threading.Thread) -> None:
    """Start a thread that the system gives no signal to: the application may block some in the main thread, to wait for
    them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        thread.start()
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
