"""Ending this process: in bounded time whatever still runs, and by a signal that arrives before anything is served.

Python joins all non-daemon threads before it exits, and a blocked event loop handles no signal; either may last for
ever. So a thread watches the deadline, which needs neither the event loop nor the main thread.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from flowserve.grammar import plural
from flowserve.logs.loggers import logger

_POLL_INTERVAL = 0.05
"""Seconds between checks of the deadline."""
_FLUSH_TIMEOUT = 2.0
"""Seconds for logging, atexit functions and flushing buffers; writing to a pipe that nobody reads takes for ever."""
_MIN_THREAD_TIME = 0.5
"""Least seconds that threads get to end."""


class ExitGuard:
    """Ends this process if it has not ended by itself in time. The only instance is `guard`.

    Its methods may be called from signal handlers and so take no lock: the interrupted code may hold it.
    """

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._watching = False
        self._initial_threads: set[threading.Thread] = set()
        self._leftover: set[threading.Thread] | None = (
            None  # non-daemon threads of the application that outlive the run
        )
        self._logged = False
        self.status = 0
        """The exit status if leftover threads don't end in time."""

    def begin(self) -> None:
        """Note that a run begins: threads that exist already are not the application's."""
        self._initial_threads = set(threading.enumerate())
        self._deadline, self._leftover, self._logged, self.status = None, None, False, 0

    def end_within(self, seconds: float) -> None:
        """End the process in `seconds` unless it has ended by then."""
        self._deadline = time.monotonic() + seconds
        if not self._watching:
            self._watching = True
            _thread.start_new_thread(self._watch, ())

    def end(self, seconds: float) -> None:
        """Note that the run is over. Leftover threads get `seconds`, but at least _MIN_THREAD_TIME; after that the
        process ends with `status` as soon as Python waits for nothing but them."""
        self._leftover = _joinable_threads() - self._initial_threads
        if self._leftover:
            self.end_within(max(seconds, _MIN_THREAD_TIME))
        else:
            self._deadline = None

    @property
    def has_leftover_threads(self) -> bool:
        """Whether threads outlived the run."""
        return bool(self._leftover)

    def _watch(self) -> None:
        while (deadline := self._deadline) is not None:
            expired = time.monotonic() >= deadline
            if self._leftover is not None:
                self._watch_threads(deadline, expired)
            elif expired:
                self._end_process(1, f"The end takes too long, at {_main_position()}; the process ends now")
            time.sleep(_POLL_INTERVAL)
        self._watching = False

    def _watch_threads(self, deadline: float, expired: bool) -> None:
        busy = _joinable_threads()
        if not _is_joining() or not busy or self._leftover is None or busy - self._leftover:
            return  # the program still runs, or Python also waits for other threads
        names = f"{plural(len(busy), 'thread')} of the application ({', '.join(sorted(t.name for t in busy))})"
        if expired:
            self._end_process(self.status, f"The process ends without {names} still busy")
        elif not self._logged and deadline - time.monotonic() > _MIN_THREAD_TIME:
            self._logged = True
            logger.info("Waiting for %s", names)

    def _end_process(self, status: int, why: str) -> None:
        done = threading.Event()
        with suppress(RuntimeError):  # no new thread can be started any more
            _thread.start_new_thread(_log_and_flush, (why, done))
            done.wait(_FLUSH_TIMEOUT)
        os._exit(status)


guard = ExitGuard()


def _joinable_threads() -> set[threading.Thread]:
    """Return the threads that Python joins before it exits."""
    return {each for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()}


def _is_joining() -> bool:
    """Whether Python is joining threads; it does so for those of executors while the main thread is alive."""
    return bool(getattr(threading, "_SHUTTING_DOWN", not threading.main_thread().is_alive()))


def _main_position() -> str:
    """Return the position of the main thread, such as 'app.py:12 in handler'."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return "in its end"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _log_and_flush(why: str, done: threading.Event) -> None:
    try:
        logger.warning(why)
        atexit._run_exitfuncs()
        flush()
    finally:
        done.set()


def flush() -> None:
    """Flush the standard streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


class Interruption:
    """The signal handling while nothing is served: SIGINT and SIGTERM end the process at once, SIGHUP is ignored."""

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        """The signal that arrived."""
        self.finished = False
        """Set when serving has ended: signals are ignored from then on."""

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler. Raises KeyboardInterrupt."""
        if self.finished:
            return
        if self.number is not None:
            guard.end_within(0)
        self.number = signal.Signals(number)
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt again if a signal arrived and the interrupted code has swallowed it."""
        if self.number is not None:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """While in this context, let SIGINT and SIGTERM raise KeyboardInterrupt, so that cleanup runs; log one line at the
    end. Afterwards the signal does what it did before: it ends the process, or raises KeyboardInterrupt.

    A server that serves meanwhile installs its own handlers. Only the main thread can handle signals; in others this
    does nothing.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    previous = _install_handlers(interruption)
    try:
        yield interruption
    except BaseException:  # the interrupted code may have raised anything in its place
        if interruption.number is None:
            raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if interruption.number is not None:
        _raise_again(interruption.number)


def _install_handlers(interruption: Interruption) -> dict[signal.Signals, Any]:
    numbers: dict[signal.Signals, Any] = dict.fromkeys((signal.SIGINT, signal.SIGTERM), interruption.handle)
    if hasattr(signal, "SIGHUP"):
        numbers[signal.SIGHUP] = _on_hangup
    return {number: signal.signal(number, handler) for number, handler in numbers.items()}


def _on_hangup(_number: int, _frame: FrameType | None) -> None:
    """There is nothing to reload before and after serving; the default action would end the process."""


def _raise_again(number: signal.Signals) -> None:
    logger.info("%s: stopped before anything was served", number.name)
    flush()
    signal.raise_signal(number)
    raise SystemExit(128 + number)  # for process 1 of a container, which no signal ends by default
