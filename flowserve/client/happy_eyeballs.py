"""Connecting over TCP to a host that has several addresses (RFC 8305).

aiohappyeyeballs does it for every event loop: asyncio's own can, uvloop can't.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from aiohappyeyeballs import start_connection
from aiohappyeyeballs.types import AddrInfoType

ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried too (RFC 8305 section 5, "Connection Attempt Delay")."""


async def open_socket(
    host: str, port: int, local_addr: tuple[str, int] | None, arguments: Mapping[str, Any]
) -> socket.socket:
    """Return a socket connected to (`host`, `port`), bound to `local_addr` unless it is None.

    The addresses are tried in the order of the resolver, its families in turns; each has ATTEMPT_DELAY seconds, then
    the next one is tried beside it. The first that connects is taken and the others are closed. `arguments` may have
    `family`, `proto`, `flags`, `happy_eyeballs_delay` (seconds; None tries one after the other) and `interleave`, with
    the meaning of asyncio's `create_connection()`. Raises OSError, with the errors of all addresses.
    """
    lookup = {name: arguments[name] for name in ("family", "proto", "flags") if name in arguments}
    addresses = await _resolve(host, port, lookup)
    local = None if local_addr is None else await _resolve(*local_addr, lookup)
    race = asyncio.ensure_future(
        start_connection(
            addresses,
            local_addr_infos=local,
            happy_eyeballs_delay=arguments.get("happy_eyeballs_delay", ATTEMPT_DELAY),
            interleave=arguments.get("interleave"),
        )
    )
    # In a task of its own, as a cancellation gets lost that arrives while start_connection() closes the other sockets.
    try:
        await asyncio.wait({race})
    except asyncio.CancelledError:
        race.add_done_callback(_close)
        race.cancel()
        await asyncio.wait({race})
        raise
    return race.result()


def _close(race: asyncio.Future[socket.socket]) -> None:
    if not race.cancelled() and race.exception() is None:
        race.result().close()


async def _resolve(host: str, port: int, lookup: Mapping[str, Any]) -> list[AddrInfoType]:
    """Return the addresses of a host; one that is an address itself needs no resolver, and no thread for it."""
    flags = lookup.get("flags", 0)
    try:
        numeric = {**lookup, "flags": flags | socket.AI_NUMERICHOST}
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, **numeric))
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, **lookup))
