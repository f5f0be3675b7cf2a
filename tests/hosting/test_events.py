"""What happens to a server's WebSockets, as events; over real WebSockets that accept() opens."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import uuid

import pytest
from support.helpers import BINARY, TEXT, Client, Pump, frame, until, within

from flowserve.errors import PayloadTooBig
from flowserve.hosting.accept import accept
from flowserve.hosting.events import Disconnect, Error, EventStream, NewClient, NewMessage

MIB = 1 << 20


class Feed:
    """An event stream, and raw clients whose WebSockets are followed by it."""

    def __init__(self) -> None:
        self.events = EventStream()
        self.tasks: list[asyncio.Task] = []
        self.clients: list[Client] = []

    async def join(self, follow: bytes = b"", **options) -> Client:
        """A raw client with an open WebSocket; `follow` goes out with its request."""
        near, far = socket.socketpair()
        near.setblocking(False)
        client = Client(*await asyncio.open_connection(sock=near), near)
        self.clients.append(client)

        async def serve() -> None:
            await self.events._handle(await accept(far, close_timeout=0.2, **options))

        self.tasks.append(asyncio.ensure_future(serve()))
        await client.upgrade(follow=follow)
        return client

    async def next(self):
        return await within(anext(self.events))

    async def aclose(self) -> None:
        self.events._discard_events()
        for client in self.clients:
            await client.aclose()
        await within(asyncio.gather(*self.tasks, return_exceptions=True))


@pytest.fixture
async def feed(logs):
    feed = Feed()
    yield feed
    await feed.aclose()
    assert not logs.errors


async def test_the_life_of_a_websocket(feed):
    client = await feed.join(frame(TEXT, b"one"))
    await client.send_frame(BINARY, b"two")
    await client.send_close(4001, "bye")
    seen = []
    async for event in feed.events:
        seen.append(event)
        match event:
            case NewClient(name, ws):
                assert ws.id == name
                assert isinstance(name, uuid.UUID)
            case NewMessage(name, message):
                assert feed.events.connections == {name: ws}
                await ws.send(message)
            case Disconnect():
                break
    assert seen == [
        NewClient(name, ws),
        NewMessage(name, "one"),
        NewMessage(name, b"two"),
        Disconnect(name, 4001, "bye"),
    ]
    assert feed.events.connections == {}
    # the end waited for the answers to what came before it
    assert await client.message() == "one"
    assert await client.message() == b"two"
    assert await client.close_frame() == (4001, "bye")


async def test_events_are_values(feed):
    await feed.join()
    event = await feed.next()
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.id = uuid.uuid4()
    assert Disconnect(id=event.id, code=1000, reason="") == Disconnect(event.id, 1000, "")


async def test_a_message_too_big(feed):
    client = await feed.join(max_size=10)
    await client.send_frame(TEXT, b"x" * 11)
    opened, error, end = [await feed.next() for _ in range(3)]
    assert isinstance(error, Error)
    assert error.id == opened.id
    assert isinstance(error.error.__cause__, PayloadTooBig)
    assert end == Disconnect(opened.id, 1006, "")


async def test_a_client_that_is_lost(feed):
    client = await feed.join(frame(TEXT, b"last"))
    client.leave()
    opened, message, error, end = [await feed.next() for _ in range(4)]
    assert message == NewMessage(opened.id, "last")
    assert isinstance(error, Error)
    assert error.error.rcvd is None
    assert end == Disconnect(opened.id, 1006, "")


async def test_a_close_of_our_own(feed):
    """It is no error, whatever the code, and whether the peer answers it or not."""
    for answers in (True, False):
        client = await feed.join()
        opened = await feed.next()
        closing = asyncio.ensure_future(opened.ws.close(4000, "enough"))
        assert await client.close_frame() == (4000, "enough")
        if answers:
            await client.send_close(4000)
        assert await feed.next() == Disconnect(opened.id, 4000 if answers else 1006, "")
        await within(closing)


async def test_one_disconnect_also_when_the_handler_is_cancelled(feed):
    await feed.join()
    opened = await feed.next()
    feed.tasks[0].cancel()
    opened.ws.abort()
    assert await feed.next() == Disconnect(opened.id, 1006, "")
    feed.events._finish()
    with pytest.raises(StopAsyncIteration):
        await feed.next()


async def test_nobody_is_forgotten(feed):
    """One event of each WebSocket waits: a busy peer can't hold up the others."""
    busy = await feed.join(frame(TEXT, b"busy") * 100)
    quiet = await feed.join(frame(TEXT, b"quiet"))
    seen = [await feed.next() for _ in range(8)]
    assert any(isinstance(event, NewMessage) and event.message == "quiet" for event in seen)
    await busy.send_close()
    await quiet.send_close()


async def test_a_slow_program_makes_its_peers_wait(feed):
    client = await feed.join()
    pump = Pump(client.pump(frame(BINARY, bytes(MIB)), 64))
    assert await pump.stall() < 16
    assert isinstance(await feed.next(), NewClient)
    for _ in range(64):
        assert isinstance(await feed.next(), NewMessage)
    assert await pump.finish() == 64


async def test_the_end_of_the_stream(feed):
    client = await feed.join()
    feed.events._finish()
    assert isinstance(await feed.next(), NewClient)
    with pytest.raises(StopAsyncIteration):
        await feed.next()
    await client.send_close()


async def test_nobody_waits_when_nobody_asks(feed):
    client = await feed.join(frame(TEXT, b"x") * 5)
    await feed.next()
    feed.events._discard_events()
    await client.send_close(1000)
    assert await client.close_frame() == (1000, "")
    await until(feed.tasks[0].done)
