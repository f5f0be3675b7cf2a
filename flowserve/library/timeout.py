"""A time limit for several steps; its TimeoutError says during which one the time ran out."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class Deadline:
    """`async with Deadline(seconds) as deadline` cancels its body after so many seconds and raises TimeoutError. The
    body sets `deadline.doing` to what it is doing, for the text of the error.

    It is used because `asyncio.timeout()` needs Python 3.11, and because `asyncio.wait_for()` before Python 3.12 loses
    a cancellation that arrives together with the result.
    """

    def __init__(self, seconds: float | None) -> None:
        """`seconds` is None for no limit."""
        self.doing = ""
        """What the body is doing, e.g. "connecting to localhost, port 80"."""
        self._seconds = seconds
        self._task: Any = None
        self._cancelling = 0
        self._handle: asyncio.TimerHandle | None = None
        self._expired = False

    @property
    def expired(self) -> bool:
        """Whether the time has run out."""
        return self._expired

    async def __aenter__(self) -> Deadline:
        self._task = asyncio.current_task()
        if hasattr(self._task, "cancelling"):
            self._cancelling = self._task.cancelling()
        if self._seconds is not None:
            self._handle = asyncio.get_running_loop().call_later(self._seconds, self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._handle is not None:
            self._handle.cancel()
        if not self._expired:
            return
        if hasattr(task, "uncancel") and task.uncancel() > self._cancelling:
            return  # the task was cancelled by others too: let CancelledError pass
        if kind is asyncio.CancelledError:
            raise TimeoutError(f"timed out after {self._seconds:g} s while {self.doing}") from None

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
