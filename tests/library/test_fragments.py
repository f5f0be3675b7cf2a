"""Messages in fragments, both ways and in both roles (RFC 6455 section 5.4, RFC 7692 section 6.1)."""

from __future__ import annotations

import asyncio
import zlib

import pytest
from support.ends import open_ends
from support.helpers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close_payload, frame, until, within

from flowserve.errors import Close, ConnectionClosedError, ConnectionClosedOK, PayloadTooBig
from flowserve.library.properties import session_of

roles = pytest.mark.parametrize("role", ["client", "server"])
OFFER = {
    "client": "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    "server": "Sec-WebSocket-Extensions: permessage-deflate",
}
RSV1 = 4
QUIET = 0.05
"""Seconds without a step, after which nothing moves any more."""


def task(coroutine):
    return asyncio.get_running_loop().create_task(coroutine)


async def gather(ws) -> list:
    return [piece async for piece in ws.receive_fragments()]


# Receiving


@pytest.mark.both_loops
@roles
async def test_pieces_come_as_they_arrive(role):
    async with open_ends(role) as (ws, peer):
        pieces = ws.receive_fragments()
        await peer.send_frame(TEXT, b"one ", fin=False)
        assert await within(anext(pieces)) == "one "
        await peer.send_frame(PING, b"in between")
        assert await peer.frame() == Frame(PONG, b"in between")
        await peer.send_frame(CONTINUATION, "für ".encode()[:2], fin=False)  # cut inside a character
        assert await within(anext(pieces)) == "f"
        await peer.send_frame(CONTINUATION, "für ".encode()[2:], fin=False)
        assert await within(anext(pieces)) == "ür "
        await peer.send_frame(CONTINUATION, b"end")
        assert await within(anext(pieces)) == "end"
        with pytest.raises(StopAsyncIteration):
            await within(anext(pieces))
        with pytest.raises(StopAsyncIteration):
            await within(anext(pieces))
        await peer.send_frame(TEXT, b"next")
        assert await within(ws.receive()) == "next"


async def test_one_frame_that_comes_slowly_has_pieces_too():
    async with open_ends("client") as (ws, peer):
        whole = frame(BINARY, b"0123456789" * 100, mask=None)
        pieces = ws.receive_fragments()
        await peer.raw(whole[:104])
        assert await within(anext(pieces)) == (b"0123456789" * 10)
        await peer.raw(whole[104:])
        assert b"".join([piece async for piece in pieces]) == b"0123456789" * 90


@pytest.mark.parametrize("payload", [b"", b"short"])
async def test_a_whole_message_is_one_piece(payload):
    async with open_ends("client") as (ws, peer):
        await peer.send_frame(BINARY, payload)
        await peer.send_frame(TEXT, b"next")
        assert await within(gather(ws)) == [payload]
        assert await within(gather(ws)) == ["next"]


async def test_an_empty_last_frame_is_no_piece():
    async with open_ends("client") as (ws, peer):
        pieces = ws.receive_fragments()
        await peer.send_frame(TEXT, b"all", fin=False)
        assert await within(anext(pieces)) == "all"
        await peer.send_frame(CONTINUATION, b"")
        assert [piece async for piece in pieces] == []


@pytest.mark.both_loops
@roles
async def test_reading_stops_while_nobody_takes(role):
    """The peer has to wait, and is not taken for dead because its pongs stand behind what was not read."""
    options = {"ping_interval": 0.05, "ping_timeout": 0.05, "max_size": None, "compression": None}
    async with open_ends(role, receive_buffer=65536, **options) as (ws, peer):
        written, chunk = 0, b"x" * 65536

        async def pour() -> None:
            nonlocal written
            for number in range(640):  # 40 MiB
                await peer.send_frame(CONTINUATION if number else BINARY, chunk, fin=False)
                written += 1

        async def answer() -> None:
            while True:
                got = await peer.frame()
                if got.opcode == PING:
                    await peer.send_frame(PONG, got.payload)

        pieces = ws.receive_fragments()
        pouring, answering = task(pour()), task(answer())
        size = len(await within(anext(pieces)))
        before = -1
        while before != written or session_of(ws).connection.part_size < 65536:
            before = written
            await asyncio.sleep(0.2)  # several times the ping timeout
        assert written < 400
        assert session_of(ws).connection.part_size < 2_000_000
        while size < 640 * len(chunk):
            size += len(await within(anext(pieces)))
        await within(pouring)
        await peer.send_frame(CONTINUATION, b"")
        with pytest.raises(StopAsyncIteration):
            await within(anext(pieces))
        assert not ws.closed
        answering.cancel()


