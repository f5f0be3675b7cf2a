"""permessage-deflate (RFC 7692) on a live server: over real sockets, in literal frames."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.helpers import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Act,
    Client,
    Frame,
    Stage,
    echo,
    frame,
    until,
    within,
)

from flowserve import ClientDisconnected
from flowserve.websocket.deflate import PerMessageDeflate

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
SHARED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
RSV1 = 4
TAIL = b"\0\0\xff\xff"
MIB = 1024 * 1024
both_contexts = pytest.mark.parametrize("context", ["shared", "takeover"])
unacceptable = pytest.mark.parametrize(
    "parameters",
    [
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_max_window_bits",
        "server_max_window_bits=8",  # legal, but zlib can't do it
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=010",
        "client_max_window_bits=0",
        "client_max_window_bits=-9",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits=10; server_max_window_bits=11",
        "unknown",
        "unknown=1; server_no_context_takeover",
    ],
)


class Codec:
    """The client's side of the compression, which keeps its windows as long as `takeover` says."""

    def __init__(self, takeover: bool = False, bits: int = 15) -> None:
        self.takeover = takeover
        self.bits = bits
        self.reset()

    def reset(self) -> None:
        self.compressor = zlib.compressobj(6, zlib.DEFLATED, -self.bits)
        self.decompressor = zlib.decompressobj(-15)

    def deflate(self, data: bytes) -> bytes:
        if not self.takeover:
            self.reset()
        return (self.compressor.compress(data) + self.compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]

    def inflate(self, data: bytes) -> bytes:
        if not self.takeover:
            self.reset()
        return self.decompressor.decompress(data + TAIL)

    async def message(self, client: Client) -> str | bytes:
        """The next message, which must be one compressed frame."""
        got = await client.frame()
        assert (got.fin, got.rsv) == (True, RSV1), got
        data = self.inflate(got.payload)
        return data.decode() if got.opcode == TEXT else data


@pytest.fixture
async def live(serve: Any, stage: Stage, open_ws: Any) -> Any:
    """`client, act = await live(context="takeover")`: a connection that agreed on compression, and its application."""

    async def start(offer: str = OFFER, context: str = "shared", **options: Any) -> tuple[Client, Act]:
        server = await serve(stage, ws_deflate_context=context, **options)
        return await joined(server, stage, open_ws, offer)

    return start


async def joined(server: Any, stage: Stage, open_ws: Any, *offers: str) -> tuple[Client, Act]:
    opening = asyncio.ensure_future(open_ws(server, "/", *offers))
    act = await stage.next()
    await act.accept()
    return await within(opening), act


class Admission:
    """Holds every compression in a thread until it is opened."""

    def __init__(self) -> None:
        self.entered = self.left = 0
        self.open = threading.Event()

    async def reached(self) -> None:
        await until(lambda: self.entered > 0)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Admission]:
    gate = Admission()
    compress = PerMessageDeflate.compress

    def held(self: PerMessageDeflate, data: Any) -> bytes:
        if threading.current_thread() is not threading.main_thread():
            gate.entered += 1
            assert gate.open.wait(30)
        compressed = compress(self, data)
        gate.left += threading.current_thread() is not threading.main_thread()
        return compressed

    monkeypatch.setattr(PerMessageDeflate, "compress", held)
    yield gate
    gate.open.set()


