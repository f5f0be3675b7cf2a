"""WebSocket backpressure and keepalive: slow sides are waited for, dead ones noticed, and not taken for each other."""

from __future__ import annotations

import asyncio
import struct
import time

import pytest
from support.helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    Frame,
    Pump,
    close_payload,
    frame,
    within,
)

NO_MASK = b"\0\0\0\0"  # costs nobody any time
CHUNK = b"x" * 65536
CHUNKS = 1024
LIMIT = CHUNKS // 2
"""Messages; far over what the kernel buffers in a few tens of milliseconds, far under all."""


@pytest.fixture
async def pair(serve, stage, connect):
    """`act, client = await pair(**options)`: both ends of an open WebSocket, the client's receive buffer narrow."""

    async def open_pair(**options):
        client = await connect(await serve(stage, **options), receive_buffer=65536)
        await client.raw(UPGRADE)
        act = await stage.next()
        await act.accept()
        assert (await client.head()).status == 101
        return act, client

    return open_pair


# A slow application


@pytest.mark.both_loops
async def test_slow_app_stops_the_reading(pair):
    act, client = await pair()
    pump = Pump(client.pump(frame(BINARY, CHUNK, mask=NO_MASK), CHUNKS))
    assert await pump.stall() < LIMIT
    for _ in range(CHUNKS):
        assert len((await act.receive())["bytes"]) == len(CHUNK)
    await pump.finish()


async def test_slow_app_stops_the_reading_of_tiny_messages(pair):
    """Counted by messages: a megabyte of empty ones must not become millions of objects."""
    act, client = await pair()
    segment = frame(TEXT, b"", mask=NO_MASK) * 10_000
    pump = Pump(client.pump(segment, CHUNKS))
    assert await pump.stall() < LIMIT
    for _ in range(20_000):
        assert await act.receive() == {"type": "websocket.receive", "text": ""}
    act.leave()
    client.leave()
    await pump.cancel()


async def test_slow_app_stops_the_reading_of_endless_fragments(pair):
    """A message that never ends meets --ws-max-size, though nobody receives."""
    act, client = await pair(ws_max_size=1_000_000)
    fragment = frame(CONTINUATION, CHUNK, fin=False, mask=NO_MASK)
    await client.raw(frame(BINARY, b"", fin=False))
    pump = Pump(client.pump(fragment, CHUNKS))
    assert (await client.close_frame())[0] == 1009
    assert (await act.disconnected())["code"] == 1009
    client.leave()
    await pump.cancel()


@pytest.mark.parametrize("queue", [1, 2, 32])
async def test_every_message_arrives_whatever_the_queue(pair, queue):
    act, client = await pair(ws_max_queue=queue)
    count = 500

    async def talk():
        for number in range(count):
            await client.send_text(str(number))

    talking = asyncio.ensure_future(talk())
    for number in range(count):
        assert (await act.receive())["text"] == str(number)
    await talking


