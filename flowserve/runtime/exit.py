"""The end of this process: in bounded time whatever still runs in it, and by a signal that comes before it serves.

Python joins all threads that are no daemons before it exits, an event loop that is blocked handles no signal, and
either may last for ever. So a thread watches, which needs neither the loop nor the main thread.
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

from flowserve.logs.loggers import logger, plural

_LOOK = 0.05
"""Seconds between looks at whether the time is over."""
_LAST_WORDS = 2.0
"""Seconds for the log, for buffers and for what the program has registered with atexit; a pipe that nobody reads takes
for ever."""
_LEAST = 0.5
"""Seconds for threads that were told to end."""


class ExitGuard:
    """Ends this process when it has not ended by itself in time. There is one, `guard`.

    It may be called from signal handlers, where no lock can be taken: those may hold it whom the handler interrupts.
    """

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._watching = False
        self._before: set[threading.Thread] = set()
        self._left: set[threading.Thread] | None = None  # threads that run on when all else is done
        self._said = False
        self.status = 0
        """The exit status for a process whose threads don't end."""

    def begin(self) -> None:
        """A run begins: threads that are there already are not its own."""
        self._before = set(threading.enumerate())
        self._deadline, self._left, self._said, self.status = None, None, False, 0

    def end_within(self, seconds: float) -> None:
        """Let the process live for `seconds` at most from now on."""
        self._deadline = time.monotonic() + seconds
        if not self._watching:
            self._watching = True
            _thread.start_new_thread(self._watch, ())

    def leave(self, seconds: float) -> None:
        """The run is over. Threads that it has left behind are given these seconds, and `_LEAST` from when the main
        thread has come to its end, as long as Python waits for nothing else; then the process ends with `status`."""
        self._left = _threads() - self._before
        if self._left:
            self.end_within(max(seconds, _LEAST))
        else:
            self._deadline = None

    @property
    def waits(self) -> bool:
        """Whether threads were left behind."""
        return bool(self._left)

    def _watch(self) -> None:
        while (deadline := self._deadline) is not None:
            late = time.monotonic() >= deadline
            if self._left is not None:
                self._watch_threads(deadline, late)
            elif late:
                self._exit(1, f"The end takes too long, at {_main_position()}; the process ends now")
            time.sleep(_LOOK)
        self._watching = False

    def _watch_threads(self, deadline: float, late: bool) -> None:
        busy = _threads()
        if not _is_over() or not busy or self._left is None or busy - self._left:
            return  # the program goes on, or Python waits for others, too
        names = f"{plural(len(busy), 'thread')} of the application ({', '.join(sorted(t.name for t in busy))})"
        if late:
            self._exit(self.status, f"The process ends without {names} still busy")
        elif not self._said and deadline - time.monotonic() > _LEAST:
            self._said = True
            logger.info("Waiting for %s", names)

    def _exit(self, status: int, why: str) -> None:
        done = threading.Event()
        with suppress(RuntimeError):  # too late for threads
            _thread.start_new_thread(_last_words, (why, done))
            done.wait(_LAST_WORDS)
        os._exit(status)


guard = ExitGuard()


def _threads() -> set[threading.Thread]:
    """Those that Python waits for at its end."""
    return {each for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()}


def _is_over() -> bool:
    """Whether Python waits for threads; the main thread is alive while it waits for those of executors."""
    return bool(getattr(threading, "_SHUTTING_DOWN", not threading.main_thread().is_alive()))


def _main_position() -> str:
    """Where the main thread is: 'app.py:12 in handler'."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return "in its end"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _last_words(why: str, done: threading.Event) -> None:
    try:
        logger.warning(why)
        atexit._run_exitfuncs()
        flush()
    finally:
        done.set()


def flush() -> None:
    """Write what is buffered for the standard streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


class Interruption:
    """What a signal does while nothing is served: SIGINT and SIGTERM end the process at once, SIGHUP nothing."""

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        self.over = False
        """What was to be served has come to its end: no more is there to be interrupted."""

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler. Raises KeyboardInterrupt."""
        if self.over:
            return
        if self.number is not None:
            guard.end_within(0)
        self.number = signal.Signals(number)
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt again if code that it went through has caught it."""
        if self.number is not None:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Have SIGINT and SIGTERM end what is done meanwhile, with one line: as a KeyboardInterrupt, so that it is cleaned
    up behind it. Then the signal does what it did before: it ends the process, or raises KeyboardInterrupt.

    A server that serves meanwhile handles them itself. Only the main thread can have signals.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = _install(interruption)
    try:
        yield interruption
    except BaseException:  # whatever the interrupted code has made of it
        if interruption.number is None:
            raise
    finally:
        for number, former in before.items():
            signal.signal(number, former)
    if interruption.number is not None:
        _pass_on(interruption.number)


def _install(interruption: Interruption) -> dict[signal.Signals, Any]:
    numbers: dict[signal.Signals, Any] = dict.fromkeys((signal.SIGINT, signal.SIGTERM), interruption.handle)
    if hasattr(signal, "SIGHUP"):
        numbers[signal.SIGHUP] = _on_hangup
    return {number: signal.signal(number, handler) for number, handler in numbers.items()}


def _on_hangup(_number: int, _frame: FrameType | None) -> None:
    """Nothing to reload yet, or no more; by default it would kill."""


def _pass_on(number: signal.Signals) -> None:
    logger.info("%s: stopped before anything was served", number.name)
    flush()
    signal.raise_signal(number)
    raise SystemExit(128 + number)  # as process 1 of a container, which no signal ends by default