async def test_without_a_limit_what_nobody_asks_for_has_a_bound():
    async with open_ends("client", max_size=None, compression=None) as (ws, peer):
        pouring = task(peer.send_frame(BINARY, b"x" * 100_000_000))
        before = -1
        while before != session_of(ws).connection.part_size:
            before = session_of(ws).connection.part_size
            await asyncio.sleep(QUIET)
        assert 10_000_000 < before < 20_000_000
        assert len(await within(ws.receive(), 30)) == 100_000_000
        await within(pouring)


async def test_a_message_under_way_is_not_idle():
    async with open_ends("client", idle_timeout=0.8, close_timeout=0.05) as (ws, peer):
        pieces = ws.receive_fragments()
        for number in range(6):  # together longer than the timeout
            await asyncio.sleep(0.2)
            await peer.send_frame(CONTINUATION if number else TEXT, b"x", fin=False)
            assert await within(anext(pieces)) == "x"
        with pytest.raises(ConnectionClosedError) as caught:
            await within(anext(pieces))
        assert caught.value.sent == Close(1001, "idle timeout")


@pytest.mark.parametrize("way", ["dropped", "closed", "turned to something else"])
async def test_left_early(way):
    async with open_ends("client") as (ws, peer):
        await peer.send_frame(TEXT, b"abc", fin=False)
        pieces = ws.receive_fragments()
        async for piece in pieces:
            assert piece == "abc"
            break
        if way == "dropped":
            del pieces
        elif way == "closed":
            await pieces.aclose()
        await peer.send_frame(CONTINUATION, b"def", fin=False)
        await peer.send_frame(CONTINUATION, b"ghi")
        await peer.send_frame(TEXT, b"next")
        receiving = ws.receive()
        assert (await receiving if way.startswith("turned") else await within(receiving)) == "defghi"
        assert await within(ws.receive()) == "next"
        if way != "dropped":
            assert [piece async for piece in pieces] == []


async def test_left_early_while_reading_stands_still():
    async with open_ends("client", compression=None) as (ws, peer):
        pouring = task(peer.send_frame(BINARY, b"x" * 4_000_000))
        size = 0
        async for piece in ws.receive_fragments():
            size = len(piece)
            await until(lambda: session_of(ws).connection.part_size > 65536)
            break
        assert size + len(await within(ws.receive())) == 4_000_000
        await within(pouring)


async def test_other_receivers_wait_for_their_own_message():
    async with open_ends("client") as (ws, peer):
        await peer.send_frame(TEXT, b"a", fin=False)
        gathering = task(gather(ws))
        await until(lambda: ws._fragmented is not None and ws._fragmented.pieces is not None)
        receiving, fragments = task(ws.receive()), task(gather(ws))
        await asyncio.sleep(0)
        await peer.send_frame(CONTINUATION, b"b")
        await peer.send_frame(TEXT, b"c")
        await peer.send_frame(TEXT, b"d")
        assert "".join(await within(gathering)) == "ab"
        assert sorted([await within(receiving), *await within(fragments)]) == ["c", "d"]


async def test_a_cancelled_reader_leaves_the_rest_to_others():
    async with open_ends("client") as (ws, peer):
        await peer.send_frame(TEXT, b"a", fin=False)
        taken = []

        async def read() -> None:
            async for piece in pieces:
                taken.append(piece)

        pieces = ws.receive_fragments()
        reading = task(read())
        await until(lambda: taken == ["a"])
        receiving = task(ws.receive())
        await asyncio.sleep(0)
        reading.cancel()
        await peer.send_frame(CONTINUATION, b"b")
        assert await within(receiving) == "b"


async def test_a_task_that_has_given_up_waiting_holds_nothing():
    async with open_ends("client") as (ws, peer):
        given_up, pieces = asyncio.Event(), ws.receive_fragments()

        async def read() -> None:
            await peer.send_frame(TEXT, b"a", fin=False)
            assert await anext(pieces) == "a"
            waiting = pieces.__anext__()
            waiting.send(None)
            with pytest.raises(asyncio.CancelledError):
                waiting.throw(asyncio.CancelledError())
            given_up.set()
            await asyncio.Event().wait()

        reading = task(read())
        await within(given_up.wait())
        await peer.send_frame(CONTINUATION, b"b")
        assert await within(ws.receive()) == "b"
        reading.cancel()


