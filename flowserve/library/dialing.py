"""Transports for clients: TCP, TLS, UNIX domain sockets, or a socket that is connected already."""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from dataclasses import dataclass
from typing import Any, cast

from flowserve.errors import ConfigError
from flowserve.library.uri import URI


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach the server that a URI names; by default through TCP, at the host and port that it says.

    `ssl` is the context for wss, None for the system's authorities, or those in `ca_file` (PEM). `server_hostname` is
    the name that the certificate must have, if not the URI's host. `host` and `port` connect there instead, `uds` to a
    UNIX domain socket, `sock` is connected already. `local_addr` is this end's (host, port).
    """

    ssl: tls.SSLContext | None = None
    ca_file: str | None = None
    server_hostname: str | None = None
    host: str | None = None
    port: int | None = None
    uds: str | None = None
    sock: socket.socket | None = None
    local_addr: tuple[str, int] | None = None


class Paused(asyncio.Protocol):
    """The protocol of a new transport: nothing is read until another takes over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).pause_reading()


async def dial(uri: URI, route: Route) -> asyncio.Transport:
    """Return a transport to the server, its reading paused. Raises OSError, and ssl.SSLError for a certificate that
    is not trusted."""
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    if uri.secure:
        options["ssl"] = tls_context(route)
        options["server_hostname"] = route.server_hostname or uri.host
    if route.uds is not None:
        transport, _ = await loop.create_unix_connection(Paused, route.uds, **options)
    elif route.sock is not None:
        transport, _ = await loop.create_connection(Paused, sock=route.sock, **options)
    else:
        host, port = route.host or uri.host, route.port or uri.port
        transport, _ = await loop.create_connection(Paused, host, port, local_addr=route.local_addr, **options)
    return transport


def tls_context(route: Route) -> tls.SSLContext:
    """Return the context for wss. Raises ConfigError for a `ca_file` that can't be read."""
    if route.ssl is not None:
        return route.ssl
    try:
        context = tls.create_default_context(cafile=route.ca_file)
    except (OSError, tls.SSLError) as error:
        raise ConfigError(f"ca_file: {route.ca_file}: {error}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context
