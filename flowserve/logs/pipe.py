"""The log into a pipe whose reader may be slow, or stuck. A leaf.

A write to a pipe that is full waits for its reader, and with it would wait the event loop and all clients. So there is
a second of patience in all, which a reader that keeps up gives back; then lines are left out, and counted.
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

_PATIENCE = 1.0
"""Seconds."""


class LogPipe:
    """Writes to the pipe or socket that `stream` is; `left_out` counts the lines since it was last set to 0."""

    def __init__(self, write: Callable[[memoryview], int], descriptor: int) -> None:
        self._write = write
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._patience = _PATIENCE
        self._cut = False  # the last line has no end
        self.left_out = 0

    def is_stuck(self) -> bool:
        """Whether lines are being left out: the pipe is still as full as it was."""
        return self.left_out > 0 and not self._poll.poll(0)

    def write(self, line: bytes) -> None:
        """Write a line, or leave it out. Raises OSError if the reader is gone."""
        data = memoryview(b"\n" + line if self._cut else line)
        rest, waited = data, False
        while rest:
            try:
                rest = rest[self._write(rest) :]
            except BlockingIOError:
                waited = True
                if not self._wait():
                    self.left_out += 1
                    self._cut = self._cut if len(rest) == len(data) else True
                    return
        self._cut = False
        if not waited:
            self._patience = _PATIENCE

    def _wait(self) -> bool:
        """Wait for room, while there is patience."""
        if self._patience <= 0:
            return False
        began = time.monotonic()
        found = self._poll.poll(self._patience * 1000)
        self._patience -= time.monotonic() - began
        return bool(found)


def log_pipe(stream: TextIO | None) -> LogPipe | None:
    """Return the pipe that `stream` is; None if it is something else, or can't be written to without waiting."""
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
            # Linux: the same pipe, but not to wait is this process' own wish, and not that of all who write to it.
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            pipe = LogPipe(partial(os.write, own), own)
            weakref.finalize(pipe, os.close, own)
            return pipe
    except (OSError, ValueError, AttributeError):  # no descriptor; other systems; no reader any more
        pass
    return None
