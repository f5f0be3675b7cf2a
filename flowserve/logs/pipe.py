"""Logging into a pipe or socket whose reader may be slow or stuck.

A write to a full pipe blocks until its reader reads, which would block the event loop and all clients. So all writes
together may block for one second; a write that does not block resets this. Lines beyond that are dropped and counted.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import TextIO

_MAX_WAIT = 1.0
"""Seconds that writes may block in all, until one does not block."""


class LogPipe:
    """Writes lines to a pipe or socket. `write(data)` writes to it without blocking, and returns the number of bytes
    written or raises BlockingIOError; `descriptor` is polled until it is writable."""

    def __init__(self, write: Callable[[memoryview], int], descriptor: int) -> None:
        self._write = write
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._wait_left = _MAX_WAIT  # seconds
        self._line_is_cut = False  # the last line was written in part
        self.left_out = 0
        """How many lines were dropped; the caller sets it to 0."""

    def is_stuck(self) -> bool:
        """Whether lines were dropped and the pipe is still full."""
        return self.left_out > 0 and not self._poll.poll(0)

    def write(self, line: bytes) -> None:
        """Write a line or drop it. Raises OSError if the reader has closed the pipe."""
        data = memoryview(b"\n" + line if self._line_is_cut else line)
        rest, waited = data, False
        while rest:
            try:
                rest = rest[self._write(rest) :]
            except BlockingIOError:
                waited = True
                if not self._wait():
                    self.left_out += 1
                    self._line_is_cut = self._line_is_cut if len(rest) == len(data) else True
                    return
        self._line_is_cut = False
        if not waited:
            self._wait_left = _MAX_WAIT

    def _wait(self) -> bool:
        """Wait until the pipe is writable, at most for the time that is left; return whether it is."""
        if self._wait_left <= 0:
            return False
        began = time.monotonic()
        events = self._poll.poll(self._wait_left * 1000)
        self._wait_left -= time.monotonic() - began
        return bool(events)


def log_pipe(stream: TextIO | None) -> LogPipe | None:
    """Return a LogPipe if `stream` is a pipe or socket that can be written to without blocking, otherwise None."""
    if stream is None:
        return None
    try:
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):  # systemd's journal
            sock = socket.socket(fileno=os.dup(descriptor))
            pipe = LogPipe(lambda data: sock.send(data, socket.MSG_DONTWAIT), sock.fileno())
            weakref.finalize(pipe, sock.close)
            return pipe
        if stat.S_ISFIFO(mode):
            # Linux: open the pipe again, so that O_NONBLOCK does not apply to other processes that write to it.
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            pipe = LogPipe(partial(os.write, own), own)
            weakref.finalize(pipe, os.close, own)
            return pipe
    except (OSError, ValueError, AttributeError):  # no descriptor, no /proc, or no reader
        pass
    return None