@pytest.mark.both_loops
async def test_frames_behind_the_upgrade_wait_for_the_accept(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    pump = Pump(client.pump(frame(BINARY, CHUNK, mask=NO_MASK), CHUNKS))
    assert await pump.stall() < LIMIT
    await act.accept()
    assert (await client.head()).status == 101
    for _ in range(CHUNKS):
        assert len((await act.receive())["bytes"]) == len(CHUNK)
    await pump.finish()


async def test_control_frames_behind_a_full_queue_are_answered_when_there_is_room(pair):
    """Though the application may then be busy with something else than receiving."""
    act, client = await pair(ws_max_queue=2)
    await client.raw(frame(TEXT, b"a") * 6 + frame(PING, b"there?"))
    for _ in range(5):
        assert (await act.receive())["text"] == "a"
    assert await client.frame() == Frame(PONG, b"there?")
    assert (await act.receive())["text"] == "a"


async def test_reading_goes_on_after_the_queue_was_full(pair):
    act, client = await pair(ws_max_queue=2)
    for turn in range(20):
        await client.raw(b"".join(frame(TEXT, b"%d %d" % (turn, number)) for number in range(10)))
        for number in range(10):
            assert (await act.receive())["text"] == f"{turn} {number}"


# A slow client


@pytest.mark.both_loops
async def test_slow_client_stops_the_sending(pair):
    act, client = await pair()

    async def stream():
        for number in range(CHUNKS):
            await act.raw_send({"type": "websocket.send", "bytes": struct.pack("!I", number) + CHUNK[4:]})
            yield number

    pump = Pump(stream())
    assert await pump.stall() < LIMIT
    for number in range(CHUNKS):
        assert (await client.message())[:4] == struct.pack("!I", number)
    assert await pump.finish() == CHUNKS


@pytest.mark.both_loops
async def test_slow_client_stops_the_sending_of_small_messages(pair):
    act, _ = await pair()
    text = "small" * 20

    async def stream():
        while True:
            for _ in range(100):
                await act.raw_send({"type": "websocket.send", "text": text})
            yield

    pump = Pump(stream())
    assert await pump.stall() < 6400  # 64 MB
    assert not pump.task.done()
    await pump.cancel()


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_client_leaves_while_send_waits(pair, how):
    act, client = await pair()

    async def stream():
        while True:
            await act.raw_send({"type": "websocket.send", "bytes": CHUNK})
            yield

    pump = Pump(stream())
    await pump.stall(0.1)
    getattr(client, how)()
    with pytest.raises(OSError):
        await within(pump.task)
    assert (await act.disconnected())["code"] == 1006


async def test_slow_clients_slow_down_nobody_else(serve, stage, connect):
    server = await serve(stage)
    acts = []
    for buffer in (65536, None):
        client = await connect(server, receive_buffer=buffer)
        await client.raw(UPGRADE)
        acts.append(await stage.next())
        await acts[-1].accept()
        assert (await client.head()).status == 101

    async def stream():
        while True:
            await acts[0].raw_send({"type": "websocket.send", "bytes": CHUNK})
            yield

    pump = Pump(stream())
    await pump.stall(0.1)
    for _ in range(100):
        await acts[1].send({"type": "websocket.send", "bytes": CHUNK})
        assert len(await client.message()) == len(CHUNK)
    await pump.cancel()


async def test_close_waits_behind_what_a_slow_client_has_not_read(pair):
    act, client = await pair()
    sent = 0

    async def stream():
        nonlocal sent
        while True:
            sent += 1
            await act.raw_send({"type": "websocket.send", "bytes": CHUNK})
            yield

    pump = Pump(stream())
    await pump.stall(0.1)
    await pump.cancel()
    await act.close(4000, "enough")
    got = 0
    while (each := await client.frame()).opcode == BINARY:
        assert len(each.payload) == len(CHUNK)
        got += 1
    assert got in (sent, sent - 1)  # the last send was cancelled
    assert each == Frame(CLOSE, close_payload(4000, "enough"))


@pytest.mark.both_loops
async def test_close_to_a_client_that_never_reads_ends(pair):
    act, _ = await pair(ws_close_timeout=0.3)

    async def stream():
        while True:
            await act.raw_send({"type": "websocket.send", "bytes": CHUNK})
            yield

    pump = Pump(stream())
    await pump.stall(0.1)
    await pump.cancel()
    await act.close(4000)
    assert (await act.disconnected())["type"] == "websocket.disconnect"
    act.leave()


@pytest.mark.both_loops
async def test_ping_flood_grows_nothing(pair):
    """While nobody reads the pongs only the newest is kept; the server goes on reading, and answers the last ping."""
    act, client = await pair(ws_ping_interval=None)
    count, batch = 300_000, 1000

    async def flood():
        for start in range(0, count, batch):
            pings = (frame(PING, b"%0125d" % number, mask=NO_MASK) for number in range(start, start + batch))
            client.writer.write(b"".join(pings))
            await client.writer.drain()
            yield

    await Pump(flood()).finish()
    await client.send_text("end of the flood")
    assert await act.receive() == {"type": "websocket.receive", "text": "end of the flood"}
    last, pongs = -1, 0
    while last < count - 1:
        got = await client.frame()
        assert got.opcode == PONG
        assert int(got.payload) > last
        last, pongs = int(got.payload), pongs + 1
    assert pongs < count // 2


async def test_pings_are_answered_while_the_app_sends(pair):
    act, client = await pair()

    async def stream():
        while True:
            await act.raw_send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0)
            yield

    pump = Pump(stream())
    await client.send_frame(PING, b"there?")

    async def pong() -> bytes:
        while (got := await client.frame()).opcode != PONG:
            assert got.opcode == TEXT
        return got.payload

    assert await within(pong()) == b"there?"
    await pump.cancel()


# Keepalive


@pytest.mark.both_loops
async def test_keepalive_pings(pair):
    act, client = await pair(ws_ping_interval=0.1, ws_ping_timeout=0.4)
    for _ in range(8):  # longer than interval and timeout together
        got = await client.frame()
        assert got.opcode == PING
        await client.send_frame(PONG, got.payload)
    await client.send_text("alive")
    assert await act.receive() == {"type": "websocket.receive", "text": "alive"}


