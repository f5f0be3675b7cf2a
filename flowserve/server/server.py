"""One worker: startup, serving, signals and shutdown."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
from flowserve.runtime.event_loop import first_of, refuse_running_loop, run_until_done, uncancelled
from flowserve.runtime.exit import guard
from flowserve.runtime.memory import tune_memory
from flowserve.runtime.sd_notify import READY, STOPPING, notify
from flowserve.runtime.signals import again_hint
from flowserve.runtime.slow_step import noticed_if_slow
from flowserve.runtime.start_line import about
from flowserve.server.lasting import LastingTopics, loop_of
from flowserve.server.listen import url_of
from flowserve.server.recycling import memory
from flowserve.server.running import Running
from flowserve.server.shutdown import Shutdown, delay_of, log_delay, max_shutdown_time
from flowserve.server.signals import log_signal, signals_for
from flowserve.server.snapshot import snapshot
from flowserve.server.tls import Certificates

_FORCED_EXIT_TIME = 4.0
"""Seconds from `cut()` on, or beyond max_shutdown_time(), after which the process is ended, if the server owns it."""


class Server:
    """Serves one application in the running event loop; several servers can share a loop.

    Either `run()` or `await serve()`, which return when `should_exit` is set or after SIGINT or SIGTERM, or `await
    startup()` and later `await shutdown()`. `server.sockets[0].getsockname()` tells the port once `started` is true.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.started = False  # between the end of the startup and the begin of the shutdown
        # Called once with the reason when a --limit-max-requests or --workers-max limit is reached. If it is None, the
        # server shuts down then, as if `should_exit` were set.
        self.worn: Callable[[str], None] | None = None
        # Called in the event loop with each signal that `handle_exit()` gets, after that has set `should_exit`; it
        # decides what else to do. If it is None, the signal is logged, and a second one calls `cut()`.
        self.signalled: Callable[[int], None] | None = None
        self.serves_metrics = True  # False if another process serves the metrics page from `snapshot()`
        self.announces = True  # False if another process logs where the server listens and that it has stopped
        self._lasting: LastingTopics | None = None  # if the event loop ends with the server
        self._owns_process = False  # True if nothing else runs: the garbage collector is tuned, the exit guarded
        self._running: Running | None = None  # from the startup on; it is kept after the shutdown
        self._loop: asyncio.AbstractEventLoop | None = None
        self._should_exit = False
        self._exit = asyncio.Event()  # set with `should_exit`
        self._app: ASGI3Application | None = None  # set by `load()`
        self._has_started = False  # it was started once
        self._shutdown: Shutdown | None = None  # once the shutdown has begun
        self._cut_event = asyncio.Event()  # set by `cut()` in the event loop
        self._is_cut = False  # set by `cut()` at once
        self._exit_by: float | None = None  # end of the graceful shutdown, in time.monotonic()
        self._signal: int | None = None  # that ends the server
        self._delayed = False  # it has, but not yet: --shutdown-delay is not over

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets that it listens on; empty before the startup and after the shutdown."""
        return [] if self._running is None else self._running.sockets

    @property
    def servers(self) -> list[Any]:
        """The servers of the event loop that accept on `sockets`, each with an attribute `sockets`, as uvicorn's server
        has them."""
        return [] if self._running is None else self._running.acceptor.servers

    @property
    def _context(self) -> Context | None:
        """What its connections share; None before its startup."""
        return None if self._running is None else self._running.context

    @property
    def should_exit(self) -> bool:
        """Set to True, from any thread, to end `serve()`."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        if value:
            self._call_soon(self._exit.set)

    @property
    def force_exit(self) -> bool:
        """Set to True, from any thread, to cut the shutdown short, as `cut()` does."""
        return self._is_cut

    @force_exit.setter
    def force_exit(self, value: bool) -> None:
        if value:
            self.cut()

    def _call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function` in the event loop, from any thread or signal handler. Does nothing before the startup or if
        the loop is closed."""
        with suppress(RuntimeError):  # the loop is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *args)

    def load(self) -> None:
        """Import the application, and call its factory (--factory), before the event loop runs: Django's ORM,
        asyncio.run() and async_to_sync() then work at import, as in other programs.

        Otherwise `serve()` and `startup()` do this in the event loop, as they do for an application that needs the
        running loop at import. Raises as `startup()` does.
        """
        try:
            self._load()
        except RuntimeError as error:
            if str(error) != "no running event loop":
                raise
            logger.info("The application needs a running event loop at import: importing it again, inside of one")

    def _load(self) -> ASGI3Application:
        if self._app is None:
            with self.config._naming(), noticed_if_slow(f"the import of {self.config.app}{self._where()}"):
                self._app = load(self.config)
        return self._app

    def run(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve in a new event loop, the one that the option `loop` names, and return as `serve()` does. In a thread
        other than the main one no signal ends it: set `should_exit`.

        Logging is set up by the options, as by `Config.configure_logging()`, unless the program has given the logger
        `flowserve` or the root logger a handler. Raises RuntimeError in a running event loop, where `await serve()`
        does the same, and what `startup()` raises.
        """
        refuse_running_loop("Server.run()", "await server.serve()")
        if not logger.hasHandlers():
            self.config.configure_logging()
        with loop_of(self) as loop:
            self.load()
            run_until_done(loop, self.serve(sockets))

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Start, serve until SIGINT, SIGTERM or `should_exit`, and shut down.

        Signals are handled in the main thread only (see `capture_signals()`); of several servers in one event loop they
        reach all. A second SIGINT or SIGTERM cuts the shutdown short. SIGHUP reloads the certificates. A service
        manager (NOTIFY_SOCKET) is notified when the server is ready and when it stops. If this is cancelled, it shuts
        down all the same before it raises CancelledError. Raises what `startup()` raises.
        """
        self._load()  # before signals are handled, so that they can end a slow import
        with self.capture_signals():
            await self._serve(sockets)

    async def _serve(self, sockets: Sequence[socket.socket] | None) -> None:
        self._loop = asyncio.get_running_loop()
        if self._should_exit:
            self._exit.set()
        try:
            if await self._wait_for_startup(asyncio.ensure_future(self.startup(sockets))):
                notify(READY)
                await self._exit.wait()
        finally:
            notify(STOPPING)
            await uncancelled(asyncio.ensure_future(self.shutdown()))

    async def _wait_for_startup(self, starting: asyncio.Future[None]) -> bool:
        """Wait for the startup; once the server should exit, at most --timeout-graceful-shutdown. Return whether it has
        started."""
        try:
            await first_of(starting, self._exit)
            if not starting.done():
                if self._signal is not None:
                    logger.info("Waiting for the application's startup%s", self._stop_hint())
                await first_of(starting, self._cut_event, self.config.timeout_graceful_shutdown)
        finally:
            starting.cancel()
            await asyncio.wait({starting})
        if not starting.cancelled():
            starting.result()
        return self.started

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Load the application, run its lifespan startup, and listen on `sockets`, which are bound already, or on those
        of the configuration.

        Raises ConfigError for an application, address or certificate that can't be used, and StartupFailed if the
        application's lifespan startup fails.
        """
        app = self._load()
        with self.config._naming():
            await self._start(app, sockets)

    @property
    def _announcement_level(self) -> int:
        """The level of the log lines about listening and stopping."""
        return logging.INFO if self.announces else logging.DEBUG

    async def _start(self, app: ASGI3Application, sockets: Sequence[socket.socket] | None) -> None:
        config = self.config
        self._loop = asyncio.get_running_loop()
        if config.log_level == "trace":
            app = trace(app, config.log_query)
        running = self._running = Running(app, config, sockets, self._on_worn, self._where())
        await running.start(self._collect_metrics if self.serves_metrics else None)
        self.started = self._has_started = True
        if self._owns_process:
            tune_memory()
        for sock in self.sockets:
            last = self._owns_process and sock is self.sockets[-1]
            end = about(config.loop) if last else ""
            logger.log(self._announcement_level, "Listening on %s%s", url_of(sock, config), end)

    async def shutdown(self) -> None:
        """Stop accepting, drain, let requests in progress complete, run the lifespan shutdown.

        The drain sets the event of `flowserve.draining()` and closes WebSockets with --ws-shutdown-code one after the
        other over --timeout-drain. From then on all else must end within --timeout-graceful-shutdown; the rest is cut.
        The lifespan shutdown gets what is left of that time, at least `lifespan_seconds()`. `cut()` ends the waiting.
        """
        running = self._running
        if running is None or not self.started:
            return
        self.started = False
        context = running.context
        running.drain()
        context.shutting_down = context.late_websockets = True  # responses end their connections from now on
        self._shutdown = Shutdown(context, self._where(), self._stop_hint())
        self._exit_by = time.monotonic() + self.config.timeout_drain + self.config.timeout_graceful_shutdown
        self._limit_exit_time()
        await self.stop_accepting()
        self._should_exit = True
        await self._shutdown.run(running.lifespan)
        context.timers.close()
        await running.close(self._lasting)
        logger.log(self._announcement_level, "Stopped")

    def cut(self) -> None:
        """Cut the shutdown short, from any thread: everything that is still open is ended now."""
        self._call_soon(self._cut_event.set)
        self._is_cut = True
        if self._shutdown is not None:
            self._shutdown.cut()
        self._limit_exit_time()

    def _limit_exit_time(self, delay: float = 0.0) -> None:
        """If the server owns the process, have it end in time even if the event loop is blocked; the shutdown begins in
        `delay` seconds."""
        if self._is_cut and self._shutdown is not None:
            self._shutdown.cut()
        if self._owns_process:
            left = 0.0 if self._is_cut else delay + max_shutdown_time(self.config)
            guard.end_within(left + _FORCED_EXIT_TIME)

    def _time_left(self) -> float:
        """Return the seconds that the application's threads get to end, after everything else has ended."""
        if self._is_cut:
            return 0.0
        if self._exit_by is None:
            return self.config.timeout_graceful_shutdown
        return max(0.0, self._exit_by - time.monotonic())

    @property
    def _interrupted_by(self) -> signal.Signals | None:
        """The signal that ended the server before it had started; None otherwise."""
        return None if self._has_started or self._signal is None else signal.Signals(self._signal)

    def _where(self) -> str:
        """Return what is appended to log lines, so that they differ from those of other workers."""
        return "" if self.announces else f" (worker {os.getpid()})"

    def _stop_hint(self) -> str:
        """Return what is appended to log lines about waiting: how to end it."""
        if self._signal is None:
            return self._where()
        return again_hint(self._signal)

    def _on_worn(self, reason: str) -> None:
        if self.worn is not None:
            self.worn(reason)
        else:
            logger.info("Shutting down after %s, for a process manager to start the server anew", reason)
            self.should_exit = True

    def reload_certificates(self) -> None:
        """Load certificate and key again, for new connections; open ones are not affected.

        Raises ConfigError if the new ones can't be used, and keeps the old ones. Without TLS this only logs that there
        are none.
        """
        certificates = self._certificates
        if certificates is None:
            logger.info("There are no certificates to reload: TLS is off")
        else:
            with self.config._naming():
                certificates.reload()
            logger.info("New connections get the certificate that was loaded now")

    def snapshot(self) -> dict[str, Any]:
        """Return the metrics of this worker as a `metrics.Snapshot`, empty without --metrics."""
        running = self._running
        if running is None or running.context.metrics is None:
            return {}
        values: dict[str, Any] = snapshot(running.context, running.topics)
        with suppress(ConfigError):  # the system does not tell how much memory a process takes
            values[WORKER_MEMORY] = {"": memory()}
        return values

    async def _collect_metrics(self) -> list[tuple[str, dict[str, Any]]]:
        return [("1", self.snapshot())]

    async def stop_accepting(self) -> None:
        """Close the listening sockets without losing connections that are already established. A part of `shutdown()`,
        which may also be called before it."""
        if self._running is not None:
            # A program that calls shutdown() itself need not wait for TCP handshakes in progress.
            await self._running.stop_accepting(wait=self._should_exit)

    @property
    def _certificates(self) -> Certificates | None:
        return None if self._running is None else self._running.certificates

    # Signals

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """What `serve()` runs in: SIGINT and SIGTERM call `handle_exit()`, SIGHUP reloads the certificates; afterwards
        the handlers are those of before. A subclass whose `capture_signals()` only yields leaves signals to the
        program."""
        if getattr(self.install_signal_handlers, "__func__", None) is not Server.install_signal_handlers:
            self.install_signal_handlers()
            yield
            return
        with signals_for(self):
            yield

    def install_signal_handlers(self) -> None:
        """Does nothing. If it is replaced, it is called instead of handling signals, as older versions of uvicorn do:
        `server.install_signal_handlers = lambda: None` leaves signals to the program."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The handler of SIGINT and SIGTERM while `serve()` runs: shut down, after SIGTERM when --shutdown-delay is
        over. If called again, begin at once; then cut the shutdown short.

        Libraries find the server by this method, as they find uvicorn's, to end a stream of server-sent events when
        `signal.getsignal(signal.SIGTERM).__self__.should_exit` is true.
        """
        if self.signalled is not None:
            self.should_exit = True
            self._call_soon(self.signalled, sig)
            return
        delay = delay_of(self.config, sig)
        if delay and self.started and self._signal is None:
            self._signal, self._delayed = sig, True
            self._limit_exit_time(delay)
            self._call_soon(self._begin_delay, sig, delay)
            return
        again = self._signal is not None and not self._delayed
        self._signal, self._delayed = sig, False
        self.should_exit = True
        self._call_soon(log_signal, sig, again)
        self.cut() if again else self._limit_exit_time()

    def become_lame_duck(self) -> None:
        """Answer health checks (--health-path) with 503 from now on, and serve on as before."""
        if self._context is not None:
            self._context.lame_duck = True

    def _begin_delay(self, sig: int, delay: float) -> None:
        log_delay(self.config, sig)
        self.become_lame_duck()
        asyncio.get_running_loop().call_later(delay, self._end_delay, sig)

    def _end_delay(self, sig: int) -> None:
        if self._delayed:
            self._delayed = False
            log_signal(sig, False)
            self.should_exit = True

    def _on_hangup(self) -> None:
        certificates = self._certificates
        if certificates is None:
            logger.info("SIGHUP: nothing to do; it reloads certificates, and TLS is off")
        else:
            certificates.reload_and_log()
