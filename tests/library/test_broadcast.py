"""broadcast(): one message to many, framed and compressed once for all that are alike."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.ends import face_server, open_ends
from support.helpers import BINARY, TEXT, Client, Frame, until, within

from flowserve import metrics
from flowserve.library.broadcast import broadcast
from flowserve.library.properties import session_of
from flowserve.session import metered
from flowserve.websocket import deflate

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
SHARED = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"
RSV1 = 4
LONG = "hello, all of you " * 100


@pytest.fixture
async def many():
    """`faces, peers = await many([headers of one, headers of another, ...], **options)`: WebSockets of one server."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_many(headers: list[list[str]], receive_buffers: str = "wide", **options: Any):
            server, doorman = await stack.enter_async_context(face_server(**options))
            faces, peers = [], []
            for each in headers:
                narrow = 4096 if receive_buffers == "first narrow" and not peers else None
                peer = await Client.connect(server.sockets[0].getsockname(), receive_buffer=narrow)
                stack.push_async_callback(peer.aclose)
                await peer.upgrade("/", *each)
                peers.append(peer)
                faces.append(await within(doorman.opened.get()))
            return server, faces, peers

        yield open_many


Many = Callable[..., Awaitable[Any]]


@pytest.mark.parametrize(
    ("message", "options", "wanted"),
    [
        ("für alle", {}, Frame(TEXT, "für alle".encode())),
        (bytearray(b"\xff"), {}, Frame(BINARY, b"\xff")),
        (b"text", {"text": True}, Frame(TEXT, b"text")),
        ("bytes", {"text": False}, Frame(BINARY, b"bytes")),
        ("x" * 100_000, {"compress": False}, Frame(TEXT, b"x" * 100_000)),
    ],
)
async def test_all_get_the_message(many: Many, message, options, wanted):
    _, faces, peers = await many([[], [OFFER], []])
    broadcast(set(faces), message, **options)
    assert [await peer.frame() for peer in peers] == [wanted] * 3
    await faces[0].send("and on")
    assert (await peers[0].frame()).payload == b"and on"


async def test_clients_mask_each_for_itself():
    async with open_ends("client") as (one, far), open_ends("client", SHARED) as (other, away):
        broadcast([one, other], "short")
        broadcast([one, other], LONG)
        for peer in (far, away):
            assert await peer.frame() == Frame(TEXT, b"short")
        assert await far.frame() == Frame(TEXT, LONG.encode())
        got = await away.frame()
        assert got.rsv == RSV1
        assert zlib.decompressobj(-15).decompress(got.payload) == LONG.encode()


async def test_one_compression_for_all_that_agreed_alike(many: Many, monkeypatch):
    compressed = []
    original = deflate.Deflater.compress

    def counting(self, data):
        compressed.append(data)
        return original(self, data)

    monkeypatch.setattr(deflate.Deflater, "compress", counting)
    narrow = OFFER + "; server_max_window_bits=10"
    _, faces, peers = await many([[OFFER], [], [OFFER], [narrow], [narrow], [OFFER]])
    broadcast(faces, LONG)
    assert compressed == [LONG.encode()] * 2
    frames = [await peer.frame() for peer in peers]
    assert frames[1] == Frame(TEXT, LONG.encode())
    assert frames[0] == frames[2] == frames[5]
    for number in (0, 2, 3, 4, 5):
        assert frames[number].rsv == RSV1
        bits = 10 if number in (3, 4) else 15
        assert zlib.decompressobj(-bits).decompress(frames[number].payload) == LONG.encode()


async def test_with_takeover_each_has_its_own_past(many: Many):
    _, faces, peers = await many([[OFFER], [OFFER]], deflate_context="takeover")
    await faces[0].send("hello, ", compress=True)
    broadcast(faces, LONG)
    broadcast(faces, "hello, again", compress=True)
    for peer, count in zip(peers, (3, 2), strict=True):
        unpacker = zlib.decompressobj(-15)
        frames = [await peer.frame() for _ in range(count)]
        texts = [unpacker.decompress(got.payload + b"\0\0\xff\xff").decode() for got in frames]
        assert texts[-2:] == [LONG, "hello, again"]


async def test_behind_a_message_that_is_being_compressed(many: Many):
    noise = bytes(range(256)) * 4096
    _, faces, peers = await many([[OFFER], [OFFER]], deflate_context="takeover")
    sending = asyncio.get_running_loop().create_task(faces[0].send(noise))
    await asyncio.sleep(0)
    assert session_of(faces[0]).busy
    broadcast(faces, LONG)
    reading = [asyncio.get_running_loop().create_task(peer.frame()) for peer in peers]
    await within(sending)
    first, other = [await within(each) for each in reading]
    unpacker = zlib.decompressobj(-15)
    assert unpacker.decompress(first.payload + b"\0\0\xff\xff") == noise
    assert unpacker.decompress((await peers[0].frame()).payload + b"\0\0\xff\xff") == LONG.encode()
    assert zlib.decompressobj(-15).decompress(other.payload) == LONG.encode()


