"""Clients that others wrote, and flowserve's own: an echo as their users write it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import flowserve
from compliance.chaos.application import SENDS
from compliance.chaos.messages import Message, make
from compliance.chaos.peers import Peer
from compliance.chaos.websocket_clients import WINDOW, head_of


async def foreign(peer: Peer) -> None:
    """The library websockets."""
    from websockets.asyncio.client import connect

    compression: Any = peer.rng.choice(("deflate", None))
    tls: dict[str, Any] = {} if peer.site.tls is None else {"ssl": peer.site.tls, "server_hostname": "localhost"}
    async with connect(uri(peer), compression=compression, proxy=None, max_size=None, **tls) as ws:
        await echo(peer, ws.send, ws.recv)
        await leave(peer, ws, ws.transport)


async def library(peer: Peer) -> None:
    """flowserve's own client."""
    context: Any = peer.rng.choice(("shared", "takeover"))
    tls: dict[str, Any] = {} if peer.site.tls is None else {"ssl": peer.site.tls, "server_hostname": "localhost"}
    compression: Any = peer.rng.choice(("deflate", None))
    async with flowserve.connect(uri(peer), compression=compression, deflate_context=context, proxy=None, **tls) as ws:
        await echo(peer, ws.send, ws.receive)
        await leave(peer, ws, None)


def uri(peer: Peer) -> str:
    target = peer.target("echo", way=peer.rng.choice(list(SENDS)))
    return f"{peer.site.scheme}://127.0.0.1:{peer.site.port}{target}"


async def echo(peer: Peer, send: Any, receive: Any) -> None:
    number = 0
    for _ in range(peer.rng.randint(0, 5)):
        messages: list[Message] = []
        while len(messages) < peer.rng.randint(1, 16) and sum(map(len, messages)) < WINDOW // 4:
            messages.append(make(peer.identity, number + len(messages), peer.rng))
        sending = asyncio.ensure_future(send_all(send, messages))
        try:
            for message in messages:
                echoed = await receive()
                peer.expect(echoed == message, f"wanted {head_of(message)}, got {head_of(echoed)}")
            await sending
        finally:
            sending.cancel()
        number += len(messages)
    peer.record.sent = peer.record.received = peer.record.messages = number


async def send_all(send: Any, messages: list[Message]) -> None:
    for message in messages:
        await send(message)


async def leave(peer: Peer, ws: Any, transport: Any) -> None:
    if transport is not None and peer.rng.random() < 0.3:
        peer.fault("abort")
        peer.record.codes = {1006}
        transport.abort()
        return
    code = peer.rng.choice((1000, 1001, 4321))
    peer.record.codes = {code}
    with contextlib.suppress(Exception):
        await ws.close(code)
    peer.expect(ws.close_code == code, f"closed with {ws.close_code}")
