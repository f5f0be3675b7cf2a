"""One worker: start, accept, shut down."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from asgiref.typing import ASGI3Application

from flowserve.asgi.context import Context
from flowserve.asgi.loader import load
from flowserve.config import Config
from flowserve.errors import ConfigError
from flowserve.logs.loggers import logger
from flowserve.logs.trace import trace
from flowserve.metrics import WORKER_MEMORY
from flowserve.runtime.event_loop import first_of, uncancelled
from flowserve.runtime.exit import guard
from flowserve.runtime.memory import tune_memory
from flowserve.runtime.sd_notify import READY, STOPPING, notify
from flowserve.runtime.signals import handling
from flowserve.server.listen import url_of
from flowserve.server.recycling import memory
from flowserve.server.running import Running
from flowserve.server.shutdown import Shutdown, longest
from flowserve.server.snapshot import snapshot
from flowserve.server.tls import Certificates

_HANGUP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
_HASTE = 4.0
"""Seconds for the end, from a second signal on."""


class Server:
    """Serves one application in the running event loop; several servers can share a loop.

    Either `await serve()`, which returns when `should_exit` is set or a signal comes, or `await startup()` and later
    `await shutdown()`. `sockets` are the bound sockets once `started` is true: `server.sockets[0].getsockname()`
    tells the port.

    `worn`, if set, is called once with the reason when a --limit-max-requests or --workers-max limit is reached; left
    at None the server then ends by itself, as if `should_exit` were set. `signalled`, if set, is called in the event
    loop with each signal that `handle_exit()` gets, and decides what it means.

    With --metrics the server counts; set `serves_metrics` to False if another process serves the page, from what
    `snapshot()` returns. Set `announces` to False if it says itself in the log where the server listens, and when it
    has stopped. Set `owns_process` to True where nothing else runs: the garbage collector is tuned then.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.started = False
        self.worn: Callable[[str], None] | None = None
        self.signalled: Callable[[int], None] | None = None
        self.serves_metrics = True
        self.announces = True
        self.owns_process = False
        self._running: Running | None = None  # from its startup on; it stays when that is over
        self._loop: asyncio.AbstractEventLoop | None = None
        self._should_exit = False
        self._exit = asyncio.Event()
        self._app: ASGI3Application | None = None
        self._served = False
        self._ending: Shutdown | None = None
        self._cut = asyncio.Event()
        self._is_cut = False
        self._leave_by: float | None = None
        self._signal: int | None = None  # that ends it

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets that it listens on; empty before and after."""
        return [] if self._running is None else self._running.sockets

    @property
    def context(self) -> Context | None:
        """What its connections share; None before its startup."""
        return None if self._running is None else self._running.context

    @property
    def should_exit(self) -> bool:
        """Set it, from any thread, to end `serve()`."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        if value:
            self.call_soon(self._exit.set)

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call it soon, from any thread or signal handler; not at all without a loop."""
        with suppress(RuntimeError):  # a loop that is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *args)

    def load(self) -> None:
        """Import the application, and make it (--factory), before the event loop runs: Django's ORM, asyncio.run() and
        async_to_sync() work at import then, as they do in other programs.

        `serve()` and `startup()` do it inside the loop if it was not done before. Raises as `startup()` does. An
        application that needs the running loop at import is left to them.
        """
        try:
            self._app = load(self.config)
        except RuntimeError as error:
            if str(error) != "no running event loop":
                raise
            logger.info("The application needs a running event loop at import: importing it again, inside of one")

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Start, serve until SIGINT, SIGTERM or `should_exit`, and shut down.

        Signals are handled in the main thread only. A second one cuts the shutdown short. SIGHUP loads certificates
        anew. A service manager (NOTIFY_SOCKET) is told when it serves and when it stops. If it is cancelled it shuts
        down all the same, and is cut short by a second cancellation. Raises what `startup()` raises.
        """
        if self._app is None:
            self._app = load(self.config)  # before signals are handled, so that they can end a slow import
        at_once = {signal.SIGINT: self.handle_exit, signal.SIGTERM: self.handle_exit}
        with handling(dict.fromkeys(_HANGUP, self._on_hangup), at_once):
            await self._serve(sockets)

    async def _serve(self, sockets: Sequence[socket.socket] | None) -> None:
        self._loop = asyncio.get_running_loop()
        if self._should_exit:
            self._exit.set()
        try:
            if await self._started_by(asyncio.ensure_future(self.startup(sockets))):
                notify(READY)
                await self._exit.wait()
        finally:
            notify(STOPPING)
            await uncancelled(asyncio.ensure_future(self.shutdown()))

    async def _started_by(self, starting: asyncio.Future[None]) -> bool:
        """Wait for the startup, once an end is wanted no longer than for a request. Returns whether it took place."""
        try:
            await first_of(starting, self._exit)
            if not starting.done():
                if self._signal is not None:
                    logger.info("Waiting for the application's startup%s", self._hint())
                await first_of(starting, self._cut, self.config.timeout_graceful_shutdown)
        finally:
            starting.cancel()
            await asyncio.wait({starting})
        if not starting.cancelled():
            starting.result()
        return self.started

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Load the application, run its lifespan startup, and listen, on `sockets` (bound already) if given.

        Raises ConfigError for an application, address or certificate that does not work, and StartupFailed.
        """
        app = load(self.config) if self._app is None else self._app
        await self._start(app, sockets)

    @property
    def _notice(self) -> int:
        return logging.INFO if self.announces else logging.DEBUG

    async def _start(self, app: ASGI3Application, sockets: Sequence[socket.socket] | None) -> None:
        config = self.config
        self._loop = asyncio.get_running_loop()
        if config.log_level == "trace":
            app = trace(app, config.log_query)
        running = self._running = Running(app, config, sockets, self._on_worn, self._where())
        await running.start(self._collect if self.serves_metrics else None)
        self.started = self._served = True
        if self.owns_process:
            tune_memory()
        for sock in self.sockets:
            logger.log(self._notice, "Listening on %s", url_of(sock, config))

    async def shutdown(self) -> None:
        """Stop accepting, drain, let requests in progress complete, run the lifespan shutdown.

        The drain: the application is told by the event in its state, and WebSockets are closed with --ws-shutdown-code
        one after the other over --timeout-drain. All the rest must come to its end within --timeout-graceful-shutdown
        from then on; what is left is cut. The lifespan's shutdown then gets a few seconds more, as many as the requests
        had but five at most. `cut()` ends the waiting.
        """
        running = self._running
        if running is None or not self.started:
            return
        self.started = False
        context = running.context
        running.recycling.stop()
        context.shutting_down = context.late_websockets = True  # connections that are kept alive end from now on
        self._ending = Shutdown(context, self._where(), self._hint())
        self._leave_by = time.monotonic() + self.config.timeout_drain + self.config.timeout_graceful_shutdown
        self._expect_end()
        await self.stop_accepting()
        self._should_exit = True
        await self._ending.run(running.lifespan)
        context.timers.close()
        await running.stop_measuring()
        logger.log(self._notice, "Stopped")

    def cut(self) -> None:
        """Cut the shutdown short, from any thread: what is still open is ended now."""
        self.call_soon(self._cut.set)
        self._is_cut = True
        if self._ending is not None:
            self._ending.cut()
        self._expect_end()

    def _expect_end(self) -> None:
        """Where nothing else runs, see to it that the process ends in time, though its loop may be blocked."""
        if self._is_cut and self._ending is not None:
            self._ending.cut()
        if self.owns_process:
            guard.end_within(_HASTE if self._is_cut else longest(self.config) + _HASTE)

    def time_left(self) -> float:
        """Return the seconds that the application's threads have when all else has ended."""
        if self._is_cut:
            return 0.0
        if self._leave_by is None:
            return self.config.timeout_graceful_shutdown
        return max(0.0, self._leave_by - time.monotonic())

    @property
    def interrupted(self) -> signal.Signals | None:
        """The signal that came before it had served anything."""
        return None if self._served or self._signal is None else signal.Signals(self._signal)

    def _where(self) -> str:
        """What tells this process from others that log the same."""
        return "" if self.announces else f" (worker {os.getpid()})"

    def _hint(self) -> str:
        if self._signal is None:
            return self._where()
        again = "press Ctrl-C" if self._signal == signal.SIGINT else f"send {signal.Signals(self._signal).name}"
        return f"; {again} again to stop at once"

    def _on_worn(self, reason: str) -> None:
        if self.worn is not None:
            self.worn(reason)
        else:
            logger.info("Shutting down after %s, for a process manager to start the server anew", reason)
            self.should_exit = True

    def reload_certificates(self) -> None:
        """Load certificate and key anew: connections to come get them, open ones live on.

        Raises ConfigError, and keeps the old ones, when the new ones don't work. Without TLS there is nothing to do,
        and the log says so.
        """
        certificates = self._certificates
        if certificates is None:
            logger.info("There are no certificates to reload: TLS is off")
        else:
            certificates.reload()
            logger.info("New connections get the certificate that was loaded now")

    def snapshot(self) -> dict[str, Any]:
        """Return what --metrics has counted in this worker so far, as `metrics.Snapshot`; empty without it."""
        context = self.context
        if context is None or context.metrics is None:
            return {}
        found: dict[str, Any] = snapshot(context)
        with suppress(ConfigError):  # where the system does not tell
            found[WORKER_MEMORY] = {"": memory()}
        return found

    async def _collect(self) -> list[tuple[str, dict[str, Any]]]:
        return [("1", self.snapshot())]

    async def stop_accepting(self) -> None:
        """Close the listening sockets, but lose no connection that is there already. A part of `shutdown()`, which may
        also be done before."""
        if self._running is not None:
            # A program that calls shutdown() itself need not wait for clients from far away.
            await self._running.stop_accepting(wait=self._should_exit)

    @property
    def _certificates(self) -> Certificates | None:
        return None if self._running is None else self._running.certificates

    # Signals

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The handler of SIGINT and SIGTERM while `serve()` runs: shut down, and at once when it comes again.

        Libraries find the server by this method, as they find uvicorn's: a stream of server-sent events may end when
        `signal.getsignal(signal.SIGTERM).__self__.should_exit` is true.
        """
        if self.signalled is not None:
            self.should_exit = True
            self.call_soon(self.signalled, sig)
            return
        again = self._signal is not None
        self._signal = sig
        self.should_exit = True
        self.call_soon(self._on_exit, sig, again)
        if again:
            self.cut()
        else:
            self._expect_end()

    def _on_exit(self, sig: int, again: bool) -> None:
        logger.info("%s%s", signal.Signals(sig).name, " again: stopping at once" if again else ": shutting down")

    def _on_hangup(self, _number: signal.Signals) -> None:
        certificates = self._certificates
        if certificates is None:
            logger.info("SIGHUP: nothing to do; it reloads certificates, and TLS is off")
        else:
            certificates.reload_and_log()