async def test_closed_ones_are_passed_over(many: Many, logs):
    _, faces, peers = await many([[], [], []])
    closing = asyncio.get_running_loop().create_task(faces[0].close())
    peers[1].leave()
    await within(faces[1].wait_closed())
    assert (await peers[0].close_frame())[0] == 1000
    broadcast(faces, "x", raise_exceptions=sys.version_info >= (3, 11))
    assert (await peers[2].frame()).payload == b"x"
    await peers[0].send_close(1000)
    await peers[0].closed()
    await within(closing)
    assert not logs.lines(level=30)


async def test_no_message_breaks_into_one_in_fragments(many: Many, logs):
    gate = asyncio.Event()

    async def pieces():
        yield "a"
        await gate.wait()

    _, faces, peers = await many([[], []])
    sending = asyncio.get_running_loop().create_task(faces[0].send(pieces()))
    assert await peers[0].frame() == Frame(TEXT, b"a", False)
    broadcast(faces, "x")
    assert logs.lines(level=30) == ["Skipped a WebSocket in a broadcast: a message is being sent in fragments"]
    if sys.version_info >= (3, 11):
        with pytest.raises(ExceptionGroup) as caught:  # noqa: F821
            broadcast(faces, "y", raise_exceptions=True)
        assert [str(each) for each in caught.value.exceptions] == ["a message is being sent in fragments"]
    else:
        with pytest.raises(TypeError):
            broadcast(faces, "y", raise_exceptions=True)
        broadcast(faces, "y")
    gate.set()
    await within(sending)
    assert (await peers[0].frame()).fin
    broadcast(faces, "z")
    assert (await peers[0].frame()).payload == b"z"
    assert [(await peers[1].frame()).payload for _ in range(3)] == [b"x", b"y", b"z"]


@pytest.mark.parametrize("message", [5, None, ["a"], {"a": "b"}])
async def test_what_is_no_message(message):
    with pytest.raises(TypeError, match="a message is str or bytes"):
        broadcast([], message)


async def test_a_lone_surrogate_goes_to_nobody(many: Many):
    _, faces, peers = await many([[]])
    with pytest.raises(UnicodeEncodeError):
        broadcast(faces, "\ud800")
    broadcast(faces, "x")
    assert (await peers[0].frame()).payload == b"x"


@pytest.mark.parametrize(("headers", "context"), [([], "shared"), ([OFFER], "takeover")])
@pytest.mark.parametrize("policy", ["wait", "close", "drop"])
async def test_slow_peers_hold_up_nobody(many: Many, policy, context, headers):
    options = {} if policy == "wait" else {"slow_consumer": policy, "slow_consumer_mark": 65536}
    _, (slow, quick), (_, peer) = await many([headers] * 2, "first narrow", deflate_context=context, **options)
    noise = [bytes((number + i * i // 7) % 256 for i in range(60_000)) for number in range(2)]
    reading = asyncio.get_running_loop().create_task(_read(peer, 120))
    for number in range(120):
        broadcast([slow, quick], noise[number % 2] + b"%d" % number, compress=bool(headers) and number % 8 == 0)
        await until(lambda: session_of(quick).connection.output_size + session_of(quick).stream.buffered() == 0)
    await within(reading)
    assert session_of(quick).dropped == 0
    waiting = session_of(slow).connection.output_size
    if policy == "wait":
        assert waiting > 1_000_000
        assert not slow.closed
    else:
        assert waiting < 400_000
        assert slow.closed == (policy == "close")
        assert (session_of(slow).dropped > 10) == (policy == "drop")


async def _read(peer: Client, count: int) -> None:
    for _ in range(count):
        await peer.frame()


async def test_broadcasts_are_counted(many: Many):
    server, faces, peers = await many([[], [OFFER]], server={"metrics": "127.0.0.1:0"})
    sent = [("x" * 300, None), (b"y" * 20, None), (LONG, None), ("z", True)]
    for message, compress in sent:
        broadcast(faces, message, compress=compress)
    await faces[0].send_fragmented(["a", "bc"])
    for peer in peers:
        await _read(peer, len(sent))
    for face in faces:
        assert isinstance(session_of(face).connection, metered.MeteredConnection)
    counts = server._context.metrics
    texts, size = 2 * 3 + 1, 2 * (300 + len(LONG) + 1) + 3
    total = len(metrics.SIZES) + 1
    assert (sum(counts.text_out[:total]), counts.text_out[total]) == (texts, size)
    assert (sum(counts.binary_out[:total]), counts.binary_out[total]) == (2, 40)
    connection = session_of(faces[1]).connection
    assert (connection.messages_out, connection.bytes_out) == (4, 300 + 20 + len(LONG) + 1)
