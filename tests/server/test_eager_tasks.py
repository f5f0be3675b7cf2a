"""The server with asyncio.eager_task_factory: tasks begin, and may end, before the call that makes them returns."""

from __future__ import annotations

import asyncio
import sys

import pytest
from support.helpers import echo, hello, until

from flowserve import Config, Server

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.eager_task_factory"),
    pytest.mark.both_loops,
]


@pytest.fixture(autouse=True)
async def eager():
    loop = asyncio.get_running_loop()
    if "uvloop" in type(loop).__module__ and sys.version_info >= (3, 13):
        pytest.skip("uvloop gives the factory arguments that it does not take")
    loop.set_task_factory(asyncio.eager_task_factory)


async def test_http(serve, connect):
    client = await connect(await serve(hello))
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    assert [(await client.response()).body for _ in range(3)] == [b"hello"] * 3


async def test_websocket(serve, open_ws):
    client = await open_ws(await serve(echo))
    await client.send_text("hello")
    assert await client.message() == "hello"


@pytest.mark.parametrize("end", ["exit", "cancel"])
async def test_the_lifespan_of_a_server_in_a_task(end):
    log = []

    async def app(scope, receive, send):
        while scope["type"] == "lifespan" and "lifespan.shutdown" not in log:
            log.append((await receive())["type"])
            await send({"type": log[-1] + ".complete"})

    server = Server(Config(app, port=0))
    task = asyncio.ensure_future(server.serve())
    await until(lambda: server.started)
    if end == "exit":
        server.should_exit = True
    else:
        task.cancel()
    await asyncio.wait({task}, timeout=10)
    assert task.cancelled() == (end == "cancel")
    assert log == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.app_fails  # the server logs the lack as an error
async def test_no_descriptors_for_a_while(serve, connect, monkeypatch):
    """On uvloop the server stops accepting without waiting for anything: its task is done at once."""
    server = await serve(hello)
    acceptor = server.server._running.acceptor
    spare = 0
    monkeypatch.setattr("flowserve.server.acceptor.spare_descriptors", lambda: spare)
    acceptor._check_descriptors()
    await until(lambda: acceptor.paused and not acceptor.servers)
    spare = 1000
    await until(lambda: not acceptor.paused)
    assert (await (await connect(server)).get()).body == b"hello"
