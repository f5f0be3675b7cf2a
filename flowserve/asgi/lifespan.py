"""The lifespan of an application (ASGI specification, Lifespan Protocol, version 2.0)."""

from __future__ import annotations

import asyncio
from typing import Any

from flowserve.context import Context
from flowserve.errors import ASGIMisuse, StartupFailed
from flowserve.logs import logger


class Lifespan:
    """Tells the application of the worker's start and end. `context.state` is what it may fill at startup."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._mode = context.config.lifespan
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._replies: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Send lifespan.startup and wait for the answer. Raises StartupFailed.

        With lifespan 'auto', an application that raises before it answers is taken not to support the protocol.
        """
        if self._mode == "off":
            return
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._context.state}
        self._task = asyncio.get_running_loop().create_task(self._run(scope))
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())  # looked at below, if at all
        reply = await self._exchange("lifespan.startup")
        if reply is None:
            error = self._error()
            if self._mode == "on":
                if error is not None:
                    logger.error("Exception in the application's lifespan", exc_info=error)
                raise StartupFailed("the application ended its lifespan before startup was complete")
            logger.debug("The application does not support lifespan events: %r", error)
        elif reply["type"] == "lifespan.startup.failed":
            message = reply.get("message", "")
            raise StartupFailed("application startup failed" + (f": {message}" if message else ""))

    async def shutdown(self) -> None:
        """Send lifespan.shutdown and wait for the answer; a failure is logged."""
        if self._task is None or self._task.done():
            return
        reply = await self._exchange("lifespan.shutdown")
        if reply is None and (error := self._error()) is not None:
            logger.error("Exception in the application's lifespan", exc_info=error)
        elif reply is not None and reply["type"] == "lifespan.shutdown.failed":
            logger.error("Application shutdown failed: %s", reply.get("message", ""))

    def cancel(self) -> None:
        """Give up on an application that does not come to an end."""
        if self._task is not None:
            self._task.cancel()

    def _error(self) -> BaseException | None:
        task = self._task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    async def _run(self, scope: dict[str, Any]) -> None:
        await self._context.app(scope, self._inbox.get, self._send)

    async def _exchange(self, event: str) -> dict[str, Any] | None:
        """Send `event`; return the application's answer, or None if it ended without one."""
        assert self._task is not None
        self._inbox.put_nowait({"type": event})
        reply = asyncio.ensure_future(self._replies.get())
        try:
            await asyncio.wait({self._task, reply}, return_when=asyncio.FIRST_COMPLETED)
            return reply.result() if reply.done() else None
        finally:
            reply.cancel()

    async def _send(self, message: dict[str, Any]) -> None:
        known = ("lifespan.startup.complete", "lifespan.startup.failed", "lifespan.shutdown.complete",
                 "lifespan.shutdown.failed")  # fmt: skip
        if message["type"] not in known:
            raise ASGIMisuse(f"unexpected message {message['type']!r} in the lifespan")
        self._replies.put_nowait(message)
