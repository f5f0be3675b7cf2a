"""One worker: start, accept, shut down."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from asgiref.typing import ASGI3Application

from flowserve import logs, metered
from flowserve.asgi.lifespan import Lifespan
from flowserve.compression import deflate_settings
from flowserve.config import Config
from flowserve.context import Context
from flowserve.errors import ConfigError
from flowserve.loader import load
from flowserve.logs import logger
from flowserve.loops import handling, run_in_loop, takers
from flowserve.metrics import WORKER_MEMORY, Metrics
from flowserve.outbox import Outbox
from flowserve.server import scrape
from flowserve.server.drain import drain
from flowserve.server.garbage import settle
from flowserve.server.gate import gate_of
from flowserve.server.h1 import H1Connection
from flowserve.server.listen import Listeners, url_of
from flowserve.server.notify import READY, STOPPING, notify
from flowserve.server.proxy_protocol import ProxiedConnection
from flowserve.server.quiesce import refuse_newcomers
from flowserve.server.tls import Certificates
from flowserve.server.wear import Wear, memory
from flowserve.websocket.constants import Role

_POLL = 0.02
"""Seconds between looks at what is still open during shutdown."""
_SETTLE = 0.05
"""Seconds for connections whose TCP handshake is under way."""
_TURNS = 3
"""Turns of the event loop in which it accepts what waits at its sockets, and makes connections of it."""
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_LIFESPAN_SHARE = 0.2
"""Of the time for a graceful shutdown: kept for the application's own shutdown when connections use up the rest."""


