# cython: language_level=3, annotation_typing=False, binding=False
"""The addresses of both ends of a transport."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from flowserve.server.listen import unix_name
from flowserve.server.tls import tls_info
from flowserve.transport.interfaces import Peer
from flowserve.transport.socket_transport import SocketTransport
from flowserve.transport.stream import extra_info


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Return the client, server and TLS information of a transport. With a UNIX domain socket, `server` is its path and
    `client` None."""
    if isinstance(transport, SocketTransport):
        server, client, secure = transport.sockname, transport.peername, False
    else:
        server = extra_info(transport, "sockname")
        client = extra_info(transport, "peername")
        secure = extra_info(transport, "sslcontext") is not None
    host = _client_address(client) if isinstance(client, tuple) else None
    # as Peer() does, in a third of the time
    return tuple.__new__(
        Peer, (host, _server_address(server) if server else None, secure, tls_info(transport) if secure else None)
    )


def _client_address(name: tuple[Any, ...]) -> tuple[str, int]:
    """Return host and port of a socket's name."""
    if len(name) == 2 and type(name[0]) is str:
        return name  # IPv4, in one object
    return _unmap(str(name[0])), int(name[1])


@functools.lru_cache(maxsize=64)
def _server_address(name: Any) -> tuple[str, int | None]:
    """Return the server's address, one object for all connections to it."""
    return (_unmap(str(name[0])), int(name[1])) if isinstance(name, tuple) else (unix_name(name), None)


def _unmap(host: str) -> str:
    """Return the IPv4 address in an IPv4-mapped IPv6 address, such as ::ffff:192.0.2.1 (RFC 4291 section 2.5.5.2)."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host
