"""Transports for clients: over TCP, a UNIX domain socket or a socket that is already connected, with or without TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from flowserve.client.happy_eyeballs import open_socket
from flowserve.client.hosts import certificate_name, in_brackets
from flowserve.client.proxies import Proxy, find_proxy, tunnel
from flowserve.client.socks_proxy import open_tunnel
from flowserve.client.tls import client_context
from flowserve.client.uri import URI
from flowserve.config import Config
from flowserve.errors import ConfigError
from flowserve.library.timeout import Deadline


@dataclass(frozen=True, slots=True)
class TLSOptions:
    """How to verify a server: by the TLS context `ssl`, or if it is None by the certificate authorities in `ca_file`
    (PEM), or else by those of the system."""

    ssl: tls.SSLContext | None = None
    ca_file: str | None = None

    def context(self) -> tls.SSLContext:
        """Return the TLS context. Raises ConfigError if `ca_file` cannot be read."""
        if self.ssl is not None:
            return self.ssl
        try:
            return client_context(self.ca_file)
        except (OSError, tls.SSLError) as error:
            raise ConfigError(f"ca_file: {self.ca_file}: {error}") from None


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach the server that a URI names; by default over TCP at the URI's host and port."""

    tls_options: TLSOptions = field(default_factory=TLSOptions)
    """How to verify the server of a wss:// URI."""
    server_hostname: str | None = None
    """The name that the server's certificate must have; None for the URI's host."""
    host: str | None = None
    port: int | None = None
    """Connect to these instead of the URI's."""
    uds: str | None = None
    """Connect to the UNIX domain socket with this path instead."""
    sock: socket.socket | None = None
    """Use this socket, which is already connected, instead."""
    local_addr: tuple[str, int] | None = None
    """The local (host, port) to bind to before connecting."""
    proxy: str | Literal[True] | None = True
    """The URL of a proxy, True for the one that the environment or the system names, None for none."""
    proxy_tls_options: TLSOptions = field(default_factory=TLSOptions)
    """How to verify an https:// proxy."""
    proxy_server_hostname: str | None = None
    """The name that the proxy's certificate must have; None for the proxy's host."""
    connect_arguments: Mapping[str, Any] = field(default_factory=dict)
    """How to look up addresses and try them; see `open_socket()`."""
    tls_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments for the event loop's start_tls() with the server."""
    proxy_tls_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments for the event loop's start_tls() with the proxy."""

    def destination(self, uri: URI) -> tuple[str, int]:
        """Return the host and port of the server, which a proxy connects to if there is one."""
        return self.host or uri.host, self.port or uri.port

    def proxy_for(self, uri: URI) -> Proxy | None:
        """Return the proxy to connect through, None for a direct connection. Raises InvalidProxy."""
        if self.proxy is None or self.uds is not None or self.sock is not None:
            return None
        return find_proxy(self.proxy, uri.secure, *self.destination(uri))


class Paused(asyncio.Protocol):
    """The protocol of a new transport: reading is paused until another protocol replaces it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).pause_reading()


async def dial(uri: URI, route: Route, config: Config, user_agent: str | None, deadline: Deadline) -> asyncio.Transport:
    """Connect to the server of `uri` as `route` says, with TLS for wss://; return the transport, with reading paused.

    `user_agent` is the User-Agent to send to a proxy, None for none. Sets `deadline.doing`. Raises
    OSError, ssl.SSLError for a certificate that is not trusted, ConfigError, InvalidProxy and ProxyError.
    """
    host, port = route.destination(uri)
    proxy = route.proxy_for(uri)
    if proxy is None:
        transport = await _connect(route, host, port, deadline)
    elif proxy.version is None:
        transport = await _connect(route, proxy.host, proxy.port, deadline)
    else:
        transport = await _connect_by_socks(route, proxy, host, port, deadline)
    try:
        if proxy is not None and proxy.version is None:
            if proxy.secure:
                name = route.proxy_server_hostname or proxy.host
                transport = await _encrypt(
                    transport, route.proxy_tls_options, name, route.proxy_tls_arguments, deadline
                )
            deadline.doing = f"waiting for {proxy} to connect to {uri.host_and_port}"
            await tunnel(transport, proxy, host, port, user_agent, config)
        if uri.secure:
            name = route.server_hostname or uri.host
            transport = await _encrypt(transport, route.tls_options, name, route.tls_arguments, deadline)
    except BaseException:
        transport.abort()
        raise
    return transport


async def _connect(route: Route, host: str, port: int, deadline: Deadline) -> asyncio.Transport:
    """Return a transport without TLS: to (`host`, `port`), or over the route's `sock` or `uds`."""
    loop = asyncio.get_running_loop()
    if route.uds is not None:
        deadline.doing = f"connecting to {route.uds}"
        transport, _ = await loop.create_unix_connection(Paused, route.uds)
        return transport
    if route.sock is not None:
        deadline.doing = "taking over the socket"
        route.sock.setblocking(False)
        sock = route.sock
    else:
        deadline.doing = f"connecting to {host}, port {port}"
        sock = await open_socket(host, port, route.local_addr, route.connect_arguments)
    transport, _ = await loop.create_connection(Paused, sock=sock)
    return transport


async def _connect_by_socks(route: Route, proxy: Proxy, host: str, port: int, deadline: Deadline) -> asyncio.Transport:
    """Return a transport to (`host`, `port`) through a SOCKS proxy."""

    async def connect_to_proxy() -> socket.socket:
        deadline.doing = f"connecting to {proxy.host}, port {proxy.port}"
        sock = await open_socket(proxy.host, proxy.port, route.local_addr, route.connect_arguments)
        deadline.doing = f"waiting for {proxy} to connect to {in_brackets(host)}:{port}"
        return sock

    sock = await open_tunnel(proxy, host, port, connect_to_proxy)
    transport, _ = await asyncio.get_running_loop().create_connection(Paused, sock=sock)
    return transport


async def _encrypt(
    transport: asyncio.Transport, options: TLSOptions, name: str, arguments: Mapping[str, Any], deadline: Deadline
) -> asyncio.Transport:
    """Do a TLS handshake over `transport` with a peer whose certificate must be for the host `name`; return the
    encrypted transport, with reading paused."""
    name = certificate_name(name)
    deadline.doing = f"shaking hands for TLS with {name}"
    loop = asyncio.get_running_loop()
    try:
        if transport.is_closing():  # uvloop reads on after pause_reading() in connection_made(), and would log an error
            raise ConnectionResetError
        secured = await loop.start_tls(transport, Paused(), options.context(), server_hostname=name, **arguments)
    except TypeError as error:
        if "not supported by start_tls" not in str(error):
            raise
        raise ConfigError("wss:// through an https:// proxy needs Python 3.11, or uvloop") from None
    except ConnectionError as error:
        if str(error):
            raise
        raise ConnectionResetError(f"the connection was closed during the TLS handshake with {name}") from None
    assert secured is not None  # typeshed declares the result as optional
    secured.pause_reading()
    return secured