def large(seed: int = 0, size: int = 2 * MIB) -> str:
    """A text that compresses, and takes its time."""
    return "".join(random.Random(seed).choices("abcdefgh", k=64 * 1024)) * (size // (64 * 1024))


# The handshake


@unacceptable
async def test_wrong_parameters_decline_the_offer_and_not_the_connection(live: Any, parameters: str) -> None:
    client, act = await live(f"{OFFER}; {parameters}")
    await client.send_text("plain")
    assert await act.receive() == {"type": "websocket.receive", "text": "plain"}
    await act.send_text("x" * 1000)
    assert await client.message() == "x" * 1000


@unacceptable
@both_contexts
async def test_the_next_offer_is_taken(serve: Any, connect: Any, parameters: str, context: str) -> None:
    client = await connect(await serve(echo, ws_deflate_context=context))
    answer = await client.upgrade("/", f"{OFFER}; {parameters}", OFFER)
    assert answer.header("sec-websocket-extensions") == (SHARED if context == "shared" else "permessage-deflate")


async def test_the_client_may_promise_the_smallest_window(serve: Any, connect: Any) -> None:
    client = await connect(await serve(echo))
    answer = await client.upgrade("/", f"{OFFER}; client_max_window_bits=8")
    assert answer.header("sec-websocket-extensions") == SHARED + "; client_max_window_bits=8"
    codec = Codec(bits=9)  # which is what zlib makes of 8
    await client.send_frame(TEXT, codec.deflate(b"small window " * 1000), rsv=RSV1)
    assert await codec.message(client) == "small window " * 1000


async def test_switched_off(serve: Any, stage: Stage, connect: Any) -> None:
    client = await connect(await serve(stage, ws_per_message_deflate=False))
    opening = asyncio.ensure_future(client.upgrade("/", OFFER))
    act = await stage.next()
    assert "flowserve.compress" not in act.scope["extensions"]
    await act.accept()
    assert (await within(opening)).header("sec-websocket-extensions") is None
    await act.send({"type": "websocket.send", "text": "x" * 1000, "compress": True})
    assert await client.message() == "x" * 1000
    await client.send_frame(TEXT, Codec().deflate(b"x"), rsv=RSV1)
    assert (await client.close_frame())[0] == 1002


# What comes in


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@both_contexts
async def test_messages_both_ways(live: Any, opcode: int, context: str) -> None:
    client, act = await live(context=context)
    codec = Codec(context == "takeover")
    for size in (0, 1, 300, 300, 70000, 300):
        data = b"compress me " * (size // 12) + b"x" * (size % 12)
        await client.send_frame(opcode, codec.deflate(data) or b"\0", rsv=RSV1)
        message = await act.receive()
        assert message == {
            "type": "websocket.receive",
            **({"text": data.decode()} if opcode == TEXT else {"bytes": data}),
        }
        await act.send({**message, "type": "websocket.send", "compress": True})
        assert await codec.message(client) == (data.decode() if opcode == TEXT else data)


@both_contexts
async def test_control_frames_between_compressed_fragments(live: Any, context: str) -> None:
    client, act = await live(context=context)
    codec, text = Codec(context == "takeover"), "größer, 価格 " * 200
    for _ in range(3):
        data = codec.deflate(text.encode())
        await client.send_frame(TEXT, data[:7], fin=False, rsv=RSV1)
        await client.send_frame(PING, b"between")
        assert await client.frame() == Frame(PONG, b"between")
        await client.send_frame(CONTINUATION, b"", fin=False)
        await client.send_frame(CONTINUATION, data[7:20], fin=False)
        await client.send_frame(PONG, b"unasked")
        await client.send_frame(CONTINUATION, data[20:])
        assert (await act.receive())["text"] == text
        await client.send_frame(TEXT, b"plain ", fin=False)
        await client.send_frame(CONTINUATION, b"fragments")
        assert (await act.receive())["text"] == "plain fragments"


async def test_every_byte_a_fragment(live: Any) -> None:
    client, act = await live()
    data = Codec().deflate("価格 😀".encode() * 20)
    frames = [frame(CONTINUATION, data[at : at + 1], fin=False) for at in range(1, len(data))]
    first = frame(TEXT, data[:1], fin=False, rsv=RSV1)
    await client.raw(first + b"".join(frames) + frame(CONTINUATION))
    assert (await act.receive())["text"] == "価格 😀" * 20


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"\x07\x00", random.Random(1).randbytes(500)])
@both_contexts
async def test_what_is_not_deflate(live: Any, payload: bytes, context: str) -> None:
    client, act = await live(context=context)
    await client.send_frame(BINARY, payload, rsv=RSV1)
    code, _ = await client.close_frame()
    assert code in (1002, 1007)
    client.half_close()
    await client.closed()
    assert (await act.disconnected())["code"] == code


async def test_a_message_that_stops_short_of_its_end(live: Any) -> None:
    client, _ = await live()
    await client.send_frame(BINARY, Codec().deflate(b"no end " * 1000)[:-3], rsv=RSV1)
    assert (await client.close_frame())[0] in (1002, 1007)


