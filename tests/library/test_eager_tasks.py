"""With asyncio.eager_task_factory (Python 3.12), where a task begins before whoever makes it goes on."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest
from support.helpers import within

from flowserve import Disconnect, NewClient, NewMessage, accept, connect, serve, start_server

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no eager_task_factory"),
    pytest.mark.both_loops,
]


@pytest.fixture(autouse=True)
async def eager():
    loop = asyncio.get_running_loop()
    if "uvloop" in type(loop).__module__ and sys.version_info >= (3, 13):
        pytest.skip("uvloop gives the factory arguments that it does not take")
    loop.set_task_factory(asyncio.eager_task_factory)
    yield
    loop.set_task_factory(None)


def uri_of(server) -> str:
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def greet(ws):
    """Sends before it waits for anything."""
    await ws.send(ws.user)
    async for message in ws:
        await ws.send(message)


async def test_client_and_server():
    def know(handshake, request):
        handshake.user = "Ada"

    async with serve(greet, "127.0.0.1", 0, process_request=know) as server:
        async for ws in connect(uri_of(server)):
            assert await within(ws.receive()) == "Ada"
            await ws.send("x")
            assert await within(ws.receive()) == "x"
            break


async def test_a_handler_that_returns_at_once():
    async def leave(ws):
        pass

    async with serve(leave, "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:
        await within(ws.wait_closed())
        assert ws.close_code == 1000


async def test_accept():
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    async def answer():
        async with accept(ours) as ws:
            await ws.send(await ws.receive())

    answering = asyncio.create_task(answer())
    async with connect("ws://localhost/", sock=theirs) as ws:
        await ws.send("x")
        assert await within(ws.receive()) == "x"
    await within(answering)


async def test_events():
    async def talk(uri):
        async with connect(uri) as ws:
            await ws.send("x")
            assert await within(ws.receive()) == "X"

    seen = []
    async with start_server(0, "127.0.0.1") as events:
        talking = asyncio.create_task(talk(uri_of(events.server)))
        async for event in events:
            seen.append(type(event))
            if isinstance(event, NewMessage):
                await events.connections[event.id].send(event.message.upper())
            if isinstance(event, Disconnect):
                break
        await within(talking)
    assert seen == [NewClient, NewMessage, Disconnect]
