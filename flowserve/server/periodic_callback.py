"""`callback_notify`: a function of the user's that is awaited again and again while the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from flowserve.logs.loggers import logger


class PeriodicCallback:
    """Awaits `callback()` from `start()` on, at once and again each `seconds`, until `stop()`. What it raises is
    logged."""

    def __init__(self, callback: Callable[[], Awaitable[None]], seconds: float) -> None:
        self._callback = callback
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Call this in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Cancel a call in progress; the next never comes."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._callback()
            except Exception:
                logger.exception("callback_notify failed")
            await asyncio.sleep(self._seconds)