@pytest.mark.parametrize("cut", [None, 3])
async def test_compressed_text_that_is_not_utf8(live: Any, cut: int | None) -> None:
    client, _ = await live()
    data = Codec().deflate(b"valid, then \xed\xa0\x80 not")
    await client.send_frame(TEXT, data[:cut], fin=cut is None, rsv=RSV1)
    if cut:
        await client.send_frame(CONTINUATION, data[cut:])
    assert (await client.close_frame())[0] == 1007
    client.half_close()
    await client.closed()


async def test_compressed_text_that_ends_within_a_character(live: Any) -> None:
    client, _ = await live()
    await client.send_frame(TEXT, Codec().deflate("ß".encode()[:1]), rsv=RSV1)
    assert (await client.close_frame())[0] == 1007


@pytest.mark.parametrize(
    "frames",
    [
        frame(TEXT, b"abc", fin=False) + frame(CONTINUATION, b"def", rsv=RSV1),
        frame(TEXT, Codec().deflate(b"abc"), fin=False, rsv=RSV1) + frame(CONTINUATION, b"", rsv=RSV1),
        frame(PING, b"abc", rsv=RSV1),
        frame(PONG, b"", rsv=RSV1),
        frame(0x8, b"\x03\xe8", rsv=RSV1),
        frame(TEXT, b"abc", rsv=RSV1 | 2),
        frame(TEXT, b"abc", rsv=1),
    ],
    ids=["continuation", "continuation of compressed", "ping", "pong", "close", "rsv2", "rsv3"],
)
async def test_reserved_bits_where_they_may_not_be(live: Any, frames: bytes) -> None:
    client, _ = await live()
    await client.raw(frames)
    assert (await client.close_frame())[0] == 1002
    client.half_close()
    await client.closed()


async def test_rsv1_without_agreement(live: Any) -> None:
    client, _ = await live("X-None: 1")
    await client.send_frame(TEXT, Codec().deflate(b"abc"), rsv=RSV1)
    assert (await client.close_frame())[0] == 1002
    client.half_close()
    await client.closed()


# The bomb


