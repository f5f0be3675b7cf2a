"""Transports for clients: TCP, UNIX domain sockets or a socket that is connected already; and TLS over them."""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from flowserve.client.proxies import Proxy, find_proxy, tunnel
from flowserve.client.uri import URI
from flowserve.config import Config
from flowserve.errors import ConfigError
from flowserve.library.timeout import Deadline


@dataclass(frozen=True, slots=True)
class TLSOptions:
    """Whom to trust: `ssl` is the context for TLS, None for the system's authorities, or those in `ca_file` (PEM)."""

    ssl: tls.SSLContext | None = None
    ca_file: str | None = None
    _made: list[tls.SSLContext] = field(default_factory=list, compare=False, repr=False)

    def context(self) -> tls.SSLContext:
        """The context, made once. Raises ConfigError for a `ca_file` that can't be read."""
        if self.ssl is not None:
            return self.ssl
        if not self._made:
            try:
                context = tls.create_default_context(cafile=self.ca_file)
            except (OSError, tls.SSLError) as error:
                raise ConfigError(f"ca_file: {self.ca_file}: {error}") from None
            context.set_alpn_protocols(["http/1.1"])
            self._made.append(context)
        return self._made[0]


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach the server that a URI names; by default through TCP, at the host and port that it says.

    `server_hostname` is the name that the certificate must have, if not the URI's host. `host` and `port` connect there
    instead, `uds` to a UNIX domain socket, `sock` is connected already. `local_addr` is this end's (host, port).
    `proxy` is the URL of one, True for what the environment says, None for none; `proxy_trust` is for https:// ones,
    and `proxy_server_hostname` the name that their certificate must have. `network`, `tls` and `proxy_tls` are further
    arguments for the event loop: for its create_connection(), and for its start_tls() with the server and the proxy.
    """

    trust: TLSOptions = field(default_factory=TLSOptions)
    server_hostname: str | None = None
    host: str | None = None
    port: int | None = None
    uds: str | None = None
    sock: socket.socket | None = None
    local_addr: tuple[str, int] | None = None
    proxy: str | Literal[True] | None = True
    proxy_trust: TLSOptions = field(default_factory=TLSOptions)
    proxy_server_hostname: str | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, Any] = field(default_factory=dict)
    proxy_tls: Mapping[str, Any] = field(default_factory=dict)

    def destination(self, uri: URI) -> tuple[str, int]:
        """The host and port to connect to."""
        return self.host or uri.host, self.port or uri.port

    def proxy_for(self, uri: URI) -> Proxy | None:
        """The proxy to go through, if any. Raises InvalidProxy."""
        if self.proxy is None or self.uds is not None or self.sock is not None:
            return None
        return find_proxy(self.proxy, uri.secure, *self.destination(uri))


class Paused(asyncio.Protocol):
    """The protocol of a new transport: nothing is read until another takes over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).pause_reading()


async def dial(uri: URI, route: Route, config: Config, user_agent: str | None, deadline: Deadline) -> asyncio.Transport:
    """Return a transport to the server, its reading paused.

    Raises OSError, ssl.SSLError for a certificate that is not trusted, InvalidProxy and ProxyError. `user_agent` is
    for the proxy.
    """
    host, port = route.destination(uri)
    proxy = route.proxy_for(uri)
    if proxy is None:
        transport = await _connect(route, host, port, deadline)
    else:
        transport = await _connect(route, proxy.host, proxy.port, deadline)
    try:
        if proxy is not None:
            if proxy.secure:
                name = route.proxy_server_hostname or proxy.host
                transport = await _encrypt(transport, route.proxy_trust, name, route.proxy_tls, deadline)
            deadline.doing = f"waiting for {proxy} to connect to {uri.place}"
            await tunnel(transport, proxy, host, port, user_agent, config)
        if uri.secure:
            name = route.server_hostname or uri.host.partition("%")[0]
            transport = await _encrypt(transport, route.trust, name, route.tls, deadline)
    except BaseException:
        transport.abort()
        raise
    return transport


async def _connect(route: Route, host: str, port: int, deadline: Deadline) -> asyncio.Transport:
    """Return a transport without TLS; to (`host`, `port`) unless the route names a socket."""
    loop = asyncio.get_running_loop()
    if route.sock is not None:
        deadline.doing = "taking over the socket"
        route.sock.setblocking(False)
        transport, _ = await loop.create_connection(Paused, sock=route.sock)
    elif route.uds is not None:
        deadline.doing = f"connecting to {route.uds}"
        transport, _ = await loop.create_unix_connection(Paused, route.uds)
    else:
        deadline.doing = f"connecting to {host}, port {port}"
        try:
            opening = loop.create_connection(Paused, host, port, local_addr=route.local_addr, **route.network)
        except TypeError:  # uvloop takes fewer arguments than asyncio
            raise ConfigError(f"{', '.join(route.network)}: the event loop has no such argument") from None
        transport, _ = await opening
    return transport


async def _encrypt(
    transport: asyncio.Transport, trust: TLSOptions, name: str, timeouts: Mapping[str, Any], deadline: Deadline
) -> asyncio.Transport:
    """Return a transport with TLS over `transport`, whose certificate is that of `name`; its reading is paused."""
    deadline.doing = f"shaking hands for TLS with {name}"
    loop = asyncio.get_running_loop()
    try:
        secured = await loop.start_tls(transport, Paused(), trust.context(), server_hostname=name, **timeouts)
    except TypeError as error:
        if "not supported by start_tls" not in str(error):
            raise
        raise ConfigError("wss:// through an https:// proxy needs Python 3.11, or uvloop") from None
    except ConnectionError as error:
        if str(error):
            raise
        raise ConnectionResetError(f"the connection was closed during the TLS handshake with {name}") from None
    assert secured is not None  # as the types have it
    secured.pause_reading()
    return secured