async def test_a_cancelled_wait_for_a_piece_loses_nothing():
    async with open_ends("client") as (ws, peer):
        pieces = ws.receive_fragments()
        for letter in (b"a", b"b", b"c"):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(pieces), 0.005)
            await peer.send_frame(CONTINUATION if letter > b"a" else TEXT, letter, fin=False)
            assert await within(anext(pieces)) == letter.decode()


@roles
async def test_the_limit_is_for_the_whole(role):
    async with open_ends(role, max_size=10) as (ws, peer):
        pieces = ws.receive_fragments()
        await peer.send_frame(TEXT, b"123456", fin=False)
        assert await within(anext(pieces)) == "123456"
        await peer.send_frame(CONTINUATION, b"78901")
        assert (await peer.close_frame())[0] == 1009
        peer.writer.close()
        with pytest.raises(ConnectionClosedError) as caught:
            await within(anext(pieces))
        assert isinstance(caught.value.__cause__, PayloadTooBig)


@roles
async def test_compressed_messages_in_pieces(role):
    text = "".join(f"line {number}\n" for number in range(20_000))
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = (packer.compress(text.encode()) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    async with open_ends(role, OFFER[role]) as (ws, peer):
        gathering = task(gather(ws))
        await peer.send_frame(TEXT, packed[:1000], fin=False, rsv=RSV1)
        for start in range(1000, len(packed), 1000):
            await peer.send_frame(CONTINUATION, packed[start : start + 1000], fin=False)
            await asyncio.sleep(0)
        await peer.send_frame(CONTINUATION, b"")
        pieces = await within(gathering)
        assert "".join(pieces) == text
        assert len(pieces) > 1


@roles
@pytest.mark.parametrize("code", [1000, 4000])
async def test_the_peer_closes_in_the_middle(role, code):
    async with open_ends(role) as (ws, peer):
        pieces = ws.receive_fragments()
        await peer.send_frame(TEXT, b"a", fin=False)
        assert await within(anext(pieces)) == "a"
        await peer.send_frame(CLOSE, close_payload(code))
        with pytest.raises(ConnectionClosedOK if code == 1000 else ConnectionClosedError):
            await within(anext(pieces))
        assert (await peer.close_frame())[0] == code


async def test_closing_while_reading_stands_still():
    """The peer's close frame, behind what nobody will take, is found."""
    async with open_ends("server", compression=None) as (ws, peer):
        pouring = task(peer.send_frame(BINARY, b"x" * 4_000_000))
        pieces = ws.receive_fragments()
        await within(anext(pieces))
        await until(lambda: session_of(ws).connection.part_size > 65536)
        closing = task(ws.close())
        await within(pouring)
        assert await peer.close_frame() == (1000, "")
        await peer.send_close(1000)
        await within(closing)
        assert ws.close_code == 1000


# Sending


@pytest.mark.both_loops
@roles
@pytest.mark.parametrize("kind", ["iterable", "asynchronous", "named"])
async def test_fragments_of_an_iterable(role, kind):
    async def pieces():
        for piece in ("a", "ü", ""):
            yield piece

    async with open_ends(role) as (ws, peer):
        if kind == "named":
            await ws.send_fragmented(["a", "ü", ""])
        else:
            await ws.send(["a", "ü", ""] if kind == "iterable" else pieces())
        assert [await peer.frame() for _ in range(4)] == [
            Frame(TEXT, b"a", False),
            Frame(CONTINUATION, "ü".encode(), False),
            Frame(CONTINUATION, b"", False),
            Frame(CONTINUATION, b"", True),
        ]
        await ws.send(iter([b"x", bytearray(b"y")]), text=True)
        assert [await peer.frame() for _ in range(3)] == [
            Frame(TEXT, b"x", False),
            Frame(CONTINUATION, b"y", False),
            Frame(CONTINUATION, b"", True),
        ]
        await ws.send([])
        await ws.send("next")
        assert await peer.frame() == Frame(TEXT, b"next")


@roles
async def test_only_control_frames_go_in_between(role):
    gate = asyncio.Event()

    async def slowly():
        yield b"1"
        await gate.wait()
        yield b"2"

    async with open_ends(role) as (ws, peer):
        sending = task(ws.send(slowly()))
        assert await peer.frame() == Frame(BINARY, b"1", False)
        others = [task(ws.send("other")), task(ws.send(["f"])), task(ws.ping(b"p"))]
        assert await peer.frame() == Frame(PING, b"p")
        await peer.send_frame(PONG, b"p")
        await within(others[2])
        assert not others[0].done()
        gate.set()
        await within(asyncio.gather(sending, *others))
        assert [await peer.frame() for _ in range(2)] == [Frame(CONTINUATION, b"2", False), Frame(CONTINUATION, b"")]
        rest = [await peer.frame() for _ in range(3)]
        assert Frame(TEXT, b"other") in (rest[0], rest[2])
        assert Frame(TEXT, b"f", False) in (rest[0], rest[1])


@roles
@pytest.mark.parametrize("context", ["shared", "takeover"])
async def test_compressed_fragments(role, context):
    """RSV1 on the first frame only; the pieces are one stream, and the last frame ends it."""
    answer = {"shared": OFFER[role], "takeover": "Sec-WebSocket-Extensions: permessage-deflate"}[context]
    pieces = [b"hello hello hello ", b"", b"hello hello", b" and goodbye " * 100]
    unpacker = zlib.decompressobj(-15)
    async with open_ends(role, answer, deflate_context=context) as (ws, peer):
        for _ in range(2):
            await ws.send_fragmented(pieces, compress=True)
            frames = [await peer.frame() for _ in range(5)]
            assert [got.rsv for got in frames] == [RSV1, 0, 0, 0, 0]
            assert [got.fin for got in frames] == [False] * 4 + [True]
            packed = [got.payload for got in frames]
            assert len(packed[3]) < 100
            if context == "shared":
                unpacker = zlib.decompressobj(-15)
            assert [unpacker.decompress(each) for each in packed[:4]] == pieces
            unpacker.decompress(packed[4] + b"\0\0\xff\xff")
            await ws.send("hello hello hello", compress=True)
            got = await peer.frame()
            if context == "shared":
                unpacker = zlib.decompressobj(-15)
            assert unpacker.decompress(got.payload + b"\0\0\xff\xff") == b"hello hello hello"
        await ws.send_fragmented([b"plain"])
        assert (await peer.frame()).rsv == 0


@roles
@pytest.mark.parametrize("way", ["raises", "mixed", "cancelled"])
async def test_a_message_that_is_not_finished_closes(role, way):
    async def pieces():
        yield "begun"
        if way == "raises":
            raise KeyError("no more")
        if way == "mixed":
            yield b"bytes"
        await asyncio.Event().wait()

    async with open_ends(role, close_timeout=0.05) as (ws, peer):
        sending = task(ws.send(pieces()))
        assert await peer.frame() == Frame(TEXT, b"begun", False)
        if way == "cancelled":
            sending.cancel()
        with pytest.raises({"raises": KeyError, "mixed": TypeError, "cancelled": asyncio.CancelledError}[way]):
            await within(sending)
        assert await peer.close_frame() == (1011, "a message was not finished")
        with pytest.raises(ConnectionClosedError):
            await within(ws.send("x"))


async def test_an_iterable_that_fails_at_once_does_no_harm():
    async def pieces():
        raise KeyError
        yield ""

    async with open_ends("client") as (ws, peer):
        with pytest.raises(KeyError):
            await ws.send(pieces())
        await ws.send("x")
        assert await peer.frame() == Frame(TEXT, b"x")


async def test_the_peer_leaves_in_the_middle():
    gate = asyncio.Event()

    async def pieces():
        yield "a"
        await gate.wait()
        while True:
            yield "b"
            await asyncio.sleep(0)

    async with open_ends("client") as (ws, peer):
        sending = task(ws.send(pieces()))
        await peer.frame()
        await peer.send_close(1000)
        peer.writer.close()
        gate.set()
        with pytest.raises(ConnectionClosedOK) as caught:
            await within(sending)
        assert caught.value.rcvd == Close(1000, "")


@pytest.mark.parametrize("policy", ["wait", "close", "drop"])
async def test_fragments_wait_for_a_slow_peer(policy):
    options = {} if policy == "wait" else {"slow_consumer": policy, "slow_consumer_mark": 65536}
    made = 0

    async def pieces():
        nonlocal made
        for _ in range(400):
            made += 1
            yield b"x" * 65536

    async with open_ends("server", receive_buffer=4096, compression=None, **options) as (ws, peer):
        sending = task(ws.send(pieces()))
        before = -1
        while before != made:
            before = made
            await asyncio.sleep(QUIET)
        assert made < 200
        for _ in range(400):
            assert len((await peer.frame()).payload) == 65536
        assert (await peer.frame()).fin
        await within(sending)
