"""How long each turn of the event loop takes, in CPU time of its thread, which a busy machine does not change.

A turn is all that the loop does between two waits: what it read, the callbacks, the timers. Nothing is added to it but
the look at the clock, as the loop must be free to sleep.
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Callable
from typing import Any

_PREPARE_SIZE = 256
"""Bytes: more than a uv_prepare_t has."""
_PREPARE_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Turns:
    """The longest turn of the running event loop since `take()` was last called."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._since = time.thread_time_ns()
        self._longest = 0
        if type(loop).__module__.partition(".")[0] == "uvloop":
            self._close = _before_each_wait(loop, self._look)
        else:
            self._close = _around_run_once(loop, self._look)

    def take(self) -> int:
        """Nanoseconds; the turn that asks is not among them."""
        longest, self._longest = self._longest, 0
        return longest

    def close(self) -> None:
        """Look no more."""
        self._close()

    def _look(self) -> None:
        now = time.thread_time_ns()
        self._longest = max(self._longest, now - self._since)
        self._since = now


def _before_each_wait(loop: asyncio.AbstractEventLoop, look: Callable[[], None]) -> Callable[[], None]:
    """uvloop: a prepare handle of libuv's, which is called just before the loop waits (uv_prepare_t)."""
    from uvloop import loop as module

    libuv = ctypes.PyDLL(module.__file__)
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    uv_loop = ctypes.c_void_p(pointer(module.libuv_get_loop_t_ptr(loop), None))  # type: ignore[attr-defined]
    handle = ctypes.create_string_buffer(_PREPARE_SIZE)
    callback = _PREPARE_CALLBACK(lambda _: look())
    libuv.uv_prepare_init(uv_loop, handle)
    libuv.uv_prepare_start(handle, callback)

    def close() -> None:
        libuv.uv_prepare_stop(handle, callback)
        libuv.uv_close(handle, None)

    return close


def _around_run_once(loop: Any, look: Callable[[], None]) -> Callable[[], None]:
    """asyncio: one iteration is one call of BaseEventLoop._run_once()."""
    run_once = loop._run_once

    def looked_at() -> None:
        run_once()
        look()

    loop._run_once = looked_at
    return lambda: loop.__dict__.pop("_run_once", None)
