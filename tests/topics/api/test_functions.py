"""`from flowserve import topics` in applications: frameworks, the library, threads, and listen()."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import anyio.from_thread
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from support.helpers import Client, until, within
from support.topic_rooms import OpenRoom, Room

import flowserve
from flowserve import topics
from flowserve.errors import MissedMessages, TopicsError
from flowserve.topics.hub import current


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route, WebSocketRoute

    async def chat(websocket: Any) -> None:
        await websocket.accept()
        subscription = await topics.subscribe(websocket, "chat")
        await websocket.send_text(f"joined {subscription.recovered}")
        async for text in websocket.iter_text():
            await topics.publish("chat", text, exclude=websocket)

    async def say(request: Any) -> Any:
        return PlainTextResponse(await topics.publish("chat", request.query_params["text"]))

    return Starlette(routes=[WebSocketRoute("/", chat), Route("/say", say)])


def fastapi_app() -> Any:
    from fastapi import BackgroundTasks, FastAPI
    from fastapi import WebSocket as FastAPIWebSocket

    app = FastAPI()

    async def chat(websocket: Any) -> None:
        await websocket.accept()
        subscription = await topics.subscribe(websocket, "chat")
        await websocket.send_text(f"joined {subscription.recovered}")
        async for text in websocket.iter_text():
            await topics.publish("chat", text, exclude=websocket)

    async def say(text: str, background: Any) -> None:
        background.add_task(topics.publish, "chat", text)

    chat.__annotations__["websocket"] = FastAPIWebSocket
    say.__annotations__["background"] = BackgroundTasks
    app.websocket("/")(chat)
    app.get("/say")(say)
    return app


def sync_route_app(publish: Callable[[str], Any]) -> Any:
    """A route without async, which FastAPI calls in a thread."""
    from fastapi import FastAPI

    app = FastAPI()

    def say(text: str) -> None:
        publish(text)

    app.get("/say")(say)
    app.mount("/", bare_app)
    return app


async def bare_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        text = scope["query_string"].decode().removeprefix("text=")
        await topics.publish("chat", text)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    subscription = await topics.subscribe(scope, "chat")
    await send({"type": "websocket.send", "text": f"joined {subscription.recovered}"})
    while (event := await receive())["type"] == "websocket.receive":
        await topics.publish("chat", event["text"], exclude=scope)


def sync_view_app() -> Any:
    """Publishes as Django does in a view without async: in a thread, by async_to_sync."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            text = scope["query_string"].decode().removeprefix("text=")
            await sync_to_async(lambda: async_to_sync(topics.publish)("chat", text), thread_sensitive=False)()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
        else:
            await bare_app(scope, receive, send)

    return app


