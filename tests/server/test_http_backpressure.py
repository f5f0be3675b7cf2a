"""HTTP backpressure: whoever is slow makes the other side wait, and nobody's memory grows meanwhile.

The limits here leave room for what the kernel buffers on both sides; without backpressure every byte would pass.
"""

from __future__ import annotations

import asyncio

import pytest
from support.helpers import Pump, hello, until, within

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNK = b"x" * 65536
CHUNKS = 1024
TOTAL = CHUNKS * len(CHUNK)
LIMIT = CHUNKS // 2
"""Far over what the kernel buffers in a few tens of milliseconds, far under all."""


@pytest.mark.both_loops
@pytest.mark.parametrize("framing", ["content-length", "chunked"])
async def test_slow_app_stops_the_reading(serve, stage, connect, framing):
    client = await connect(await serve(stage))
    if framing == "chunked":
        await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n%s\r\n" % (len(CHUNK), CHUNK)
    else:
        await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % TOTAL)
        chunk = CHUNK
    act = await stage.next()
    pump = Pump(client.pump(chunk, CHUNKS))
    assert await pump.stall() < LIMIT

    got, more = 0, True
    while more:
        message = await act.receive()
        assert len(message["body"]) < 8 * 1024 * 1024
        got, more = got + len(message["body"]), message["more_body"]
        if got == TOTAL and framing == "chunked" and more:
            await pump.finish()
            await client.raw(b"0\r\n\r\n")
    assert got == TOTAL
    await pump.finish()
    await act.answer(b"ok")
    assert (await client.response()).body == b"ok"


@pytest.mark.both_loops
async def test_slow_client_stops_the_sending(serve, stage, connect):
    client = await connect(await serve(stage), receive_buffer=65536)
    await client.raw(GET)
    act = await stage.next()

    async def stream():
        await act.start(200, [(b"content-length", b"%d" % TOTAL)])
        for number in range(CHUNKS):
            await act.raw_send(
                {"type": "http.response.body", "body": CHUNK, "more_body": number < CHUNKS - 1},
            )
            yield number

    pump = Pump(stream())
    assert await pump.stall() < LIMIT
    assert (await client.head()).status == 200
    for _ in range(CHUNKS):
        assert await client.exactly(len(CHUNK)) == CHUNK
    assert await pump.finish() == CHUNKS
    act.leave()


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_client_leaves_while_send_waits(serve, stage, connect, how):
    client = await connect(await serve(stage), receive_buffer=65536)
    await client.raw(GET)
    act = await stage.next()

    async def stream():
        await act.start()
        while True:
            await act.raw_send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            yield

    pump = Pump(stream())
    stalled = await pump.stall(0.1)
    getattr(client, how)()
    assert (await act.disconnected()) == {"type": "http.disconnect"}
    await until(lambda: pump.count > stalled)
    await pump.cancel()


async def test_pipelined_requests_wait_for_the_app(serve, connect):
    """While one request is served, the ones behind it are not collected without end."""
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await hello(scope, receive, send)

    client = await connect(await serve(app, access_log=False))
    pump = Pump(client.pump(GET * (65536 // len(GET)), CHUNKS))
    assert await pump.stall() < LIMIT
    go_on.set()
    client.leave()
    await pump.cancel()


async def test_pipelined_requests_wait_for_the_reader(serve, connect):
    """A client that asks and never reads is not answered without end."""
    client = await connect(await serve(hello, access_log=False), receive_buffer=65536)
    pump = Pump(client.pump(GET * (65536 // len(GET)), CHUNKS))
    await pump.stall()
    assert pump.count < LIMIT
    client.leave()
    await pump.cancel()


async def test_an_endless_body_that_nobody_reads_ends(serve, stage, connect):
    """After the answer the rest is not read for ever: the client sees the answer, then the end of the connection."""
    client = await connect(await serve(stage, timeout_keep_alive=0.5))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    act = await stage.next()
    await act.answer(b"too much", 413)
    assert (await client.response()).status == 413
    pump = Pump(client.pump(b"10000\r\n" + CHUNK + b"\r\n", 1_000_000))
    await client.rest()
    await within(asyncio.wait({pump.task}))
    assert isinstance(pump.task.exception(), ConnectionError)