@pytest.mark.both_loops
@pytest.mark.parametrize(("interval", "timeout"), [(0.3, 0.1), (0.2, 0.2), (0.1, 0.3)])
async def test_keepalive_ends_a_dead_connection(pair, interval, timeout):
    """Whether the timeout is shorter than the interval, the same (as by default) or longer."""
    act, client = await pair(ws_ping_interval=interval, ws_ping_timeout=timeout, ws_close_timeout=0.2)
    assert (await client.frame()).opcode == PING
    for _ in range(8):
        got = await client.frame()
        if got.opcode == CLOSE:
            break
        assert got.opcode == PING
    assert got.opcode == CLOSE, "pings go on, and nobody misses the pongs"
    (code,) = struct.unpack("!H", got.payload[:2])
    assert code == 1011
    await client.closed()
    assert (await act.receive())["code"] in (1006, 1011)


async def test_keepalive_off(pair):
    _, client = await pair(ws_ping_interval=None)
    await client.raw(frame(PING, b"only"))
    assert await client.frame() == Frame(PONG, b"only")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.4)


@pytest.mark.both_loops
async def test_keepalive_does_not_kill_the_client_of_a_slow_app(pair):
    """Its pongs lie unread behind its messages: that is the server's doing."""
    act, client = await pair(ws_max_queue=1, ws_ping_interval=0.1, ws_ping_timeout=0.2)
    count = 200
    pongs = asyncio.Event()

    async def answer_pings():
        while (got := await client.frame()).opcode == PING:
            client.writer.write(frame(PONG, got.payload))
            pongs.set()
        return got

    async def talk():
        for number in range(count):
            client.writer.write(frame(BINARY, struct.pack("!I", number) + CHUNK, mask=NO_MASK))
            await client.writer.drain()
            yield

    answering = asyncio.ensure_future(answer_pings())
    pump = Pump(talk())
    await asyncio.sleep(1)  # several times interval and timeout: that time is what is tested
    for number in range(count):
        assert (await act.receive())["bytes"][:4] == struct.pack("!I", number)
    await pump.finish()
    await act.send_text("still here")
    assert (await within(answering)).payload == b"still here"


@pytest.mark.both_loops
async def test_keepalive_in_a_busy_event_loop(pair):
    """Timers that fire late, by every part of a tick: each ping still goes out once, and the loop goes on."""
    act, client = await pair(ws_ping_interval=0.1, ws_ping_timeout=5)
    begin = time.monotonic()
    for turn in range(40):
        time.sleep(0.005 + turn % 10 * 0.007)  # noqa: ASYNC251  (an application that blocks: that is what is tested)
        await asyncio.sleep(0.003)
    elapsed = time.monotonic() - begin
    await act.send_text("the end")
    pings = 0
    while (got := await client.frame()).opcode == PING:
        pings += 1
    assert got.payload == b"the end"
    assert elapsed / 0.1 / 3 <= pings <= elapsed / 0.1 + 1


async def test_keepalive_does_not_kill_a_client_that_is_busy_reading(pair):
    """It takes what is sent, slowly, and answers pings when it comes to them."""
    act, client = await pair(ws_ping_interval=0.1, ws_ping_timeout=0.3)
    count = 30

    async def stream():
        for _ in range(count):
            await act.raw_send({"type": "websocket.send", "bytes": CHUNK * 8})
            yield

    pump = Pump(stream())
    got = 0
    while got < count:
        each = await client.frame()
        if each.opcode == PING:
            await client.send_frame(PONG, each.payload)
        else:
            assert each.opcode == BINARY
            got += 1
            await asyncio.sleep(0.03)  # the client's own slowness
    await pump.finish()
    await client.send_text("alive")
    assert await act.receive() == {"type": "websocket.receive", "text": "alive"}


async def test_keepalive_ends_a_dead_connection_while_the_app_sends(pair):
    """Noticing a client that is gone while only sending."""
    act, _ = await pair(ws_ping_interval=0.1, ws_ping_timeout=0.3, ws_close_timeout=0.2)

    async def stream():
        while True:
            await act.raw_send({"type": "websocket.send", "bytes": CHUNK})
            yield

    pump = Pump(stream())
    with pytest.raises(OSError):
        await within(pump.task)


async def test_idle_timeout(pair):
    act, client = await pair(ws_idle_timeout=0.3)
    code, _ = await client.close_frame()
    assert code is not None
    assert (await act.disconnected())["type"] == "websocket.disconnect"


async def test_traffic_puts_off_the_idle_timeout(pair):
    act, client = await pair(ws_idle_timeout=0.8)
    for number in range(6):
        await asyncio.sleep(0.2)  # together longer than the timeout: that time is what is tested
        if number % 2:
            await client.send_text("in")
            assert (await act.receive())["text"] == "in"
        else:
            await act.send_text("out")
            assert await client.message() == "out"


async def test_no_idle_timeout_by_default(pair):
    act, client = await pair()
    await asyncio.sleep(0.4)  # nothing happens meanwhile: that is what is tested
    await client.send_text("alive")
    assert (await act.receive())["text"] == "alive"
