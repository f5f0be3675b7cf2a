"""Accepting connections on bound sockets, as long as there are file descriptors for them."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from flowserve.asgi.context import Context
from flowserve.errors import ConfigError
from flowserve.logs.loggers import logger
from flowserve.runtime.event_loop import accepts_per_iteration
from flowserve.server.admission import Admission
from flowserve.server.descriptors import spare_descriptors
from flowserve.server.h1_connection import H1Connection
from flowserve.server.listen import url_of
from flowserve.server.proxy_protocol import ProxiedConnection
from flowserve.server.tls import Certificates, tls_timeouts
from flowserve.session.opening import deflate_settings
from flowserve.transport.listener import Listener
from flowserve.transport.poller import AVAILABLE, Poller
from flowserve.websocket.constants import Role

_CHECK_INTERVAL = 1.0
"""Seconds between checks of how many descriptors are left; a check also follows the acceptance of that many
connections."""
_PAUSED_CHECK_INTERVAL = 0.1
"""Seconds between checks while accepting is paused."""
_RESUME_AT = 4
"""Free descriptors beyond the reserve from which on accepting resumes."""
_ACCEPT_BACKLOG = 4
"""Connections that asyncio's loop accepts in an iteration: by default as many as its backlog is long, which may exceed
the descriptors that are left."""
_ACCEPT_ITERATIONS = 3
"""Iterations of the event loop within which asyncio creates the connections of what it has accepted."""


class Acceptor:
    """Accepts connections on bound sockets. It listens on duplicates: the sockets stay the caller's.

    While descriptors run short (see `descriptors`) it does not accept, and new connections wait in the kernel's
    backlog. That is logged at most once a second; `where` is appended to the log lines. `paused` is true meanwhile.
    """

    def __init__(self, context: Context, certificates: Certificates | None = None, where: str = "") -> None:
        config = context.config
        self._context = context
        self._loop = context.loop
        self._where = where
        self._options: dict[str, Any] = {}
        self.admission = Admission(context)
        deflate = deflate_settings(config, Role.SERVER)
        self._factory: Callable[[], Any] = partial(H1Connection, context, self.admission, deflate)
        tls = certificates.context if certificates is not None else None
        if config.proxy_protocol:
            self._factory = partial(ProxiedConnection, context, self.admission, self._factory, tls)
        elif tls is not None:
            self._options = {"ssl": tls, **tls_timeouts(config)}
        self._polls = AVAILABLE and tls is None  # TLS needs the event loop's transports
        self._poller: Poller | None = None  # from the start on
        self._sockets: list[socket.socket] = []
        self._servers: list[tuple[socket.socket, asyncio.AbstractServer | Listener]] = []
        self._accepts_left = 0  # connections that may be accepted before the next check
        self._timer: asyncio.TimerHandle | None = None
        self._transition: asyncio.Task[None] | None = None  # that pauses or resumes
        self._next_log_at = 0.0
        self.paused = False
        self._started = False
        self._stopped = False

    @property
    def servers(self) -> list[asyncio.AbstractServer | Listener]:
        """What accepts, each with an attribute `sockets`. Several may accept on one socket."""
        return [server for _, server in self._servers]

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Start accepting on `sockets`, over TLS if there are certificates. Raises ConfigError."""
        self._sockets = list(sockets)
        for sock in self._sockets:
            # Of a socket that blocks, dup() makes one that blocks, and with it all that processes have of it: another
            # worker, which a connection has woken that was then accepted by a third, would hang in accept().
            sock.setblocking(False)
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                # Accepted sockets inherit it; asyncio sets it only where it knows the protocol to be TCP.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._listen()
        self._started = True
        self._check_descriptors()

    async def stop(self) -> None:
        """Stop accepting without losing connections that are already accepted."""
        self._stopped = True
        await self._close_servers()
        self.close()

    def close(self) -> None:
        """Stop accepting at once."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        servers, self._servers = self._servers, []
        for _, server in servers:
            server.close()

    async def _listen(self) -> None:
        for sock in self._sockets:
            for _ in range(1 if self._polls else accepts_per_iteration(self._loop)):
                server = await self._create_server(sock)
                if self._stopped:
                    server.close()
                    return

    async def _create_server(self, sock: socket.socket) -> asyncio.AbstractServer | Listener:
        duplicate: socket.socket | None = None
        try:
            duplicate = sock.dup()
            server = await self._listen_on(duplicate)
            self._servers.append((duplicate, server))
        except OSError as error:
            if duplicate is not None:
                duplicate.close()
            raise ConfigError(f"can't listen on {url_of(sock, self._context.config)}: {error.strerror}") from None
        return server

    async def _listen_on(self, sock: socket.socket) -> asyncio.AbstractServer | Listener:
        backlog = self._context.config.backlog
        if self._polls:
            if self._poller is None:
                self._poller = Poller(self._loop, self._context.variables)
            return Listener(self._poller, sock, backlog, self._make_connection, self._on_shortage)
        options = {"backlog": _ACCEPT_BACKLOG if self._is_asyncio() else backlog, **self._options}
        create: Callable[..., Any] = self._loop.create_server
        if sock.family == getattr(socket, "AF_UNIX", None):
            create = self._loop.create_unix_server
            if sys.version_info >= (3, 13):
                options["cleanup_socket"] = False  # whoever created the path removes it
        server: asyncio.AbstractServer = await create(self._make_connection, sock=sock, **options)
        sock.listen(backlog)
        return server

    def _is_asyncio(self) -> bool:
        """Whether asyncio's own event loop accepts."""
        return not self._polls and isinstance(self._loop, asyncio.SelectorEventLoop)

    async def _close_servers(self) -> None:
        self._accept_no_more()
        if self._is_asyncio():  # asyncio drops what it has accepted in the iteration of close()
            for _ in range(_ACCEPT_ITERATIONS):
                await asyncio.sleep(0)
        servers, self._servers = self._servers, []
        for _, server in servers:
            server.close()

    def _accept_no_more(self) -> None:
        for duplicate, server in self._servers:
            if isinstance(server, Listener):
                server.close()
            elif self._is_asyncio():
                self._loop.remove_reader(duplicate)

    # Descriptors

    def _make_connection(self) -> Any:
        self._accepts_left -= 1
        if self._accepts_left <= 0:
            if self._polls or self._is_asyncio():
                self._check_descriptors()  # further connections may be accepted before a scheduled callback runs
            else:
                self._loop.call_soon(self._check_descriptors)  # uvloop is inside its accept callback
        return self._factory()

    def _check_descriptors(self) -> None:
        self._adjust(spare_descriptors())

    def _on_shortage(self) -> None:
        """Pause as none could be accepted, whatever the process has left: the system may have none."""
        self._adjust(0)

    def _adjust(self, spare: int) -> None:
        """Pause or resume, with so many descriptors left."""
        if self._timer is not None:
            self._timer.cancel()
        if self._stopped or not self._started:
            return
        self._accepts_left = spare
        if self._transition is None:
            if not self.paused and self._accepts_left <= 0:
                self.paused = True
                self._accept_no_more()
                self._begin(self._pause())
            elif self.paused and self._accepts_left >= _RESUME_AT:
                self._begin(self._resume())
        self._timer = self._loop.call_later(
            _PAUSED_CHECK_INTERVAL if self.paused else _CHECK_INTERVAL, self._check_descriptors
        )

    def _begin(self, transition: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(transition)
        self._transition = None if task.done() else task  # with asyncio.eager_task_factory it may be done at once

    async def _pause(self) -> None:
        why = "No descriptors are left for new connections (ulimit -n): they wait until others have ended%s"
        self._log(logging.ERROR, why)
        await self._close_servers()
        self._transition = None

    async def _resume(self) -> None:
        try:
            await self._listen()
            self.paused = False
            self._log(logging.INFO, "Connections are accepted again%s")
        except ConfigError as error:  # descriptors have run out again; the next check retries
            logger.debug("Still no connections are accepted: %s", error)
            await self._close_servers()
        finally:
            self._transition = None
        self._check_descriptors()

    def _log(self, level: int, what: str) -> None:
        if self._loop.time() >= self._next_log_at:
            self._next_log_at = self._loop.time() + 1
            logger.log(level, what, self._where)
