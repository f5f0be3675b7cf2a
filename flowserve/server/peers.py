"""Who is at the other end of a transport, and at this one."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from flowserve.server.listen import unix_name
from flowserve.server.tls import tls_info
from flowserve.transport.interfaces import Peer
from flowserve.transport.stream import extra_info


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Return both ends of a transport. A UNIX domain socket has a server path, and no client."""
    server = extra_info(transport, "sockname")
    client = extra_info(transport, "peername")
    secure = extra_info(transport, "sslcontext") is not None
    return Peer(
        (_unmapped(str(client[0])), int(client[1])) if isinstance(client, tuple) else None,
        _server_address(server) if server else None,
        secure,
        tls_info(transport) if secure else None,
    )


@functools.lru_cache(maxsize=64)
def _server_address(name: Any) -> tuple[str, int | None]:
    """One object for all connections that came in at the same address."""
    return (_unmapped(str(name[0])), int(name[1])) if isinstance(name, tuple) else (unix_name(name), None)


def _unmapped(host: str) -> str:
    """An IPv4 address as itself, where an IPv6 socket shows it as ::ffff:192.0.2.1 (RFC 4291 section 2.5.5.2)."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host
