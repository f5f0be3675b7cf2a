"""What every client needs: random numbers, connections, the ways to leave, and a record of what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random

from compliance._servers import HOST
from compliance.chaos.wire import OFFERS, Closed, Wire

LIMIT = 64 * 1024


@dataclass
class Site:
    """The server as clients know it."""

    port: int
    tls: ssl.SSLContext | None
    seed: str
    policy: str
    silence: bool = True  # whether clients may fall silent and stay
    silent: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def scheme(self) -> str:
        return "wss" if self.tls else "ws"


@dataclass
class Record:
    """What a client did, and what the server's log may say of it."""

    identity: str
    behaviour: str
    fault: str = ""
    codes: set[int] = field(default_factory=set)  # of the WebSocket's end
    sent: int | None = None  # messages, where the server has to have taken all
    received: int | None = None  # messages, where the server has to have sent no others
    missing: int = 0  # messages that the server has to have dropped
    messages: int = 0
    requests: dict[str, set[int]] = field(default_factory=dict)  # identity -> statuses
    violations: list[str] = field(default_factory=list)


class Peer:
    """One client. All that it does follows from the seed and its number."""

    def __init__(self, site: Site, identity: str, behaviour: str, rng: Random) -> None:
        self.site = site
        self.rng = rng
        self.identity = identity
        self.record = Record(identity, behaviour)

    def violate(self, what: str) -> None:
        self.record.violations.append(f"{self.identity} ({self.record.behaviour}, {self.record.fault}): {what}")

    def expect(self, true: bool, what: str) -> None:
        if not true:
            self.violate(what)

    def fault(self, name: str) -> None:
        self.record.fault = f"{self.record.fault} {name}".strip()

    def target(self, name: str, **options: object) -> str:
        """A path of the application's; `identity` among the options stands in for this client's own."""
        identity = options.pop("identity", self.identity)
        query = "".join(f"&{key}={value}" for key, value in options.items())
        return f"/{name}/{identity}?seed={self.site.seed}/{self.identity}{query}"

    # Connections

    async def connect(self, buffer: int = 0, plain: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A pair of streams; `buffer` is the size of the kernel's buffer for what is received."""
        sock = socket.socket()
        sock.setblocking(False)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (HOST, self.site.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = None if plain else self.site.tls
            name = "localhost" if tls else None
            return await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name, limit=LIMIT)
        except BaseException:
            sock.close()
            raise

    @contextlib.asynccontextmanager
    async def streams(self, buffer: int = 0) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await self.connect(buffer)
        try:
            yield reader, writer
        finally:
            if writer not in self.site.silent:
                await end(writer)

    @contextlib.asynccontextmanager
    async def websocket(self, name: str, buffer: int = 0, **options: object) -> AsyncIterator[Wire]:
        """An open WebSocket, with a random offer of compression."""
        async with self.streams(buffer) as (reader, writer):
            wire = Wire(reader, writer, self.rng)
            if self.rng.random() < 0.1:
                wire.trickle = True
                self.fault("trickle")
            await wire.open(self.target(name, **options), self.rng.choice(OFFERS))
            yield wire

    def hold(self, writer: asyncio.StreamWriter) -> None:
        """Fall silent: neither read nor write, and stay until the end of the run."""
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        self.site.silent.append(writer)


async def end(writer: asyncio.StreamWriter) -> None:
    """Close in order."""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        writer.close()
        await asyncio.wait_for(writer.wait_closed(), 5)
    writer.transport.abort()


def reset(writer: asyncio.StreamWriter) -> None:
    """Cut the connection with a RST (SO_LINGER of zero)."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def closing(wire: Wire) -> Closed:
    """Read up to the server's close frame, or the end."""
    while True:
        try:
            await wire.receive()
        except Closed as closed:
            return closed
