"""A server that the test plays: each connection to it runs a script over raw bytes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import ssl as tls
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trustme

from support.helpers import TEXT, close_payload, frame, until, within

TLS_OF_310 = pytest.mark.filterwarnings(
    "ignore:(?s).*_SSLProtocolTransport.__del__:pytest.PytestUnraisableExceptionWarning"
)
"""asyncio before Python 3.11 takes a TLS transport that the other end has closed for one left open."""

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Peer:
    """One connection, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""

    async def request(self) -> bytes:
        """Read a request's head."""
        self.head = await within(self.reader.readuntil(b"\r\n\r\n"))
        return self.head

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    def value(self, name: str) -> str | None:
        """The value of a request's field that stands at most once."""
        values = [
            value.strip().decode("latin-1")
            for line in self.head.split(b"\r\n")[1:]
            for key, _, value in [line.partition(b":")]
            if key.lower() == name.encode()
        ]
        assert len(values) <= 1
        return values[0] if values else None

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await within(self.writer.drain())

    def upgrade(self, *lines: str, accept: str | None = None) -> bytes:
        """The 101 that answers the request."""
        key = (self.value("sec-websocket-key") or "").encode()
        right = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        head += [f"Sec-WebSocket-Accept: {accept or right}", *lines, "", ""]
        return "\r\n".join(head).encode()

    async def open(self, *lines: str) -> None:
        """Read the request and open the WebSocket."""
        await self.request()
        await self.send(self.upgrade(*lines))

    async def refuse(self, status: str, *lines: str, body: bytes = b"") -> None:
        """Read the request and answer with `status`."""
        await self.request()
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""])
        await self.send(head.encode() + body)

    async def gone(self) -> bytes:
        """Wait until the client has hung up; what it sent before."""
        parts = []
        with contextlib.suppress(ConnectionError):
            while part := await within(self.reader.read(65536)):
                parts.append(part)
        return b"".join(parts)

    def cut(self) -> None:
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[Any]]


class Scripted:
    """`async with Scripted(first, second) as server`: the first connection plays the first script, and so on; the last
    one is played again and again. A script that fails fails the test."""

    def __init__(self, *scripts: Script, ssl: tls.SSLContext | None = None, path: str | None = None) -> None:
        self.scripts = scripts
        self.peers: list[Peer] = []
        self._ssl = ssl
        self._path = path
        self._tasks: list[asyncio.Task[None]] = []
        self._server: Any = None

    async def __aenter__(self) -> Scripted:
        if self._path is not None:
            self._server = await asyncio.start_unix_server(self._played, self._path)
        else:
            self._server = await asyncio.start_server(self._played, "127.0.0.1", 0, ssl=self._ssl)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            if exc[0] is not None:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await within(task)
        await within(self._server.wait_closed())

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def url(self, target: str = "/", host: str = "127.0.0.1", user: str = "") -> str:
        return f"ws{'s' if self._ssl else ''}://{user}{host}:{self.port}{target}"

    async def _played(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        peer = Peer(reader, writer)
        script = self.scripts[min(len(self.peers), len(self.scripts) - 1)]
        self.peers.append(peer)
        try:
            await script(peer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, tls.SSLError):
                await writer.wait_closed()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """What the body opens and starts, it must close and end."""
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("127.0.0.1", 80)  # what the loop opens for itself when first asked is no leak
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    server.close()
    await server.wait_closed()
    tasks, before = asyncio.all_tasks(), descriptors()
    yield
    await until(lambda: asyncio.all_tasks() <= tasks)
    await until(lambda: descriptors() <= before)


class Certificates:
    """A certificate authority, and contexts for both ends."""

    def __init__(self) -> None:
        self.authority = trustme.CA()

    def server(self, *names: str) -> tls.SSLContext:
        context = tls.SSLContext(tls.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
        return context

    def client(self) -> tls.SSLContext:
        context = tls.create_default_context()
        self.authority.configure_trust(context)
        return context


async def talk(peer: Peer) -> None:
    """A WebSocket that says hello and takes a close."""
    await peer.open()
    await peer.send(frame(TEXT, b"hello", mask=None))
    await closed(peer)


async def closed(peer: Peer) -> int:
    """Answer the client's close frame; its code."""
    first = await within(peer.reader.readexactly(6))
    assert first[0] == 0x88
    payload = await within(peer.reader.readexactly(first[1] & 0x7F))
    code = int.from_bytes(bytes(each ^ mask for each, mask in zip(payload[:2], first[2:], strict=False)), "big")
    await peer.send(frame(8, close_payload(code), mask=None))
    return code


async def silent(peer: Peer) -> None:
    await peer.gone()
