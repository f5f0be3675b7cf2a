"""Accepting connections at bound sockets, while there are descriptors for them."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from flowserve.asgi.context import Context
from flowserve.errors import ConfigError
from flowserve.logs.loggers import logger
from flowserve.runtime.event_loop import accepts_per_iteration
from flowserve.server.admission import Admission
from flowserve.server.descriptors import spare
from flowserve.server.h1_connection import H1Connection
from flowserve.server.listen import url_of
from flowserve.server.proxy_protocol import ProxiedConnection
from flowserve.server.tls import Certificates, tls_timeouts
from flowserve.session.opening import deflate_settings
from flowserve.websocket.constants import Role

_LOOK = 1.0
"""Seconds between looks at how many descriptors are left; there is one before these have been accepted, too."""
_WAIT = 0.1
"""Seconds between looks while none are accepted."""
_SLACK = 4
"""Descriptors that there must be, beyond the reserve, to accept again."""
_BURST = 4
"""Connections that asyncio's loop accepts in a turn: by itself it takes as many as its backlog is long, which is more
than there may be descriptors."""
_TURNS = 3
"""Turns of the event loop in which it makes connections of what it has accepted."""


class Acceptor:
    """Accepts connections at bound sockets, of which it has duplicates: the sockets stay their owner's.

    While descriptors run short (see `descriptors`) it accepts none, and newcomers wait in the kernel's backlog. The log
    is told, at most once a second; `where` ends its lines.
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
        self._sockets: list[socket.socket] = []
        self._servers: list[tuple[socket.socket, asyncio.AbstractServer]] = []
        self._left = 0  # connections that may be accepted before the next look
        self._timer: asyncio.TimerHandle | None = None
        self._change: asyncio.Task[None] | None = None
        self._next_word = 0.0
        self.paused = False
        self._started = False
        self._stopped = False

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept from now on, over TLS with the certificates. Raises ConfigError."""
        self._sockets = list(sockets)
        for sock in self._sockets:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                # Accepted sockets inherit it; asyncio sets it only where it knows the protocol to be TCP.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._listen()
        self._started = True
        self._look()

    async def stop(self) -> None:
        """Accept no more, but lose nothing that is accepted already."""
        self._stopped = True
        await self._halt()
        self.close()

    def close(self) -> None:
        """Accept no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        servers, self._servers = self._servers, []
        for _, server in servers:
            server.close()

    async def _listen(self) -> None:
        for sock in self._sockets:
            for _ in range(accepts_per_iteration(self._loop)):
                server = await self._server(sock)
                if self._stopped:
                    server.close()
                    return

    async def _server(self, sock: socket.socket) -> asyncio.AbstractServer:
        backlog = self._context.config.backlog
        options = {"backlog": _BURST if self._is_asyncio() else backlog, **self._options}
        create: Callable[..., Any] = self._loop.create_server
        if sock.family == getattr(socket, "AF_UNIX", None):
            create = self._loop.create_unix_server
            if sys.version_info >= (3, 13):
                options["cleanup_socket"] = False  # whoever made the path removes it
        own: socket.socket | None = None
        try:
            own = sock.dup()
            server: asyncio.AbstractServer = await create(self._make, sock=own, **options)
            self._servers.append((own, server))
            sock.listen(backlog)
        except OSError as error:
            if own is not None:
                own.close()
            raise ConfigError(f"can't listen on {url_of(sock, self._context.config)}: {error.strerror}") from None
        return server

    def _is_asyncio(self) -> bool:
        return isinstance(self._loop, asyncio.SelectorEventLoop)

    async def _halt(self) -> None:
        self._unwatch()
        if self._is_asyncio():  # it drops what it has accepted in the turn of close()
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        servers, self._servers = self._servers, []
        for _, server in servers:
            server.close()

    def _unwatch(self) -> None:
        if self._is_asyncio():
            for own, _ in self._servers:
                self._loop.remove_reader(own)

    # Descriptors

    def _make(self) -> Any:
        self._left -= 1
        if self._left <= 0:
            if self._is_asyncio():
                self._look()  # each turn that it goes on may be one too many
            else:
                self._loop.call_soon(self._look)  # it is in the midst of accepting
        return self._factory()

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._stopped or not self._started:
            return
        self._left = spare()
        if self._change is None:
            if not self.paused and self._left <= 0:
                self.paused = True
                self._unwatch()
                self._change = self._loop.create_task(self._pause())
            elif self.paused and self._left >= _SLACK:
                self._change = self._loop.create_task(self._resume())
        self._timer = self._loop.call_later(_WAIT if self.paused else _LOOK, self._look)

    async def _pause(self) -> None:
        why = "No descriptors are left for new connections (ulimit -n): they wait until others have ended%s"
        self._say(logging.ERROR, why)
        await self._halt()
        self._change = None

    async def _resume(self) -> None:
        try:
            await self._listen()
            self.paused = False
            self._say(logging.INFO, "Connections are accepted again%s")
        except ConfigError as error:  # again without descriptors; there is another look
            logger.debug("Still no connections are accepted: %s", error)
            await self._halt()
        finally:
            self._change = None
        self._look()

    def _say(self, level: int, what: str) -> None:
        if self._loop.time() >= self._next_word:
            self._next_word = self._loop.time() + 1
            logger.log(level, what, self._where)
