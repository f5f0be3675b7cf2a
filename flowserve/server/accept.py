"""Accepting connections at a bound socket."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from flowserve.compression import deflate_settings
from flowserve.context import Context
from flowserve.errors import ConfigError
from flowserve.server.h1 import H1Connection
from flowserve.server.listen import url_of
from flowserve.server.proxy_protocol import ProxiedConnection
from flowserve.server.tls import Certificates, tls_timeouts
from flowserve.websocket.constants import Role


async def accept_on(sock: socket.socket, context: Context, certificates: Certificates | None) -> asyncio.AbstractServer:
    """Accept connections at `sock` from now on, over TLS with `certificates`. Raises ConfigError."""
    config = context.config
    options: dict[str, Any] = {"sock": sock, "backlog": config.backlog}
    tls = certificates.context if certificates is not None else None
    factory: Callable[[], Any] = partial(H1Connection, context, deflate_settings(config, Role.SERVER))
    if config.proxy_protocol:
        factory = partial(ProxiedConnection, context, factory, tls)
    elif tls is not None:
        options["ssl"] = tls
        options |= tls_timeouts(config)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        # Accepted sockets inherit it; asyncio sets it only where it knows the protocol to be TCP.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    create: Callable[..., Any] = context.loop.create_server
    if sock.family == getattr(socket, "AF_UNIX", None):
        create = context.loop.create_unix_server
        if sys.version_info >= (3, 13):
            options["cleanup_socket"] = False  # whoever made the path removes it
    try:
        server: asyncio.AbstractServer = await create(factory, **options)
        return server
    except OSError as error:
        raise ConfigError(f"can't listen on {url_of(sock, config)}: {error.strerror}") from None
