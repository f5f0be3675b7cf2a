"""The lifespan of an application (ASGI specification, Lifespan Protocol, version 2.0)."""

from __future__ import annotations

import asyncio
from typing import Any

from flowserve.app_errors import ends_program
from flowserve.application import awaited
from flowserve.context import DRAINING, Context
from flowserve.errors import ASGIMisuse, FlowserveError, StartupFailed, SyncApplication
from flowserve.logs import logger


class _Exit(FlowserveError):
    """In the place of SystemExit, which asyncio would pass on to whoever runs the event loop."""


class Lifespan:
    """Tells the application of the worker's start and end. `context.state` is what it may fill at startup.

    The event that `flowserve.draining()` gives, which the scope's extension 'flowserve.draining' announces, is set when
    the worker begins to shut down; lifespan.shutdown comes when all connections have ended.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._mode = context.config.lifespan
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._phase = ""  # startup or shutdown, while its answer is awaited
        self._reply: asyncio.Future[dict[str, Any]] | None = None
        self._supported = False

    async def startup(self) -> None:
        """Send lifespan.startup and wait for the answer. Raises StartupFailed, and SyncApplication.

        With lifespan 'auto', an application that raises before it answers is taken not to support the protocol; but
        when it says sys.exit() it means it.
        """
        if self._mode == "off":
            return
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._context.state,
            "extensions": {DRAINING: {}},
        }
        create_task = asyncio.get_running_loop().create_task
        self._task = self._context.variables.copy().run(create_task, self._run(scope))
        self._task.add_done_callback(self._ended)
        reply = await self._exchange("startup")
        if reply is None:
            error = self._error()
            if isinstance(error, SyncApplication):
                raise error
            if isinstance(error, _Exit):
                raise StartupFailed(f"the application ended its startup with {error}")
            if self._mode == "on":
                self._log_error()
                raise StartupFailed("the application ended its lifespan before startup was complete")
            logger.debug("The application does not support lifespan events: %r", self._error())
        elif reply["type"] == "lifespan.startup.failed":
            message = reply.get("message", "")
            raise StartupFailed("application startup failed" + (f": {message}" if message else ""))
        else:
            self._supported = True

    async def shutdown(self) -> None:
        """Send lifespan.shutdown and wait for the answer; a failure is logged."""
        if self._task is None or self._task.done():
            return
        reply = await self._exchange("shutdown")
        if reply is not None and reply["type"] == "lifespan.shutdown.failed":
            logger.error("Application shutdown failed: %s", reply.get("message", ""))

    def cancel(self) -> None:
        """Give up on an application that does not come to an end."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, scope: dict[str, Any]) -> None:
        await asyncio.sleep(0)  # with asyncio.eager_task_factory the first event is not there before
        try:
            await awaited(self._context.app(scope, self._inbox.get, self._send))
        except (SystemExit, KeyboardInterrupt) as error:
            if ends_program(error):
                raise
            raise _Exit(repr(error)) from error

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = self._error()  # looked at in any case, so that asyncio does not complain of it
        if error is not None and self._supported:
            self._log_error()

    def _error(self) -> BaseException | None:
        task = self._task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    def _log_error(self) -> None:
        if (error := self._error()) is not None:
            logger.error("Exception in the application's lifespan", exc_info=error)

    async def _exchange(self, phase: str) -> dict[str, Any] | None:
        """Send the event that begins `phase`; return the application's answer, or None if it ended without one."""
        assert self._task is not None
        self._phase = phase
        self._reply = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait({"type": f"lifespan.{phase}"})
        waited: set[asyncio.Future[Any]] = {self._task, self._reply}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        return self._reply.result() if self._reply.done() else None

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if self._reply is None or self._reply.done() or kind not in (
            f"lifespan.{self._phase}.complete",
            f"lifespan.{self._phase}.failed",
        ):  # fmt: skip
            raise ASGIMisuse(f"unexpected {kind!r} in the lifespan")
        self._reply.set_result(message)