def other_loop_app() -> Any:
    """Publishes from another event loop in a thread of its own."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            text = scope["query_string"].decode().removeprefix("text=")
            await asyncio.to_thread(lambda: asyncio.run(topics.publish("chat", text)))
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
        else:
            await bare_app(scope, receive, send)

    return app


APPS = {
    "starlette": starlette_app,
    "fastapi": fastapi_app,
    "sync route": lambda: sync_route_app(lambda text: anyio.from_thread.run(topics.publish, "chat", text)),
    "sync route, other loop": lambda: sync_route_app(lambda text: asyncio.run(topics.publish("chat", text))),
    "bare": lambda: bare_app,
    "sync view": sync_view_app,
    "other loop": other_loop_app,
}


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", APPS)
async def test_applications(serve, connect, kind: str) -> None:
    """A chat; each hears what the other says, and not itself, and all hear what comes over HTTP."""
    server = await serve(APPS[kind]())
    clients: list[Client] = []
    for _ in range(2):
        client = await connect(server)
        await client.upgrade()
        assert await client.message() == "joined {}"
        clients.append(client)
    await clients[0].send_text("from 0")
    assert await clients[1].message() == "from 0"
    asking = await connect(server)
    assert (await asking.get("/say?text=all")).status == 200
    assert [await client.message() for client in clients] == ["all", "all"]
    for client in clients:
        client.leave()
    await until(lambda: not server.server._running.topics.hub._topics)


async def test_the_library(connect) -> None:
    """serve(), and a client of the same program as a subscriber, which masks its frames."""

    async def handler(ws: flowserve.WebSocket) -> None:
        async with await topics.subscribe(ws, "chat") as subscription:
            assert subscription.recovered == {}
            async for message in ws:
                await topics.publish("chat", str(message), exclude=ws)

    async with (
        flowserve.serve(handler, "127.0.0.1", 0) as server,
        flowserve.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as one,
        flowserve.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as two,
    ):
        await one.send("hello")
        assert await within(two.recv()) == "hello"
        await two.send("hi")
        assert await within(one.recv()) == "hi"


async def test_what_is_no_websocket() -> None:
    with pytest.raises(TypeError, match="a WebSocket or its ASGI scope is wanted, not int"):
        await topics.subscribe(5, "t")
    with pytest.raises(TypeError, match="a WebSocket or its ASGI scope is wanted, not dict"):
        await topics.subscribe({"type": "http"}, "t")
    with pytest.raises(TypeError, match="takes a WebSocket of Starlette or FastAPI"):
        await topics.subscribe({"type": "websocket"}, "t")
    consumer = SimpleNamespace(scope={"type": "websocket"}, send=print, base_send=print)  # as one of Channels
    with pytest.raises(TypeError, match="takes a WebSocket of Starlette or FastAPI"):
        await topics.subscribe(consumer, "t")
    with pytest.raises(TypeError, match="since is a mapping"):
        await topics.subscribe({"type": "websocket"}, "a", "b", since="x")


async def test_what_is_no_message() -> None:
    for wrong in ({}, {"text": "a", "data": b"b"}, {"data": b"", "json": None}):
        with pytest.raises(TypeError, match="publish one message"):
            await topics.publish("t", **wrong)
    with pytest.raises(TypeError, match="text is str, not bytes; write data="):
        await topics.publish("t", b"x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not JSON compliant"):
        await topics.publish("t", json=float("nan"))
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deep"):
        await topics.publish("t", json=deep)
    with pytest.raises(TypeError, match="key is str, not int"):
        await topics.publish("t", "x", key=5)  # type: ignore[arg-type]


async def test_positions_are_true_and_follow_each_other() -> None:
    """Promise 1: dense offsets."""
    positions = [await topics.publish("dense", json=None) for _ in range(20)]
    assert all(positions)
    assert [int(each.split(".")[1], 16) for each in positions] == list(range(1, 21))
    assert len({each.split(".")[0] for each in positions}) == 1


# listen()


async def test_listen(room: Room) -> None:
    first = await room.publish("t", "0")
    for number in range(1, 4):
        await room.publish("t", json=number)

    async def take() -> list[Any]:
        found = []
        async with contextlib.aclosing(topics.listen("t", since=first)) as messages:
            async for message in messages:
                found.append((message.topic, message.json(), bool(message.position)))
                if len(found) == 3:
                    return found
        raise AssertionError

    assert await room.run(take()) == [("t", 1, True), ("t", 2, True), ("t", 3, True)]
    await room.left()


async def test_listen_slowly_loses_nothing(open_room: OpenRoom) -> None:
    room = await open_room(topics_history=500, topics_max_pending="2KiB")

    async def take() -> list[int]:
        found = []
        async for message in topics.listen("t"):
            found.append(message.json())
            if len(found) == 1:
                for number in range(1, 300):
                    await topics.publish("t", json=number)
            if len(found) == 300:
                break
        return found

    taking = asyncio.ensure_future(room.run(take()))
    await until(lambda: "t" in room.hub._topics and not room.hub._topics["t"].empty)
    await room.publish("t", json=0)
    assert await within(taking) == list(range(300))


async def test_listen_raises_for_a_gap_and_goes_on_from_its_position(room: Room) -> None:
    await room.publish("t", "old")

    async def take() -> str:
        with pytest.raises(MissedMessages, match="messages of the topic 't' are missing") as missed:
            await anext(topics.listen("t", since="garbage"))
        await topics.publish("t", "new")
        return (await anext(topics.listen("t", since=missed.value.position))).text

    assert await room.run(take()) == "new"


async def test_listen_beyond_a_limit_raises(open_room: OpenRoom) -> None:
    room = await open_room(topics_max_per_connection=2)

    async def take() -> None:
        await anext(topics.listen("a", "b", "c"))

    with pytest.raises(TopicsError, match="2 topics at most"):
        await room.run(take())
    await room.left()


async def test_listen_in_another_event_loop_is_refused(room: Room) -> None:
    async def take() -> None:
        await anext(topics.listen("t"))

    async def elsewhere() -> None:
        await asyncio.to_thread(asyncio.run, take())

    with pytest.raises(RuntimeError, match="listen in the event loop of the server"):
        await room.run(elsewhere())


async def test_listen_ends_with_the_server(serve) -> None:
    """A background task of the lifespan; it publishes its farewell after that."""
    heard: list[str] = []
    ready = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"

        async def listen() -> None:
            async for message in topics.listen("t", since=topics.START):
                heard.append(message.text)
                ready.set()
            heard.append("end")

        await receive()
        task = asyncio.ensure_future(listen())
        await topics.publish("t", "hello")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await task
        assert await topics.publish("t", "farewell")
        await send({"type": "lifespan.shutdown.complete"})

    server = await serve(app, lifespan="on")
    await within(ready.wait())
    await within(server.server.shutdown())
    assert heard == ["hello", "end"]


@pytest.mark.parametrize("turns", range(12))
async def test_listen_while_the_server_begins_to_end(serve, turns: int) -> None:
    """At each step of its subscription: it ends, and nothing is raised."""
    server = await serve(starlette_app())
    running = server.server._running

    async def listen() -> list[str]:
        return [message.text async for message in topics.listen("t", since=topics.START)]

    listening = running.context.variables.copy().run(asyncio.ensure_future, listen())
    for _ in range(turns):
        await asyncio.sleep(0)
    running.topics.drain()
    assert await within(listening) == []


async def test_threads_publish_at_once(room: Room) -> None:
    """Eight threads with event loops of their own; the order of each is kept."""
    guest = await room.guest("t")
    context = room.server.server._running.context.variables

    async def publish_all(name: int) -> None:
        for number in range(25):
            assert await topics.publish("t", json=[name, number])

    threads = [
        threading.Thread(target=context.copy().run, args=(lambda name=name: asyncio.run(publish_all(name)),))
        for name in range(8)
    ]
    for thread in threads:
        thread.start()
    got = [json.loads(await guest.client.message()) for _ in range(200)]
    for name in range(8):
        assert [number for other, number in got if other == name] == list(range(25))
    for thread in threads:
        await asyncio.to_thread(thread.join)


async def test_threads_are_told_that_the_server_has_ended(room: Room) -> None:
    """None waits for an event loop that has stopped, or takes for published what was not."""
    running = room.server.server._running
    came, told = threading.Semaphore(0), []

    def publish() -> None:
        try:
            while asyncio.run(topics.publish("t", "1")):
                came.release()
        except TopicsError as error:
            told.append(str(error))

    threads = [threading.Thread(target=running.context.variables.copy().run, args=(publish,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        assert await asyncio.to_thread(came.acquire, timeout=10)
    await running.topics.close()
    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()
    assert told == ["the server that has called this code has ended"] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
async def test_a_process_that_was_forked_from_a_server_is_told(room: Room) -> None:
    context = room.server.server._running.context.variables

    def child(end: Connection) -> None:
        try:
            context.copy().run(asyncio.run, topics.publish("t", "1"))
        except TopicsError as error:
            end.send(str(error))
        finally:
            end.close()

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork where there are threads
        process.start()
    assert "was forked from that of a server" in await asyncio.to_thread(ours.recv)
    await asyncio.to_thread(process.join, 10)


async def test_an_event_loop_without_server_is_freed_when_another_one_comes() -> None:
    def publish() -> None:
        for _ in range(10):
            asyncio.run(topics.publish("t", "1"))

    thread = threading.Thread(target=publish)  # without the context of a server
    thread.start()
    await asyncio.to_thread(thread.join, 10)
    assert sum(loop.is_closed() for loop in current._local) <= 1
