"""A time limit over several steps, whose error says at which one the time was up."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class Deadline:
    """`async with Deadline(10.0) as deadline` ends its body after so many seconds with a TimeoutError.

    `doing` is what the body is at, for the error's text. Here rather than `asyncio.wait_for()`, which before
    Python 3.12 loses a cancellation that comes with the result; and `asyncio.timeout()` begins with Python 3.11.
    """

    def __init__(self, seconds: float | None) -> None:
        """No limit if None."""
        self.doing = ""
        self._seconds = seconds
        self._task: Any = None
        self._cancelling = 0
        self._handle: asyncio.TimerHandle | None = None
        self._expired = False

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
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
            return  # somebody else has cancelled it too
        if kind is asyncio.CancelledError:
            raise TimeoutError(f"timed out after {self._seconds:g} s while {self.doing}") from None

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
