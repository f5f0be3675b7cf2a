"""What there was no time for in one turn of the event loop goes on in others: nothing is lost, doubled or swapped.

No turn has any time here, so that each step waits for one of its own.
"""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from support.helpers import hello, until, within

from flowserve.session import time_slice

POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
COUNT = 20_000
TINY = b"".join(b"1\r\n%c\r\n" % (at % 251) for at in range(COUNT))
BODY = bytes(at % 251 for at in range(COUNT))
LAST = b"0\r\n\r\n"


@pytest.fixture(autouse=True)
def _no_time(monkeypatch):
    monkeypatch.setattr(time_slice, "_SECONDS", 0.0)


@pytest.mark.both_loops
async def test_a_body_of_tiny_chunks_and_what_is_behind_it(serve, stage, connect):
    client = await connect(await serve(stage))
    sending = asyncio.ensure_future(client.raw((POST + TINY + LAST) * 2 + GET))
    for _ in range(2):
        act = await stage.next()
        assert await within(act.read()) == BODY
        await act.answer(b"read")
        assert (await client.response()).body == b"read"
    act = await stage.next()
    assert act.scope["path"] == "/next"
    await act.answer(b"next")
    assert (await client.response()).body == b"next"
    await sending


@pytest.mark.both_loops
@pytest.mark.parametrize("seed", range(5))
async def test_a_body_cut_anywhere(serve, stage, connect, seed):
    rng = random.Random(seed)
    client = await connect(await serve(stage))
    wire = POST + TINY + LAST + GET
    bounds = [0, *sorted(rng.sample(range(1, len(wire)), 8)), len(wire)]

    async def send():
        for start, end in pairwise(bounds):
            await client.raw(wire[start:end])
            await asyncio.sleep(0)

    sending = asyncio.ensure_future(send())
    act = await stage.next()
    assert await within(act.read()) == BODY
    await act.answer()
    await client.response()
    act = await stage.next()
    assert act.scope["path"] == "/next"
    await act.answer()
    await sending


@pytest.mark.both_loops
async def test_others_have_their_turn_meanwhile(serve, stage, connect):
    """The application gets the first bytes before the last ones are looked at."""
    client = await connect(await serve(stage))
    await client.raw(POST + TINY + LAST)
    act = await stage.next()
    got, messages = b"", 0
    while True:
        message = await within(act.receive())
        got, messages = got + message["body"], messages + 1
        if not message["more_body"]:
            break
    assert got == BODY
    assert messages > 4  # at most one for each time that the socket is read, else
    await act.answer()


@pytest.mark.both_loops
async def test_a_body_that_nobody_takes_does_not_come_in(serve, stage, connect):
    server = await serve(stage)
    client = await connect(server)
    wire = b"10\r\n" + bytes(16) + b"\r\n"
    sending = asyncio.ensure_future(client.raw(POST + wire * 500_000 + LAST))
    act = await stage.next()
    done, _ = await asyncio.wait({sending}, timeout=0.5)
    assert not done
    got, more = 0, True
    while more:
        message = await within(act.receive())
        assert len(message["body"]) < 1024 * 1024
        got, more = got + len(message["body"]), message["more_body"]
    assert got == 16 * 500_000
    await act.answer()
    await sending


@pytest.mark.both_loops
async def test_the_rest_of_a_body_behind_its_response(serve, stage, connect):
    client = await connect(await serve(stage))
    sending = asyncio.ensure_future(client.raw(POST + TINY + LAST + GET))
    act = await stage.next()
    await act.answer(b"early")
    assert (await client.response()).body == b"early"
    act = await stage.next()
    assert act.scope["path"] == "/next"
    await act.answer(b"next")
    assert (await client.response()).body == b"next"
    await sending


@pytest.mark.both_loops
async def test_health_checks_in_one_write(serve, connect):
    client = await connect(await serve(hello, health_path="/health"))
    wire = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    await client.raw(wire * 200 + GET)
    for _ in range(200):
        assert (await client.response()).body == b"ok"
    assert (await client.response()).body == b"hello"


@pytest.mark.both_loops
async def test_an_error_in_the_rest(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(POST + TINY + b"wrong\r\n")
    act = await stage.next()
    assert (await client.response()).status == 400
    await client.closed()
    while (await within(act.receive()))["type"] != "http.disconnect":
        pass
    act.leave()


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_a_client_that_leaves_meanwhile(serve, stage, connect, how):
    server = await serve(stage)
    client = await connect(server)
    await client.raw(POST + TINY)
    act = await stage.next()
    getattr(client, how)()
    while (await within(act.receive()))["type"] != "http.disconnect":
        pass
    act.leave()
    await until(lambda: not server.server._context.live)


@pytest.mark.both_loops
async def test_a_client_that_ends_its_direction_meanwhile(serve, stage, connect):
    """All that it has sent is still read."""
    client = await connect(await serve(stage))
    await client.raw(POST + TINY + LAST)
    client.half_close()
    act = await stage.next()
    assert await within(act.read()) == BODY
    await act.answer(b"all")
    assert (await client.response()).body == b"all"