def peak_kib(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("limit", [1, 16], ids="limit {} MiB".format)
async def test_a_bomb(command: Any, connect: Any, limit: int) -> None:
    """A message of 1 MB that inflates to 1 GiB costs no more memory than the limit, as one frame or as many."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (deflater.compress(b"0" * MIB) + deflater.flush(zlib.Z_FULL_FLUSH)) * 1024  # what follows a flush is whole
    assert 1_000_000 < len(bomb) < 1_200_000
    parts = [bomb[at : at + 1000] for at in range(0, len(bomb), 1000)]
    fragments = frame(TEXT, parts[0], fin=False, rsv=RSV1) + b"".join(
        frame(CONTINUATION, part, fin=part is parts[-1]) for part in parts[1:]
    )
    server = await command("support.helpers:echo", "--ws-max-size", f"{limit}MiB")
    codec, friend = Codec(), await connect(server)
    await friend.upgrade("/", OFFER)
    await friend.send_frame(TEXT, codec.deflate(b"hello" * 100), rsv=RSV1)
    assert await codec.message(friend) == "hello" * 100
    before = peak_kib(server.process.pid)
    for data in (frame(TEXT, bomb, rsv=RSV1), frame(BINARY, bomb, rsv=RSV1), fragments):
        client = await connect(server)
        await client.upgrade("/", OFFER)
        sending = asyncio.ensure_future(client.raw(data))
        assert (await client.close_frame())[0] == 1009
        client.leave()
        with contextlib.suppress(OSError):
            await within(sending)
    assert peak_kib(server.process.pid) - before < limit * 1024 * 2 + 8 * 1024
    await friend.send_frame(TEXT, codec.deflate(b"alive" * 100), rsv=RSV1)
    assert await codec.message(friend) == "alive" * 100


@both_contexts
async def test_the_limit_holds_for_what_comes_out(live: Any, context: str) -> None:
    client, act = await live(context=context, ws_max_size=1000)
    codec = Codec(context == "takeover")
    await client.send_frame(BINARY, codec.deflate(bytes(1000)), rsv=RSV1)
    assert (await act.receive())["bytes"] == bytes(1000)
    await client.send_frame(BINARY, codec.deflate(bytes(1001)), rsv=RSV1)
    assert (await client.close_frame())[0] == 1009


# What goes out


async def test_the_application_chooses(live: Any) -> None:
    client, act = await live()
    assert "flowserve.compress" in act.scope["extensions"]
    codec, short, long = Codec(), "x", "x" * 1000
    for text, compress, rsv in ((short, True, RSV1), (long, False, 0), (short, None, 0), (long, None, RSV1)):
        await act.send({"type": "websocket.send", "text": text, "compress": compress})
        got = await client.frame()
        assert got.rsv == rsv
        assert (codec.inflate(got.payload) if rsv else got.payload).decode() == text


@pytest.mark.parametrize(("threshold", "compressed"), [(0, [0, 1, 5, 9]), (5, [5, 9]), ("1KiB", [])])
async def test_the_threshold_counts_bytes(live: Any, threshold: Any, compressed: list[int]) -> None:
    client, act = await live(ws_deflate_threshold=threshold)
    for size in (0, 1, 5, 9):
        await act.send({"type": "websocket.send", "text": "x" * (size % 2) + "ß" * (size // 2)})
        assert (await client.frame()).rsv == (RSV1 if size in compressed else 0)


@both_contexts
async def test_others_are_served_while_a_large_message_is_compressed(
    serve: Any, stage: Stage, open_ws: Any, gate: Admission, context: str
) -> None:
    server = await serve(stage, ws_deflate_context=context)
    slow, speaker = await joined(server, stage, open_ws, OFFER)
    other, echoing = await joined(server, stage, open_ws, OFFER)
    codec = Codec(context == "takeover")
    sending = asyncio.ensure_future(speaker.send_text(large()))
    await gate.reached()
    await other.send_text("meanwhile")
    await echoing.send_text((await echoing.receive())["text"])
    assert await other.message() == "meanwhile"
    await slow.send_frame(PING, b"and itself")
    assert await slow.frame() == Frame(PONG, b"and itself")
    assert not sending.done()
    gate.open.set()
    assert await codec.message(slow) == large()
    await within(sending)


@both_contexts
async def test_the_order_of_one_task(live: Any, context: str) -> None:
    client, act = await live(context=context)
    codec = Codec(context == "takeover")
    texts = [large(n, MIB) if n % 3 == 0 else f"{n} " * 200 for n in range(9)]

    async def send_all() -> None:
        for text in texts:
            await act.send_text(text)

    sending = asyncio.ensure_future(send_all())
    for text in texts:
        assert await codec.message(client) == text
    await within(sending)


@both_contexts
async def test_the_order_of_several_tasks(live: Any, gate: Admission, context: str) -> None:
    client, act = await live(context=context)
    codec = Codec(context == "takeover")
    texts = [large(n, 128 * 1024) if n % 3 == 0 else f"{n} " * 200 for n in range(9)]
    plain = "behind them, though not to be compressed"
    sending = [asyncio.ensure_future(act.send_text(text)) for text in texts]
    sending.append(asyncio.ensure_future(act.send({"type": "websocket.send", "text": plain, "compress": False})))
    await gate.reached()
    gate.open.set()
    for text in texts:
        assert await codec.message(client) == text
    assert await client.message() == plain
    await within(asyncio.gather(*sending))


@pytest.mark.parametrize("times", [1, 2])
@both_contexts
async def test_a_send_cancelled_while_it_compresses(live: Any, gate: Admission, context: str, times: int) -> None:
    """Its message goes out whole or not at all, and those behind it can be inflated, however often it is cancelled."""
    client, act = await live(context=context)
    codec = Codec(context == "takeover")
    sending = asyncio.ensure_future(act.raw_send({"type": "websocket.send", "text": large()}))
    await gate.reached()
    for _ in range(times):
        sending.cancel()
        await client.send_frame(PING)  # a round trip: the cancellation has been seen
        assert await client.frame() == Frame(PONG)
    gate.open.set()
    await until(lambda: gate.left == 1)
    end = large()[-1000:]  # what a window that holds the message writes as a reference to it
    await act.send_text(end)
    got = await codec.message(client)
    if got == large():
        got = await codec.message(client)
    assert got == end
    with pytest.raises(asyncio.CancelledError):
        await within(sending)


async def test_a_send_cancelled_while_it_waits_for_its_turn(live: Any, gate: Admission) -> None:
    client, act = await live(context="takeover")
    codec = Codec(takeover=True)
    first = asyncio.ensure_future(act.send_text(large()))
    await gate.reached()
    second = asyncio.ensure_future(act.raw_send({"type": "websocket.send", "text": large(1)}))
    third = asyncio.ensure_future(act.send_text("third " * 100))
    await client.send_frame(PING)
    assert await client.frame() == Frame(PONG)
    second.cancel()
    gate.open.set()
    assert await codec.message(client) == large()
    assert await codec.message(client) == "third " * 100
    await within(asyncio.gather(first, third))
    assert second.cancelled()


async def the_end_of(client: Any, codec: Codec) -> tuple[int | None, str]:
    """The close frame, behind the messages that were sent before it."""
    assert await codec.message(client) == large()
    assert await codec.message(client) == "behind it " * 100
    return await client.close_frame()


@both_contexts
async def test_a_close_stands_behind_what_is_compressed(live: Any, gate: Admission, context: str) -> None:
    client, act = await live(context=context)
    sending = [asyncio.ensure_future(act.send_text(text)) for text in (large(), "behind it " * 100)]
    await gate.reached()
    await act.send({"type": "websocket.close", "code": 4000, "reason": "done"})
    with pytest.raises(ClientDisconnected):
        await act.send_text("too late")
    await client.send_frame(PING)
    assert await client.frame() == Frame(PONG), "nothing may overtake the message"
    gate.open.set()
    assert await the_end_of(client, Codec(context == "takeover")) == (4000, "done")
    await within(asyncio.gather(*sending))


async def test_an_application_that_returns_while_its_message_is_compressed(live: Any, gate: Admission) -> None:
    client, act = await live()
    sending = [asyncio.ensure_future(act.send_text(text)) for text in (large(), "behind it " * 100)]
    await gate.reached()
    act.leave()
    await client.send_frame(PING)
    assert await client.frame() == Frame(PONG)
    gate.open.set()
    assert await the_end_of(client, Codec(False)) == (1000, "")
    await within(asyncio.gather(*sending))


async def test_a_shutdown_while_a_message_is_compressed(
    serve: Any, stage: Stage, open_ws: Any, gate: Admission
) -> None:
    server = await serve(stage)
    client, act = await joined(server, stage, open_ws, OFFER)
    sending = [asyncio.ensure_future(act.send_text(text)) for text in (large(), "behind it " * 100)]
    await gate.reached()
    stopping = asyncio.ensure_future(server.server.shutdown())
    await client.send_frame(PING)
    assert await client.frame() == Frame(PONG)
    gate.open.set()
    code, _ = await the_end_of(client, Codec(False))
    assert code == 1012
    await client.send_close(1012)
    await within(asyncio.gather(*sending))
    act.leave()
    await within(stopping)


async def test_the_answer_to_a_close_stands_behind_what_is_compressed(live: Any, gate: Admission) -> None:
    """RFC 6455 section 5.5.1: the close frame may wait until the current message is sent."""
    client, act = await live()
    sending = [asyncio.ensure_future(act.send_text(text)) for text in (large(), "behind it " * 100)]
    await gate.reached()
    await client.send_close(4001, "bye")
    assert await act.receive() == {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}
    gate.open.set()
    assert await the_end_of(client, Codec(False)) == (4001, "bye")
    await within(
        asyncio.gather(*sending, return_exceptions=True)
    )  # whether the client was still there for their drain is all the same


async def test_the_client_leaves_while_its_message_is_compressed(live: Any, gate: Admission) -> None:
    client, act = await live()
    sending = asyncio.ensure_future(act.raw_send({"type": "websocket.send", "text": large()}))
    await gate.reached()
    client.leave()
    await act.disconnected()
    gate.open.set()
    with pytest.raises(ClientDisconnected):
        await within(sending)
