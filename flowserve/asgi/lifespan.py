"""The lifespan of an application (ASGI specification, Lifespan Protocol, version 2.0)."""

from __future__ import annotations

import asyncio
from typing import Any

from flowserve.asgi.application import check_awaitable
from flowserve.asgi.context import DRAINING, Context
from flowserve.errors import ASGIMisuse, FlowserveError, StartupFailed, SyncApplication
from flowserve.logs.loggers import logger
from flowserve.runtime.signals import ends_program

_CANCEL_TIMEOUT = 0.5
"""Seconds that a cancelled lifespan gets to end."""


class _Exit(FlowserveError):
    """Replaces SystemExit and KeyboardInterrupt, which asyncio would pass on to the caller of the event loop."""


class Lifespan:
    """Runs the lifespan of the application in a worker. The application may fill `context.state` during startup.

    The event that `flowserve.draining()` returns, announced by the scope's extension 'flowserve.draining', is set when
    the worker begins to shut down; lifespan.shutdown is sent when all connections have ended.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._mode = context.config.lifespan
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._phase = ""  # the last event sent, startup or shutdown
        self._reply: asyncio.Future[dict[str, Any]] | None = None
        self._supported = False
        self._received = False  # the application has received an event
        self._cancelled = False
        self._failure_reported = False  # the application's own message of its failure was logged or raised

    async def startup(self) -> None:
        """Send lifespan.startup and wait for the reply. Raises StartupFailed, and SyncApplication.

        With lifespan 'auto' an application that ends without a reply is served without lifespan events, as the
        specification says. If it raised, that is logged: as an error if it had received lifespan.startup, because what
        its startup should have created may be missing. SystemExit fails the startup in any case.
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
        self._task.add_done_callback(self._on_done)
        reply = await self._exchange("startup")
        if reply is None:
            self._handle_no_reply()
        elif reply["type"] == "lifespan.startup.failed":
            message = reply.get("message", "")
            raise StartupFailed("application startup failed" + (f": {message}" if message else ""))
        else:
            self._supported = True

    def _handle_no_reply(self) -> None:
        error = self._error()
        if isinstance(error, SyncApplication):
            raise error
        if isinstance(error, _Exit):
            raise StartupFailed(f"the application ended its startup with {error}")
        if self._mode == "on":
            self._log_error()
            raise StartupFailed("the application ended its lifespan before startup was complete")
        if error is None:
            logger.debug("The application does not support lifespan events")
        # raised for an application that replies as to a request
        elif self._received and not isinstance(error, ASGIMisuse):
            logger.error("The application's startup raised; it is served without lifespan events", exc_info=error)
        else:
            why = str(error).partition("\n")[0]
            logger.info("The application does not support lifespan events: %s: %s", type(error).__name__, why)

    async def shutdown(self) -> None:
        """Send lifespan.shutdown and wait for the reply; log a failure."""
        if self._task is None or self._task.done():
            return
        reply = await self._exchange("shutdown")
        if reply is not None and reply["type"] == "lifespan.shutdown.failed":
            logger.error("Application shutdown failed: %s", reply.get("message", ""))

    def cancel(self) -> None:
        """Cancel an application that does not end."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Cancel the lifespan and wait up to _CANCEL_TIMEOUT seconds for its end."""
        self.cancel()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CANCEL_TIMEOUT)

    async def _run(self, scope: dict[str, Any]) -> None:
        await asyncio.sleep(0)  # with asyncio.eager_task_factory this begins before the first event is queued
        try:
            await check_awaitable(self._context.app(scope, self._receive, self._send))
        except (SystemExit, KeyboardInterrupt) as error:
            if ends_program(error):
                raise
            raise _Exit(repr(error)) from error

    def _on_done(self, task: asyncio.Task[None]) -> None:
        error = self._error()  # retrieve the exception in any case, or asyncio would log it
        if error is not None and self._supported and not self._failure_reported:
            self._log_error()

    def _error(self) -> BaseException | None:
        task = self._task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    def _log_error(self) -> None:
        if (error := self._error()) is not None:
            logger.error("Exception in the application's lifespan", exc_info=error)

    async def _exchange(self, phase: str) -> dict[str, Any] | None:
        """Send the event that begins `phase`; return the application's reply, or None if it ended without one."""
        assert self._task is not None
        self._phase = phase
        self._reply = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": f"lifespan.{phase}"})
        waited: set[asyncio.Future[Any]] = {self._task, self._reply}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        return self._reply.result() if self._reply.done() else None

    async def _receive(self) -> dict[str, Any]:
        event = await self._events.get()
        self._received = True
        return event

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        failed = kind in ("lifespan.startup.failed", "lifespan.shutdown.failed")
        if failed and self._cancelled:
            logger.debug("The application's lifespan was cancelled: %s", message.get("message", ""))
        elif self._is_reply(kind):
            self._failure_reported = failed and bool(message.get("message"))
            self._reply.set_result(message)  # type: ignore[union-attr]
        elif self._supported and self._phase == "startup" and kind == "lifespan.shutdown.failed":
            self._failure_reported = True
            logger.error("The application's lifespan failed while it is served: %s", message.get("message", ""))
        else:
            raise ASGIMisuse(f"unexpected {kind!r} in the lifespan")

    def _is_reply(self, kind: str) -> bool:
        replies = (f"lifespan.{self._phase}.complete", f"lifespan.{self._phase}.failed")
        return self._reply is not None and not self._reply.done() and kind in replies
