"""A WebSocket client in literal bytes, which shares no code with flowserve (RFC 6455, RFC 7692)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import struct
import time
import zlib
from dataclasses import dataclass
from random import Random
from typing import Any

from compliance.chaos.messages import Message

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TRICKLE = 1.0
"""Seconds."""
OFFERS = (
    "",
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=10",
)


class Refused(Exception):
    """The handshake was answered with something else than 101."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}: {body[:80]!r}")
        self.status = status
        self.body = body


class Broken(Exception):
    """The server has sent what it must not."""


@dataclass
class Closed(Exception):
    """The server's close frame, or the end of the connection without one (1006)."""

    code: int
    reason: str = ""


class Deflate:
    """The client's half of permessage-deflate, as the server's answer has it."""

    def __init__(self, answer: str, rng: Random) -> None:
        bits = re.search(r"client_max_window_bits=(\d+)", answer)
        self.bits = int(bits[1]) if bits else 15
        self.client_keeps = "client_no_context_takeover" not in answer
        self.server_keeps = "server_no_context_takeover" not in answer
        self.level = rng.choice((1, 6, 9))
        self.compressor: Any = None
        self.decompressor: Any = None

    def compress(self, data: bytes) -> bytes:
        if self.compressor is None or not self.client_keeps:
            self.compressor = zlib.compressobj(self.level, zlib.DEFLATED, -self.bits)
        compressed: bytes = self.compressor.compress(data) + self.compressor.flush(zlib.Z_SYNC_FLUSH)
        return compressed[:-4]

    def decompress(self, data: bytes) -> bytes:
        if self.decompressor is None or not self.server_keeps:
            self.decompressor = zlib.decompressobj(-15)
        inflated: bytes = self.decompressor.decompress(data + b"\0\0\xff\xff")
        return inflated


def encode(opcode: int, payload: bytes, rng: Random, fin: bool = True, compressed: bool = False) -> bytes:
    """One masked frame."""
    first = opcode | (0x80 if fin else 0) | (0x40 if compressed else 0)
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    mask = rng.randbytes(4)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def encode_close(code: int | None, reason: str, rng: Random) -> bytes:
    return encode(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode(), rng)


