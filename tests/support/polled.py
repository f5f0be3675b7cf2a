"""Transports over a Poller, beside those of the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from flowserve.transport.listener import Listener
from flowserve.transport.poller import AVAILABLE, Poller
from support.helpers import until, within

polled = pytest.mark.skipif(not AVAILABLE, reason="there are no Pollers: not Linux, or not compiled")
TRANSPORTS = ("loop", pytest.param("poller", marks=polled))
"""Whose transports a test runs over."""


def new_poller() -> Poller:
    return Poller(asyncio.get_running_loop(), copy_context())


def listen(
    factory: Callable[[], Any], sock: socket.socket | None = None, on_shortage: Callable[[], None] = lambda: None
) -> Listener:
    """Return a Listener on a bound socket, by default one of 127.0.0.1. `factory` makes the protocols."""
    sock = sock or socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return Listener(new_poller(), sock, 100, factory, on_shortage)


async def connect_to(listener: Listener, **options: int) -> socket.socket:
    """Return a client's socket, with `options` of SOL_SOCKET by their names."""
    sock = listener.sockets[0]
    peer = socket.socket(sock.family)
    for name, value in options.items():
        peer.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    peer.setblocking(False)
    await within(asyncio.get_running_loop().sock_connect(peer, sock.getsockname()))
    return peer


async def polled_peer(protocol: Any, **options: int) -> socket.socket:
    """Return the socket of the peer of `protocol`, which has a transport over a Poller now; see `connect_to()`."""
    begun = False

    def begin() -> Any:
        nonlocal begun
        begun = True
        return protocol

    listener = listen(begin)
    peer = await connect_to(listener, **options)
    await until(lambda: begun)
    listener.close()
    return peer
