"""Clients that come and go for as long as the soak lasts: all kinds of traffic, at a moderate and even pace.

They use the application and the clients in literal bytes of compliance.chaos, and compare all that comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import Awaitable, Callable
from random import Random

from compliance.chaos.application import PIECE, numbered
from compliance.chaos.http_clients import request, response
from compliance.chaos.messages import check, make
from compliance.chaos.peers import Peer, Site, reset
from compliance.chaos.websocket_clients import close, truncate
from compliance.chaos.wire import Closed, Wire


class Crowd:
    """All clients of one server."""

    def __init__(self, site: Site, until: float, load: float) -> None:
        self.site = site
        self.until = until
        self.load = load
        self.messages = 0  # and requests, that were answered as they should be
        self.clients = 0
        self.failures: list[str] = []

    async def run(self) -> None:
        lanes = [self.lane(kind, number) for kind, count in LANES.items() for number in range(count)]
        await asyncio.gather(*lanes)

    async def lane(self, kind: Kind, number: int) -> None:
        rng = Random(f"{kind.__name__} {number}")
        await asyncio.sleep(rng.random() * 10)  # not all at once
        turn = 0
        while time.monotonic() < self.until:
            turn += 1
            self.clients += 1
            peer = Peer(self.site, f"{kind.__name__}.{number}.{turn}", kind.__name__, rng)
            try:
                await kind(self, peer)
            except Exception as error:
                self.failures.append(f"{peer.identity}: {type(error).__name__}: {error}")
                await asyncio.sleep(1)
            self.failures += peer.record.violations

    async def pause(self, peer: Peer, seconds: float) -> None:
        await asyncio.sleep(peer.rng.uniform(0.5, 1.5) * seconds / self.load)

    def lives(self, peer: Peer, seconds: float) -> float:
        """The end of a client that lives about as long."""
        return min(self.until, time.monotonic() + peer.rng.uniform(0.2, 1.8) * seconds)


Kind = Callable[[Crowd, Peer], Awaitable[None]]


async def small_echo(crowd: Crowd, peer: Peer) -> None:
    await echo(crowd, peer, 30, 0.05, 1000)


async def large_echo(crowd: Crowd, peer: Peer) -> None:
    await echo(crowd, peer, 30, 1.0, 250_000)


async def echo(crowd: Crowd, peer: Peer, life: float, pause: float, size: int) -> None:
    """Messages there and back, compressed where the client offered it."""
    end, number = crowd.lives(peer, life), 0
    async with peer.websocket("echo") as wire:
        while time.monotonic() < end:
            message = make(peer.identity, number, peer.rng, peer.rng.randint(0, size))
            await wire.send(message)
            peer.expect(await wire.receive() == message, f"the echo of {number} differs")
            crowd.messages += 1
            number += 1
            await crowd.pause(peer, pause)
        await leave(peer, wire)


async def leave(peer: Peer, wire: Wire) -> None:
    """Close in order, mostly."""
    if peer.rng.random() < 0.8:
        await close(peer, wire)
    else:
        reset(wire.writer)


async def subscriber(crowd: Crowd, peer: Peer) -> None:
    """One of those that get what any of them sends."""
    end = crowd.lives(peer, 30)
    async with peer.websocket("hub") as wire:
        sending = asyncio.ensure_future(publish(crowd, peer, wire))
        try:
            while time.monotonic() < end:
                with contextlib.suppress(asyncio.TimeoutError):
                    check(await asyncio.wait_for(wire.receive(), 2))
                    crowd.messages += 1
        finally:
            sending.cancel()
        reset(wire.writer)


async def publish(crowd: Crowd, peer: Peer, wire: Wire) -> None:
    number = 0
    while True:
        await wire.send(make(peer.identity, number, peer.rng, peer.rng.randint(0, 500)))
        number += 1
        await crowd.pause(peer, 0.7)


async def idle(crowd: Crowd, peer: Peer) -> None:
    """A connection on which nothing happens but pings."""
    async with peer.websocket("echo") as wire:
        try:
            await asyncio.wait_for(wire.receive(), crowd.lives(peer, 60) - time.monotonic())
        except asyncio.TimeoutError:
            await leave(peer, wire)
        except Closed as closed:
            peer.violate(f"closed with {closed.code} {closed.reason}")


async def keep_alive(crowd: Crowd, peer: Peer) -> None:
    end = crowd.lives(peer, 20)
    async with peer.streams() as (reader, writer):
        while time.monotonic() < end:
            writer.write(request("GET", peer.target("get")))
            peer.expect(await response(reader) == (200, peer.identity.encode()), "another answer")
            crowd.messages += 1
            await crowd.pause(peer, 0.1)


async def short(crowd: Crowd, peer: Peer) -> None:
    """A connection for a single request."""
    async with peer.streams() as (reader, writer):
        writer.write(request("GET", peer.target("get"), *["Connection: close"] * peer.rng.randrange(2)))
        peer.expect(await response(reader) == (200, peer.identity.encode()), "another answer")
        crowd.messages += 1
    await crowd.pause(peer, 0.3)


async def upload(crowd: Crowd, peer: Peer) -> None:
    body = peer.rng.randbytes(peer.rng.randint(0, 300_000))
    async with peer.streams() as (reader, writer):
        writer.write(request("POST", peer.target("upload"), f"Content-Length: {len(body)}") + body)
        wanted = b"%d %08x" % (len(body), zlib.crc32(body))
        peer.expect(await response(reader) == (200, wanted), "another answer")
        crowd.messages += 1
    await crowd.pause(peer, 1)


async def download(crowd: Crowd, peer: Peer) -> None:
    count = peer.rng.randint(1, 30)
    async with peer.streams() as (reader, writer):
        writer.write(request("GET", peer.target("stream", count=count)))
        _, body = await response(reader)
        whole = b"".join(numbered(peer.identity, number) for number in range(count))
        peer.expect(len(body) == count * PIECE and body == whole, "another response")
        crowd.messages += 1
    await crowd.pause(peer, 1)


async def events(crowd: Crowd, peer: Peer) -> None:
    """Server-sent events, until the client leaves."""
    end = crowd.lives(peer, 20)
    async with peer.streams() as (reader, writer):
        writer.write(request("GET", peer.target("events", period=0.5)))
        await reader.readuntil(b"\r\n\r\n")
        while time.monotonic() < end:
            await reader.readuntil(b"\n\n\r\n")
            crowd.messages += 1


async def aborted(crowd: Crowd, peer: Peer) -> None:
    """An upload, a download or a WebSocket that ends in its middle."""
    kind = peer.rng.choice(("upload", "download", "websocket"))
    if kind == "websocket":
        async with peer.websocket("echo") as wire:
            await truncate(peer, wire)
    else:
        async with peer.streams() as (reader, writer):
            if kind == "upload":
                writer.write(request("POST", peer.target("upload"), "Content-Length: 50000") + bytes(20_000))
            else:
                writer.write(request("GET", peer.target("stream", count=40)))
                await reader.readexactly(10_000)
            if peer.rng.random() < 0.7:
                reset(writer)
    await crowd.pause(peer, 0.7)


LANES: dict[Kind, int] = {
    small_echo: 10,
    large_echo: 2,
    subscriber: 8,
    idle: 60,
    keep_alive: 5,
    short: 3,
    upload: 1,
    download: 2,
    events: 4,
    aborted: 3,
}
"""How many of each there are at a time."""
