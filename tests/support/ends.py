"""Both ends of a WebSocket of the library: the face that users see, and a raw peer that speaks in literal bytes.

`async with open_ends(role, **options) as (ws, peer)`: `ws` is in that role. The peer masks, and expects masks, as the
other role has to.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from flowserve import Config, Server
from flowserve.asgi.websocket import TAKE_SESSION
from flowserve.client.connect import connect
from flowserve.library.websocket import WebSocket
from support.helpers import Client, Frame, frame, masked, within

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ServerEnd(Client):
    """The far end of a client: what `helpers.Client` is to a server."""

    async def request(self) -> bytes:
        """The head of the client's request."""
        return await within(self.reader.readuntil(b"\r\n\r\n"))

    async def accept(self, *headers: str, follow: bytes = b"") -> bytes:
        """Answer the opening handshake; `follow` goes out in the same segment. Gives the request."""
        request = await self.request()
        lines = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept_key(request)}", *headers)
        head = "HTTP/1.1 101 Switching Protocols\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"
        await self.raw(head.encode() + follow)
        return request

    async def send_frame(
        self, opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, mask: bytes | None = None
    ) -> None:
        await self.raw(frame(opcode, payload, fin=fin, rsv=rsv, mask=mask))

    async def frame(self) -> Frame:
        """A frame from the client, which has to mask it."""
        first, second = await self.exactly(2)
        assert second & 0x80, "a client must mask"
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self.exactly(2 if size == 126 else 8), "big")
        mask = await self.exactly(4)
        return Frame(first & 0x0F, masked(await self.exactly(size), mask), bool(first & 0x80), first >> 4 & 7)


def accept_key(request: bytes) -> str:
    """Sec-WebSocket-Accept for the key in a request's head."""
    (key,) = (line[18:].strip() for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
    return base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()


class RawServer(NamedTuple):
    """Listens; `await next()` is the next connection's raw end."""

    address: tuple[str, int]
    ends: asyncio.Queue[ServerEnd]

    @property
    def uri(self) -> str:
        return f"ws://{self.address[0]}:{self.address[1]}/"

    async def next(self) -> ServerEnd:
        return await within(self.ends.get())


@contextlib.asynccontextmanager
async def raw_server(*, ssl: Any = None, receive_buffer: int | None = None) -> AsyncIterator[RawServer]:
    """A server that does nothing by itself; `receive_buffer` (bytes) narrows the kernel's."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.bind(("127.0.0.1", 0))
    opened: list[ServerEnd] = []
    ends: asyncio.Queue[ServerEnd] = asyncio.Queue()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(ServerEnd(reader, writer, writer.get_extra_info("socket")))
        ends.put_nowait(opened[-1])

    server = await asyncio.start_server(connected, sock=sock, ssl=ssl)
    try:
        yield RawServer(sock.getsockname(), ends)
    finally:
        server.close()
        for end in opened:
            await end.aclose()


class Doorman:
    """An application that accepts every WebSocket and puts the library's face on it."""

    def __init__(self) -> None:
        self.opened: asyncio.Queue[WebSocket] = asyncio.Queue()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":  # a request that asks for no WebSocket
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await receive()
        taken: list[Any] = []
        await send({"type": "websocket.accept", TAKE_SESSION: lambda *given: taken.append(given[0])})
        ws = WebSocket(taken[0], None)
        self.opened.put_nowait(ws)
        await ws.wait_closed()


@contextlib.asynccontextmanager
async def face_server(**options: Any) -> AsyncIterator[tuple[Server, Doorman]]:
    """A server whose WebSockets the test uses through the library's face. Options as the library names them."""
    doorman = Doorman()
    named = {f"ws_{name}": value for name, value in options.items() if name not in ("compression", "server")}
    if "max_size" in options:
        named["ws_max_size"] = options["max_size"] or 1 << 62
    named["ws_per_message_deflate"] = options.get("compression", "deflate") is not None
    defaults = {"port": 0, "lifespan": "off", "timeout_graceful_shutdown": 0.2, "ws_close_timeout": 2.0}
    server = Server(Config(doorman, **{**defaults, **named, **options.get("server", {})}))
    await within(server.startup())
    try:
        yield server, doorman
    finally:
        await within(server.shutdown())


async def _open(uri: str, options: dict[str, Any]) -> WebSocket:
    return await connect(uri, **options)


@contextlib.asynccontextmanager
async def open_ends(
    role: str, *headers: str, receive_buffer: int | None = None, **options: Any
) -> AsyncIterator[tuple[WebSocket, Client]]:
    """A WebSocket in `role` and its raw peer, past the opening handshake. `headers` are the peer's."""
    options.setdefault("close_timeout", 2.0)
    if role == "client":
        async with raw_server(receive_buffer=receive_buffer) as server:
            opening = asyncio.ensure_future(_open(server.uri, options))
            peer: Client = await server.next()
            await peer.accept(*headers)  # type: ignore[attr-defined]
            ws = await within(opening)
            try:
                yield ws, peer
            finally:
                ws.abort()
                await within(ws.wait_closed())
    else:
        async with face_server(**options) as (server, doorman):
            client = await Client.connect(server.sockets[0].getsockname(), receive_buffer=receive_buffer)
            await client.upgrade("/", *headers)
            ws = await within(doorman.opened.get())
            try:
                yield ws, client
            finally:
                await client.aclose()
                ws.abort()
                await within(ws.wait_closed())
