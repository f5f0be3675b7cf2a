"""Clients of HTTP, in literal bytes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import zlib

from compliance.chaos import wire
from compliance.chaos.application import PIECE, numbered
from compliance.chaos.peers import Peer, reset

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Cut(Exception):
    """The response has no proper end."""


def request(method: str, target: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


async def write(peer: Peer, writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send whole, in pieces, or its begin byte by byte."""
    await wire.write(writer, data, peer.rng, peer.rng.random() < 0.1)


async def response_head(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        raise Cut from None
    return int(head.split(b" ", 2)[1]), head


async def response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body. Raises Cut."""
    status, head = await response_head(reader)
    while status == 100:
        status, head = await response_head(reader)
    try:
        if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
            return status, await reader.readexactly(int(length[1]))
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    except (asyncio.IncompleteReadError, ConnectionError):
        raise Cut from None
    return status, body


async def get(peer: Peer) -> None:
    """Requests one after the other, or pipelined; each answer in its place."""
    rng, count = peer.rng, peer.rng.randint(1, 10)
    pipelined = rng.random() < 0.5
    peer.fault("pipelined" if pipelined else "keep-alive")
    names = [f"{peer.identity}.{number}" for number in range(count)]
    ways = ("direct", "blocking", "threaded", "lazy")
    requests = [request("GET", peer.target("get", identity=name, way=rng.choice(ways))) for name in names]
    async with peer.streams() as (reader, writer):
        if pipelined:
            await write(peer, writer, b"".join(requests))
        for name, one in zip(names, requests, strict=True):
            if not pipelined:
                await write(peer, writer, one)
            peer.record.requests[name] = {200}
            try:
                answer = await response(reader)
            except Cut:
                return peer.violate(f"no answer to {name}")
            peer.expect(answer == (200, name.encode()), f"{answer} to {name}")
            peer.record.messages += 1
    return None


async def pipelined_and_gone(peer: Peer) -> None:
    """Requests for whose answers the client does not wait."""
    async with peer.streams() as (_, writer):
        count = peer.rng.randint(1, 10)
        names = [f"{peer.identity}.{number}" for number in range(count)]
        data = b"".join(request("GET", peer.target("get", identity=name, way="lazy")) for name in names)
        data = data[: peer.rng.randint(1, len(data))]
        await write(peer, writer, data)
        await asyncio.sleep(peer.rng.random() * 0.02)
        peer.fault(leave(peer, writer, held=False))


async def stream(peer: Peer) -> None:
    """A streamed response: read at once, slowly, in part, or never; the application may fail on its way."""
    rng = peer.rng
    count, reading = rng.randint(1, 60), rng.choices(("prompt", "slow", "part", "never"), (5, 2, 2, 2))[0]
    fault = rng.choice(("", "", "", "raise", "cancel", "exit", "group", "task", "behind"))
    after = -1 if fault in ("", "behind") else rng.randint(0, count)
    peer.fault(f"reads: {reading}, application: {fault}".rstrip(": "))
    length = {"length": 1} if rng.random() < 0.5 else {}
    target = peer.target("stream", count=count, after=after, fault=fault, **length)
    async with peer.streams(0 if reading == "prompt" else 8192) as (reader, writer):
        await write(peer, writer, request("GET", target))
        if reading in ("part", "never"):
            peer.record.requests[peer.identity] = {200, 499, 500}
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await reader.readexactly(rng.randint(1, PIECE) if reading == "part" else 0)
            return peer.fault(leave(peer, writer))
        peer.record.requests[peer.identity] = {500 if after == 0 else 200}
        cut = 0 < after < count or (after == count and not length)
        await read_stream(peer, reader, count, after == 0, cut, 0.005 if reading == "slow" else 0)
    return None


async def read_stream(
    peer: Peer, reader: asyncio.StreamReader, count: int, failed: bool, cut: bool, pause: float
) -> None:
    """Compare a stream with what the application sends, and its end with what the application does."""
    if pause:
        await asyncio.sleep(pause * 20)
    try:
        status, body = await response(reader)
    except Cut:
        return peer.expect(cut, "cut")
    if failed:
        return peer.expect(status == 500, f"status {status}")
    peer.expect(not cut, "a response with its end, though the application failed")
    peer.expect(status == 200 and len(body) == count * PIECE, f"{status}, {len(body)} bytes of {count * PIECE}")
    for number in range(count):
        if body[number * PIECE : (number + 1) * PIECE] != numbered(peer.identity, number):
            return peer.violate(f"the piece {number} is not as it was sent")
    peer.record.messages += count
    return None


def leave(peer: Peer, writer: asyncio.StreamWriter, held: bool = True) -> str:
    """Reset, end, or stay without a word. Returns which."""
    how = peer.rng.choice(("reset", "fin", "silent"))
    if how == "silent" and held and peer.site.silence:
        peer.hold(writer)
        return how
    if how == "reset":
        reset(writer)
        return how
    return "fin"


async def events(peer: Peer) -> None:
    """Server-sent events, until the client leaves."""
    peer.record.requests[peer.identity] = {200, 499}
    async with peer.streams() as (reader, writer):
        await write(peer, writer, request("GET", peer.target("events")))
        await response_head(reader)
        for number in range(peer.rng.randint(0, 50)):
            size = int(await reader.readuntil(b"\r\n"), 16)
            data = await reader.readexactly(size + 2)
            wanted = b"data: %d\n\n\r\n" % number
            peer.expect(data == wanted, f"{data!r}, not {wanted!r}")
        peer.fault(leave(peer, writer, held=False))  # that one does not read a little cannot be seen


async def upload(peer: Peer) -> None:
    """A body: with a length or chunked, at once or in pieces, whole or cut."""
    rng = peer.rng
    body = rng.randbytes(rng.choice((0, 10, 5000, 300_000)))
    chunked, early, ending = rng.random() < 0.5, rng.random() < 0.15, rng.choice(("whole", "whole", "cut"))
    peer.fault(f"{'chunked' if chunked else 'length'} {'early' if early else ''} {ending}")
    fields = ["Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"]
    target = peer.target("upload", **({"early": 1} if early else {}))
    data = encode_chunks(body, peer) if chunked else body
    async with peer.streams() as (reader, writer):
        await write(peer, writer, request("POST", target, *fields))
        if ending == "cut" and data:
            peer.record.requests[peer.identity] = {200, 499, 408, 500}
            with contextlib.suppress(ConnectionError):
                await write(peer, writer, data[: rng.randrange(len(data))])
            return peer.fault(leave(peer, writer))
        peer.record.requests[peer.identity] = {200}
        with contextlib.suppress(ConnectionError):
            await write(peer, writer, data)
        try:
            answer = await response(reader)
        except Cut:
            return peer.violate("no answer")
        wanted = b"0 00000000" if early else b"%d %08x" % (len(body), zlib.crc32(body))
        peer.expect(answer == (200, wanted), f"{answer}, not {wanted!r}")
        peer.record.messages += 1
    return None


def encode_chunks(body: bytes, peer: Peer) -> bytes:
    """The body in chunks of many sizes; the first ones may be small."""
    chunks, place = b"", 0
    while place < len(body):
        part = body[place : place + peer.rng.choice((1, 100, 5000) if place < 5000 else (70_000, 9000))]
        chunks += b"%x\r\n%b\r\n" % (len(part), part)
        place += len(part)
    return chunks + b"0\r\n\r\n"


async def garbage(peer: Peer) -> None:
    """What is no HTTP: an error of the client's, or the end."""
    data = peer.rng.choice(
        (
            peer.rng.randbytes(200),
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /get/x HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
            b"POST /get/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET /get/x HTTP/9.9\r\nHost: a\r\n\r\n",
            b"GET /get/x HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        )
    )
    async with peer.streams() as (reader, writer):
        with contextlib.suppress(ConnectionError):
            await write(peer, writer, data)
            if writer.can_write_eof():
                writer.write_eof()
            answer = await reader.read(-1)
            fits = not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505"))
            peer.expect(fits, f"{answer[:60]!r} to {data[:60]!r}")


async def no_tls(peer: Peer) -> None:
    """The beginning of a TLS handshake, and no more; without TLS the beginning of a request."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + peer.rng.randbytes(500)
    data = hello if peer.site.tls else request("GET", peer.target("get"))
    reader, writer = await peer.connect(plain=True)
    del reader
    with contextlib.suppress(ConnectionError):
        await write(peer, writer, data[: peer.rng.randint(0, len(data) - 1)])
        await asyncio.sleep(peer.rng.random() * 0.01)
    peer.fault(leave(peer, writer))
    if writer not in peer.site.silent:
        writer.close()
