"""Limits of the head of a request, and --limit-concurrency."""

from __future__ import annotations

import asyncio

import pytest
from support.helpers import Act, hello
from support.requests import CHUNKED_POST, GET

# Limits of a request's head


async def test_target_too_long(serve, stage, connect):
    client = await connect(await serve(stage, h1_max_header_size=2048))
    await client.raw(b"GET /" + b"a" * 4000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    response = await client.response()
    assert response.status == 414
    assert response.header("connection") == "close"
    await client.closed()
    assert stage.acts == []


@pytest.mark.parametrize(
    "head",
    [b"X-Large: " + b"a" * 4000 + b"\r\n", b"X-Some: some\r\n" * 300, b"X" * 4000 + b": a\r\n"],
    ids=["value", "many", "name"],
)
async def test_head_too_large(serve, stage, connect, head):
    client = await connect(await serve(stage, h1_max_header_size=2048, h1_max_header_count=1000))
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n")
    assert (await client.response()).status == 431
    await client.closed()
    assert stage.acts == []


@pytest.mark.parametrize(("begin", "status"), [(b"GET /", 414), (b"GET / HTTP/1.1\r\nHost: a\r\nX-Endless: ", 431)])
async def test_endless_heads_are_not_awaited(serve, connect, begin, status):
    """The answer comes at the limit, not at the end of the head."""
    client = await connect(await serve(hello, h1_max_header_size=2048))
    await client.raw(begin + b"a" * 3000)
    assert (await client.response()).status == status
    await client.closed()


async def test_too_many_headers(serve, connect):
    server = await serve(hello, h1_max_header_count=10)
    client = await connect(server)
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 9 + b"\r\n")
    assert (await client.response()).status == 200
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 10 + b"\r\n")
    assert (await client.response()).status == 431
    await client.closed()


async def test_the_limits_count_each_request_by_itself(serve, connect):
    client = await connect(await serve(hello, h1_max_header_size=1024, h1_max_header_count=4))
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 600 + b"\r\n\r\n" + GET * 20)
    for _ in range(21):
        assert (await client.response()).status == 200


async def test_a_body_does_not_count_as_head(serve, stage, connect):
    client = await connect(await serve(stage, h1_max_header_size=1024))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50000)
    act = await stage.next()
    assert len(await act.read()) == 50000
    await act.answer()
    assert (await client.response()).status == 200


async def test_endless_trailers(serve, stage, connect):
    """Ignored, but not for ever."""
    client = await connect(await serve(stage, h1_max_header_size=2048))
    await client.raw(CHUNKED_POST + b"1\r\nx\r\n0\r\n" + b"X-Trailer: some\r\n" * 10_000)
    assert (await client.response()).status in (400, 431)
    await client.closed()


async def test_head_too_slow(serve, stage, connect):
    client = await connect(await serve(stage, timeout_header=1))
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n")
    assert (await client.response()).status == 408
    await client.closed()
    assert stage.acts == []


async def test_dripping_does_not_buy_time(serve, connect):
    client = await connect(await serve(hello, timeout_header=0.4))

    async def drip():
        await client.raw(b"GET / HTTP/1.1\r\n")
        while True:
            await client.raw(b"a: b\r\n")
            await asyncio.sleep(0.05)

    dripping = asyncio.ensure_future(drip())
    assert (await client.response()).status == 408
    dripping.cancel()
    await asyncio.wait({dripping})
    if not dripping.cancelled():
        assert isinstance(dripping.exception(), ConnectionError)


async def test_second_head_too_slow(serve, connect):
    client = await connect(await serve(hello, timeout_header=1))
    assert (await client.get()).status == 200
    await client.raw(b"GET / HT")
    assert (await client.response()).status == 408
    await client.closed()


async def test_silence_is_not_awaited(serve, connect):
    client = await connect(await serve(hello, timeout_header=0.2, timeout_keep_alive=0.2))
    assert (await client.rest())[:12] in (b"", b"HTTP/1.1 408")


async def test_silent_clients_block_nobody(serve, connect):
    server = await serve(hello)
    for data in (b"", b"G", b"GET / HTTP/1.1\r\n"):
        for _ in range(5):
            await (await connect(server)).raw(data)
    assert (await (await connect(server)).get()).status == 200


async def test_errors_speak_plainly(serve, connect):
    client = await connect(await serve(hello))
    await client.raw(b"nonsense\r\n\r\n")
    response = await client.response()
    assert response.status == 400
    assert response.header("content-type").startswith("text/plain")
    assert response.header("connection") == "close"
    assert response.header("content-length") == str(len(response.body))
    await client.closed()


async def test_an_error_waits_for_its_turn(serve, stage, connect):
    """The answers before it in the pipeline go out first, and in full."""
    client = await connect(await serve(stage))
    await client.raw(GET + GET + b"nonsense\r\n\r\n")
    first = await stage.next()
    await first.start()
    await first.body(b"one", more=True)
    await first.body(b"two")
    first.leave()
    assert (await client.response()).body == b"onetwo"
    await (await stage.next()).answer(b"second")
    assert (await client.response()).body == b"second"
    assert (await client.response()).status == 400
    await client.closed()


# --limit-concurrency


async def held(stage, connect, server) -> Act:
    client = await connect(server)
    await client.raw(GET)
    return await stage.next()


async def test_limit_concurrency(serve, stage, connect):
    server = await serve(stage, limit_concurrency=2)
    acts = [await held(stage, connect, server) for _ in range(2)]
    client = await connect(server)
    response = await client.get()
    assert response.status == 503
    assert response.header("content-length") == str(len(response.body))
    assert len(stage.acts) == 2
    for act in acts:
        await act.answer()
    stage_task = asyncio.ensure_future(serve_all(stage))
    await free_again(connect, server)
    stage_task.cancel()


async def serve_all(stage):
    while True:
        act = await stage.next()
        if act.scope["type"] == "http":
            await act.answer(b"free")


async def free_again(connect, server):
    """Ask until a request is served: a place is free a moment after the last answer was read."""
    for _ in range(500):
        client = await connect(server)
        response = await client.get("/", "Connection: close")
        if response.status == 200:
            return
        assert response.status == 503
        await asyncio.sleep(0.01)
    raise AssertionError("no place became free")


async def test_limit_concurrency_counts_websockets(serve, stage, connect):
    """Open WebSockets take places; one too many of either kind gets a 503 and no more."""
    server = await serve(stage, limit_concurrency=1)
    one = await connect(server)
    upgrading = asyncio.ensure_future(one.upgrade())
    act = await stage.next()
    await act.accept()
    await upgrading
    assert (await (await connect(server)).get()).status == 503
    two = await connect(server)
    response = await two.get(
        "/",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    assert response.status == 503
    assert len(stage.acts) == 1
    await one.send_close(1000)
    assert (await act.disconnected())["code"] == 1000
    act.leave()
    stage_task = asyncio.ensure_future(serve_all(stage))
    await free_again(connect, server)
    stage_task.cancel()
