"""One worker: start, accept, shut down, and the choice of the event loop."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from asgiref.typing import ASGI3Application

from flowserve import logs
from flowserve.asgi.lifespan import Lifespan
from flowserve.config import Config
from flowserve.context import Context
from flowserve.errors import ConfigError
from flowserve.loader import load
from flowserve.logs import logger
from flowserve.server.h1 import H1Connection
from flowserve.server.listen import bind, remove_path, tls_context
from flowserve.session import Outbox
from flowserve.websocket.backends import backend
from flowserve.websocket.deflate import DeflateSettings

_POLL = 0.02
"""Seconds between looks at what is still open during shutdown."""
_LIFESPAN_SHARE = 0.2
"""Of the time for a graceful shutdown: kept for the application's own shutdown when connections use up the rest."""


class Server:
    """Serves one application in the running event loop; several servers can share a loop.

    Either `await serve()`, which returns when `should_exit` is set or a signal comes, or `await startup()` and later
    `await shutdown()`. `sockets` are the bound sockets once `started` is true: `server.sockets[0].getsockname()`
    tells the port.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.started = False
        self.sockets: list[socket.socket] = []
        self.context: Context | None = None
        self._own_sockets = True
        self._servers: list[asyncio.AbstractServer] = []
        self._lifespan: Lifespan | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._should_exit = False
        self._exit = asyncio.Event()
        self._forced = False

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

        Signals are handled in the main thread only. A second one cuts the shutdown short. Raises what `startup()`
        raises.
        """
        app = load(self.config)  # before signals are handled, so that they can end a slow import
        with self._signals():
            await self._start(app, sockets)
            if not self._should_exit:
                await self._exit.wait()
            await self.shutdown()

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Load the application, run its lifespan startup, and listen, on `sockets` (bound already) if given.

        Raises ConfigError for an application, address or certificate that does not work, and StartupFailed.
        """
        await self._start(load(self.config), sockets)

    async def _start(self, app: ASGI3Application, sockets: Sequence[socket.socket] | None) -> None:
        config = self.config
        loop = self._loop = asyncio.get_running_loop()
        tls = tls_context(config)
        if config.log_level == "trace":
            app = logs.trace(app)
        self._own_sockets = sockets is None
        self.sockets = bind(config) if sockets is None else list(sockets)
        try:
            self.context = Context(app, config, loop, Outbox(loop))
            self._lifespan = Lifespan(self.context)
            await self._lifespan.startup()
            for sock in self.sockets:
                self._servers.append(await self._listen(sock, tls))
        except BaseException:
            self._close_sockets()
            raise
        self.started = True
        for sock in self.sockets:
            logger.info("Listening on %s", url_of(sock, config))

    async def _listen(self, sock: socket.socket, tls: Any) -> asyncio.AbstractServer:
        config = self.config
        assert self._loop is not None
        assert self.context is not None
        options: dict[str, Any] = {"sock": sock, "ssl": tls, "backlog": config.backlog}
        if tls is not None:
            options["ssl_handshake_timeout"] = config.timeout_header
        factory = partial(H1Connection, self.context, deflate_settings(config))
        create: Callable[..., Any] = self._loop.create_server
        if sock.family == getattr(socket, "AF_UNIX", None):
            create = self._loop.create_unix_server
        try:
            server: asyncio.AbstractServer = await create(factory, **options)
            return server
        except OSError as error:
            raise ConfigError(f"can't listen on {url_of(sock, config)}: {error.strerror}") from None

    async def shutdown(self) -> None:
        """Stop accepting, tell every WebSocket 1012, let requests in progress complete, run the lifespan shutdown.

        All of that within --timeout-graceful-shutdown; what is left then is cut.
        """
        assert self._loop is not None
        if not self.started:
            return
        self.started = False
        context, seconds = self.context, self.config.timeout_graceful_shutdown
        assert context is not None
        assert self._lifespan is not None
        end = self._loop.time() + seconds
        self._close_sockets()
        context.shutting_down = True
        for connection in list(context.live):
            connection.shutdown()
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
        logger.info("Stopped")

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

    def _close_sockets(self) -> None:
        for sock in self.sockets:
            if self._own_sockets:
                remove_path(sock)  # while it still knows its name
        for server in self._servers:
            server.close()
        self._servers.clear()
        for sock in self.sockets:
            sock.close()

    # Signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.getsignal(number)
            try:
                loop.add_signal_handler(number, self._on_signal, number)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda n, _: loop.call_soon_threadsafe(self._on_signal, signal.Signals(n)))
        try:
            yield
        finally:
            for number, handler in before.items():
                try:
                    loop.remove_signal_handler(number)
                except NotImplementedError:
                    pass
                signal.signal(number, handler)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._should_exit:
            logger.info("%s again: stopping at once", number.name)
            self._forced = True
        else:
            logger.info("%s: shutting down", number.name)
            self.should_exit = True


def url_of(sock: socket.socket, config: Config) -> str:
    """Return where a bound socket can be reached, for the log."""
    scheme = "https" if config.ssl else "http"
    address = sock.getsockname()
    if not isinstance(address, tuple):
        return f"{scheme}+unix:{address}"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{scheme}://{host}:{address[1]}"


def deflate_settings(config: Config) -> DeflateSettings | None:
    """Return what the configuration says of permessage-deflate, None when it is off. Raises ConfigError."""
    if not config.ws_per_message_deflate:
        return None
    backend()  # a wrong FLOWSERVE_ZLIB is to be noticed now
    return DeflateSettings(
        config.ws_deflate_context,
        config.ws_deflate_level,
        config.ws_deflate_server_window_bits,
        config.ws_deflate_client_window_bits,
        config.ws_deflate_mem_level,
        config.ws_deflate_threshold,
    )


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop called `name`: auto, uvloop or asyncio. Raises ConfigError without uvloop."""
    if name != "asyncio":
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise ConfigError("--loop: uvloop is not installed; install it or use --loop asyncio") from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


def run(app: str | Callable[..., Any], **options: Any) -> None:
    """Serve `app` until a signal ends it, as the command does; `options` are those of `Config`.

    Raises ConfigError, StartupFailed, and whatever the application's module raises when it is imported.
    """
    config = Config(app, **options)
    logs.setup(config)
    run_config(config)


def run_config(config: Config) -> None:
    """Serve until a signal ends it, in an event loop of its own. Raises what `Server.startup()` raises."""
    factory = loop_factory(config.loop)

    async def main() -> None:
        await Server(config).serve()

    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
    else:
        loop = factory()
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(main())
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