class Wire:
    """An open WebSocket over a pair of streams. One task sends, another may receive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: Random) -> None:
        self.reader = reader
        self.writer = writer
        self.rng = rng
        self.deflate: Deflate | None = None
        self.trickle = False
        self.writing = False
        self.pongs: list[bytes] = []

    # The handshake

    async def open(self, target: str, offer: str) -> None:
        """Raises Refused, Broken, or Closed when the server closes without a word."""
        key = base64.b64encode(self.rng.randbytes(16))
        await self.write(handshake(target, key, offer))
        head = await self.head()
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            raise Refused(status, await self.reader.readexactly(int(length[1])) if length else b"")
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        if accept not in head:
            raise Broken(f"no {accept!r} in {head!r}")
        agreed = re.search(r"(?i)\r\nsec-websocket-extensions: *([^\r]+)", head.decode("latin-1"))
        if agreed:
            self.deflate = Deflate(agreed[1], self.rng)

    async def head(self) -> bytes:
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed(1006) from None

    # Sending

    async def write(self, data: bytes) -> None:
        """Send bytes: whole, in a few pieces, or one by one."""
        self.writing = True
        try:
            await write(self.writer, data, self.rng, self.trickle)
        finally:
            self.writing = False
        self.answer_pings()

    async def send(self, message: Message) -> None:
        """Send a message: in one frame or several, with pings between them, compressed or not."""
        payload = message if isinstance(message, bytes) else message.encode()
        compressed = self.deflate is not None and self.rng.random() < 0.8
        if compressed:
            payload = self.deflate.compress(payload)  # type: ignore[union-attr]
        parts = cut(payload, self.rng)
        opcode = BINARY if isinstance(message, bytes) else TEXT
        frames = b""
        for place, part in enumerate(parts):
            frames += encode(opcode, part, self.rng, place == len(parts) - 1, compressed and place == 0)
            opcode = CONTINUATION
            if self.rng.random() < 0.1:
                frames += encode(self.rng.choice((PING, PONG)), self.rng.randbytes(self.rng.randrange(126)), self.rng)
        await self.write(frames)

    def answer_pings(self) -> None:
        """Send what the server's pings ask for, unless a frame is half sent."""
        if self.writing or self.writer.is_closing():
            return
        for payload in self.pongs:
            self.writer.write(encode(PONG, payload, self.rng))
        self.pongs.clear()

    # Receiving

    async def receive(self) -> Message:
        """The next message. Raises Closed, and Broken for what RFC 6455 does not allow."""
        opcode, first, compressed = -1, True, False
        payload = bytearray()
        while True:
            head, part = await self.frame()
            kind, fin = head & 0x0F, head & 0x80
            if kind & 8:
                self.control(kind, head, part)
                continue
            if (kind == CONTINUATION) == first:
                raise Broken(f"opcode {kind} {'at the begin' if first else 'in the middle'} of a message")
            if first:
                opcode, compressed, first = kind, bool(head & 0x40), False
            payload += part
            if fin:
                break
        data = bytes(payload)
        if compressed:
            if self.deflate is None:
                raise Broken("a compressed message, though nothing was agreed on")
            data = self.deflate.decompress(data)
        return data if opcode == BINARY else data.decode()

    async def frame(self) -> tuple[int, bytes]:
        """A frame's first byte and payload."""
        try:
            head, size = await self.reader.readexactly(2)
            if size & 0x80:
                raise Broken("a masked frame of a server")
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8), "big")
            return head, await self.reader.readexactly(size) if size else b""
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed(1006) from None

    def control(self, kind: int, head: int, payload: bytes) -> None:
        if kind == CLOSE:
            code = struct.unpack("!H", payload[:2])[0] if payload else 1005
            raise Closed(code, payload[2:].decode())
        if kind == PING:
            self.pongs.append(payload)
            self.answer_pings()
        elif kind != PONG or head & 0x70 or not head & 0x80:
            raise Broken(f"a frame that begins with {head:#x}")


async def write(writer: asyncio.StreamWriter, data: bytes, rng: Random, trickle: bool) -> None:
    """Send whole, in a few pieces, or nearly byte by byte; the last for no longer than the server bears with it, on a
    machine that is busy."""
    place, until = 0, time.monotonic() + TRICKLE
    for piece in pieces(data, rng, trickle):
        late = time.monotonic() > until
        writer.write(data[place:] if late else piece)
        await writer.drain()
        if late:
            break
        place += len(piece)
        await asyncio.sleep(0)


def handshake(target: str, key: bytes, offer: str) -> bytes:
    """The client's opening handshake."""
    extensions = f"Sec-WebSocket-Extensions: {offer}\r\n" if offer else ""
    return (
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n{extensions}\r\n"
    ).encode()


def pieces(data: bytes, rng: Random, trickle: bool) -> list[bytes]:
    """Where the client cuts what it writes."""
    if trickle and data:
        places = [*range(min(64, len(data))), *range(64, min(400, len(data)), 5), *range(400, len(data), 100_000)]
        return [data[begin:end] for begin, end in zip(places, [*places[1:], len(data)], strict=True)]
    if len(data) < 2 or rng.random() < 0.7:
        return [data]
    place = rng.randrange(1, len(data))
    return [data[:place], data[place:]]


def cut(payload: bytes, rng: Random) -> list[bytes]:
    """The frames' payloads of one message."""
    if rng.random() < 0.7:
        return [payload]
    places = sorted(rng.randint(0, len(payload)) for _ in range(rng.randint(1, 5)))
    return [payload[begin:end] for begin, end in zip([0, *places], [*places, len(payload)], strict=True)]