class Server:
    """Serves one application in the running event loop; several servers can share a loop.

    Either `await serve()`, which returns when `should_exit` is set or a signal comes, or `await startup()` and later
    `await shutdown()`. `sockets` are the bound sockets once `started` is true: `server.sockets[0].getsockname()`
    tells the port.

    `worn`, if set, is called once with the reason when a --limit-max-requests or --workers-max limit is reached; left
    at None the server then ends by itself, as if `should_exit` were set.

    With --metrics the server counts; set `serves_metrics` to False if another process serves the page, from what
    `snapshot()` returns. Set `announces` to False if it says itself in the log where the server listens, and when it
    has stopped. Set `owns_process` to True where nothing else runs: the garbage collector is tuned then.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.started = False
        self.worn: Callable[[str], None] | None = None
        self.serves_metrics = True
        self.announces = True
        self.owns_process = False
        self.sockets: list[socket.socket] = []
        self.context: Context | None = None
        self._listeners: Listeners | None = None
        self._certificates: Certificates | None = None
        self._servers: list[asyncio.AbstractServer] = []
        self._page: scrape.Page | None = None
        self._lifespan: Lifespan | None = None
        self._wear: Wear | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._should_exit = False
        self._exit = asyncio.Event()
        self._forced = False
        self._signalled = False

    @property
    def should_exit(self) -> bool:
        """Set it, from any thread, to end `serve()`."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        if value and self._loop is not None:
            self._loop.call_soon_threadsafe(self._exit.set)

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Start, serve until SIGINT, SIGTERM or `should_exit`, and shut down.

        Signals are handled in the main thread only. A second one cuts the shutdown short. SIGHUP loads certificates
        anew. A service manager (NOTIFY_SOCKET) is told when it serves and when it stops. Raises what `startup()`
        raises.
        """
        app = load(self.config)  # before signals are handled, so that they can end a slow import
        with handling(dict.fromkeys(_SIGNALS, self._on_signal)):
            await self._start(app, sockets)
            notify(READY)
            if not self._should_exit:
                await self._exit.wait()
            notify(STOPPING)
            await self.shutdown()

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Load the application, run its lifespan startup, and listen, on `sockets` (bound already) if given.

        Raises ConfigError for an application, address or certificate that does not work, and StartupFailed.
        """
        await self._start(load(self.config), sockets)

    @property
    def _notice(self) -> int:
        return logging.INFO if self.announces else logging.DEBUG

    async def _start(self, app: ASGI3Application, sockets: Sequence[socket.socket] | None) -> None:
        config = self.config
        loop = self._loop = asyncio.get_running_loop()
        self._certificates = Certificates(config) if config.ssl else None
        if config.log_level == "trace":
            app = logs.trace(app)
        self._listeners = Listeners(config) if sockets is None else None
        self.sockets = self._listeners.slot(0) if self._listeners is not None else list(sockets or ())
        try:
            self.context = Context(app, config, loop, Outbox(loop))
            self.context.gate = gate_of(self.context)
            self._wear = Wear(self.context, self._on_worn)
            await self._measure(self.context)
            self._lifespan = Lifespan(self.context)
            await self._lifespan.startup()
            for sock in self.sockets:
                for number in range(takers(loop)):
                    self._servers.append(await self._listen(sock.dup() if number else sock))
            if self._certificates is not None:
                self._certificates.watch(loop)
            self._wear.start()
        except BaseException:
            self._close_sockets()
            await self._stop_measuring()
            if self._wear is not None:
                self._wear.stop()
            raise
        self.started = True
        if self.owns_process:
            settle()
        for sock in self.sockets:
            logger.log(self._notice, "Listening on %s", url_of(sock, config))

    async def _listen(self, sock: socket.socket) -> asyncio.AbstractServer:
        config = self.config
        assert self._loop is not None
        assert self.context is not None
        options: dict[str, Any] = {"sock": sock, "backlog": config.backlog}
        tls = self._certificates.context if self._certificates is not None else None
        factory: Callable[[], Any] = partial(H1Connection, self.context, deflate_settings(config, Role.SERVER))
        if config.proxy_protocol:
            factory = partial(ProxiedConnection, self.context, factory, tls)
        elif tls is not None:
            options["ssl"] = tls
            options["ssl_handshake_timeout"] = config.ssl_handshake_timeout
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # Accepted sockets inherit it; asyncio sets it only where it knows the protocol to be TCP.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        create: Callable[..., Any] = self._loop.create_server
        if sock.family == getattr(socket, "AF_UNIX", None):
            create = self._loop.create_unix_server
            if sys.version_info >= (3, 13):
                options["cleanup_socket"] = False  # whoever made the path removes it
        try:
            server: asyncio.AbstractServer = await create(factory, **options)
            return server
        except OSError as error:
            raise ConfigError(f"can't listen on {url_of(sock, config)}: {error.strerror}") from None

    async def shutdown(self) -> None:
        """Stop accepting, drain, let requests in progress complete, run the lifespan shutdown.

        The drain: the application is told by the event in its state, and WebSockets are closed with --ws-shutdown-code
        one after the other over --timeout-drain. All the rest must come to its end within --timeout-graceful-shutdown
        from then on; what is left is cut. `cut()` ends the waiting.
        """
        assert self._loop is not None
        if not self.started:
            return
        self.started = False
        context, seconds = self.context, self.config.timeout_graceful_shutdown
        assert context is not None
        assert self._lifespan is not None
        assert self._wear is not None
        self._wear.stop()
        context.shutting_down = context.late_websockets = True  # connections that are kept alive end from now on
        await self.stop_accepting()
        await drain(context, self.config.timeout_drain, lambda: self._forced)
        end = self._loop.time() + seconds
        await self._wait(lambda: not context.live and not context.tasks, end - seconds * _LIFESPAN_SHARE)
        await self._cut(context)
        if not self._forced:
            lifespan = asyncio.ensure_future(self._lifespan.shutdown())
            await self._wait(lifespan.done, end)
            if not lifespan.done():
                logger.warning("The application's lifespan shutdown took too long; it is cut short")
                lifespan.cancel()
        self._lifespan.cancel()
        context.timers.close()
        await self._stop_measuring()
        logger.log(self._notice, "Stopped")

    def cut(self) -> None:
        """Cut the shutdown short: what is still open is ended now."""
        self._forced = True

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
        if self._certificates is None:
            logger.info("There are no certificates to reload: TLS is off")
        else:
            self._certificates.reload()
            logger.info("New connections get the certificate that was loaded now")

    def snapshot(self) -> dict[str, Any]:
        """Return what --metrics has counted in this worker so far, as `metrics.Snapshot`; empty without it."""
        if self.context is None or self.context.metrics is None:
            return {}
        found: dict[str, Any] = metered.snapshot(self.context)
        with suppress(ConfigError):  # where the system does not tell
            found[WORKER_MEMORY] = {"": memory()}
        return found

    async def _measure(self, context: Context) -> None:
        if self.config.metrics is not None:
            context.metrics = Metrics(context.loop)
            if self.serves_metrics:
                self._page = await scrape.listen(self.config, self._collect)

    async def _collect(self) -> list[tuple[str, dict[str, Any]]]:
        return [("1", self.snapshot())]

    async def _stop_measuring(self) -> None:
        if self.context is not None and self.context.metrics is not None:
            self.context.metrics.close()
        if self._page is not None:
            self._page.close()
            await self._page.wait_closed()

    async def _wait(self, done: Callable[[], bool], end: float) -> None:
        assert self._loop is not None
        while not done() and not self._forced and self._loop.time() < end:  # noqa: ASYNC110  (many things to wait for)
            await asyncio.sleep(_POLL)

    async def _cut(self, context: Context) -> None:
        """End what did not end by itself."""
        assert self._loop is not None
        if context.live or context.tasks:
            logger.warning(
                "Cutting %d connections and %d application tasks that are still open",
                len(context.live),
                len(context.tasks),
            )
        for connection in list(context.live):
            connection.abort()
        context.cancel_calls()
        self._forced, forced = False, self._forced
        await self._wait(lambda: not context.live and not context.tasks, self._loop.time() + 1.0)
        self._forced = forced

    async def stop_accepting(self) -> None:
        """Close the listening sockets, but lose no connection that is there already. A part of `shutdown()`, which may
        also be done before."""
        if self._listeners is not None:
            refuse_newcomers(self._listeners.bound)
            if self._should_exit:  # a program that calls shutdown() itself need not wait for clients from far away
                await asyncio.sleep(_SETTLE)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if isinstance(self._loop, asyncio.SelectorEventLoop):  # it drops what it has accepted in the turn of close()
            for sock in self.sockets:
                self._loop.remove_reader(sock)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        self._close_sockets()
        self.sockets = []

    def _close_sockets(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._certificates is not None:
            self._certificates.close()
        if self._listeners is not None:
            self._listeners.close()
        for sock in self.sockets:
            sock.close()

    # Signals

    def _on_signal(self, number: signal.Signals) -> None:
        if number.name == "SIGHUP":
            self._on_hangup()
        elif self._signalled:
            logger.info("%s again: stopping at once", number.name)
            self.cut()
        else:
            self._signalled = True
            logger.info("%s: shutting down", number.name)
            self.should_exit = True

    def _on_hangup(self) -> None:
        if self._certificates is None:
            logger.info("SIGHUP: nothing to do; it reloads certificates, and TLS is off")
        else:
            self._certificates.renew()


def run_config(config: Config) -> None:
    """Serve until a signal ends it, in an event loop of its own. Raises what `Server.startup()` raises."""

    async def main() -> None:
        server = Server(config)
        server.owns_process = True
        await server.serve()

    run_in_loop(config.loop, main)
