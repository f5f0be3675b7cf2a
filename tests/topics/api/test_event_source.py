"""Event streams: what a browser's EventSource would read, and how it resumes."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from typing import Any

import pytest
from support.django_handler import django_handler
from support.helpers import Client, Response, until, within
from support.topic_rooms import Room

from flowserve import topics
from flowserve.topics.hub.current import current_source

pytestmark = pytest.mark.both_loops

Handler = Callable[[Any], Any]


def starlette_app(respond: Handler) -> Any:
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def events(request: Any) -> Any:
        return respond(request)

    return Starlette(routes=[Route("/", events)])


def fastapi_app(respond: Handler) -> Any:
    from fastapi import FastAPI, Request

    async def events(request: Any) -> Any:
        return respond(request)

    events.__annotations__ = {"request": Request}
    app = FastAPI()
    app.get("/")(events)
    return app


def bare_app(respond: Handler) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(scope)(scope, receive, send)

    return app


def django_app(respond: Handler) -> Any:
    from django.core.handlers.asgi import ASGIHandler
    from django.urls import path

    async def events(request: Any) -> Any:
        return respond(request)

    return django_handler(ASGIHandler, [path("", events)])


APPS = {"starlette": starlette_app, "fastapi": fastapi_app, "bare": bare_app, "django": django_app}


class Events:
    """The client's side of a stream."""

    def __init__(self, client: Client, response: Response) -> None:
        self.response = response
        self._chunks = client.chunks()
        self._text = ""
        self.last_id = ""

    @classmethod
    async def open(cls, client: Client, *headers: str) -> Events:
        await client.raw("\r\n".join(("GET / HTTP/1.1", "Host: a.example", *headers, "", "")).encode())
        return cls(client, await client.head())

    async def next(self) -> dict[str, str] | None:
        """The fields of the next event, or comment; None at the end of the response."""
        while "\n\n" not in self._text:
            try:
                self._text += (await within(anext(self._chunks))).decode()
            except StopAsyncIteration:
                assert not self._text
                return None
        block, _, self._text = self._text.partition("\n\n")
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        self.last_id = fields.get("id", self.last_id)
        return fields


def on_topics(*names: str, **options: Any) -> Handler:
    return lambda request: topics.event_source(request, *names, **options)


async def publish(server: Any, *arguments: Any, **options: Any) -> topics.Position:
    context = server.server._running.context.variables.copy()
    return await within(context.run(asyncio.ensure_future, topics.publish(*arguments, **options)))


@pytest.mark.parametrize("kind", APPS)
async def test_a_stream_and_its_resuming(serve, connect, kind: str) -> None:
    server = await serve(APPS[kind](on_topics("t")))
    events = await Events.open(await connect(server))
    assert events.response.status == 200
    assert events.response.header("content-type") == "text/event-stream; charset=utf-8"
    assert events.response.header("cache-control") == "no-store"
    assert events.response.header("x-accel-buffering") == "no"
    assert await events.next() == {"retry": "3000"}
    assert set(await events.next() or ()) == {"id"}
    first = await publish(server, "t", "one\r\ntwo\rthree\n")
    assert await events.next() == {"id": first, "data": "one\ntwo\nthree\n"}
    second = await publish(server, "t", json={"a": "b"})
    third = await publish(server, "t", data=b"\0\xff")
    again = await Events.open(await connect(server), f"Last-Event-ID: {first}")
    for stream in (events, again):
        if stream is again:
            assert await stream.next() == {"retry": "3000"}
        assert await stream.next() == {"id": second, "data": '{"a":"b"}'}
        assert await stream.next() == {"id": third, "data": "AP8="}


async def test_one_that_is_lost_before_the_first_message_misses_none(serve, connect) -> None:
    server = await serve(bare_app(on_topics("t")))
    await publish(server, "t", "before")
    client = await connect(server)
    events = await Events.open(client)
    await events.next()
    await events.next()
    client.reset()
    await publish(server, "t", "meanwhile")
    again = await Events.open(await connect(server), f"Last-Event-ID: {events.last_id}")
    await again.next()
    assert (await again.next() or {})["data"] == "meanwhile"


async def test_several_topics(serve, connect) -> None:
    """The id is the position of each; one that has none yet begins where it is."""
    server = await serve(bare_app(on_topics("a", "b")))
    client = await connect(server)
    events = await Events.open(client)
    await events.next()
    await events.next()
    await publish(server, "a", "1")
    await publish(server, "b", "2")
    assert [(await events.next() or {})["data"] for _ in range(2)] == ["1", "2"]
    client.reset()
    await publish(server, "b", "3")
    await publish(server, "a", "4")
    again = await Events.open(await connect(server), f"Last-Event-ID: {events.last_id}")
    await again.next()
    assert {(await again.next() or {})["data"] for _ in range(2)} == {"3", "4"}
    for last_id in ('{"a": 5}', "[]", "[" * 5000):  # as far as it is none: from where the topics are
        odd = await Events.open(await connect(server), f"Last-Event-ID: {last_id}")
        assert await odd.next() == {"retry": "3000"}


async def test_the_envelope_of_websockets(serve, connect) -> None:
    """By which one handler in the client does for both."""
    options: dict[str, Any] = {}
    respond = lambda request: topics.event_source(request, "a", "b", envelope="json", **options)  # noqa: E731
    room = Room(await serve(starlette_app(respond)), None, connect)  # type: ignore[arg-type]
    first = await room.publish("a", "zero")
    options["since"] = {"a": first}
    stream = await Events.open(await connect(room.server))
    assert await stream.next() == {"retry": "3000"}
    told = await stream.next()
    assert (told["event"], list(json.loads(told["data"]))) == ("positions", ["b"])
    position = await room.publish("a", json={"n": 1})
    event = await stream.next()
    assert json.loads(event["data"]) == {"topic": "a", "position": position, "data": {"n": 1}}
    assert json.loads(event["id"])["a"] == position
    await room.run(topics.stream("a").end())
    assert json.loads((await stream.next())["data"])["end"] is True
    await room.run(topics.stream("b").end("no more"))
    assert json.loads((await stream.next())["data"])["failure"] == "no more"
    assert (await stream.next())["event"] == "end"
    options["since"] = {"a": "nonsense"}
    stream = await Events.open(await connect(room.server))
    events = [await stream.next() for _ in range(3)]
    assert {"topic": "a", "gap": True}.items() <= json.loads(events[2]["data"]).items()
    with pytest.raises(TypeError, match="envelope"):
        topics.event_source({"type": "http", "headers": []}, "a", envelope="xml")  # type: ignore[arg-type]


async def test_since_of_one_of_two_topics(serve, connect) -> None:
    """The first id has the place of both, so that nothing of the other is lost when the client comes back."""
    server = await serve(bare_app(lambda scope: topics.event_source(scope, "a", "b", since=since)))
    since = {"a": await publish(server, "a", "0")}
    await publish(server, "a", "1")
    client = await connect(server)
    events = await Events.open(client)
    await events.next()
    assert set(json.loads((await events.next() or {})["id"])) == {"a", "b"}
    assert (await events.next() or {})["data"] == "1"
    client.reset()
    await publish(server, "b", "2")
    again = await Events.open(await connect(server), f"Last-Event-ID: {events.last_id}")
    await again.next()
    assert (await again.next() or {})["data"] == "2"


async def test_a_gap_is_an_event(serve, connect) -> None:
    server = await serve(bare_app(on_topics("t")))
    head = await publish(server, "t", "old")
    events = await Events.open(await connect(server), "Last-Event-ID: garbage")
    await events.next()
    assert await events.next() == {"event": "gap", "id": head, "data": "t"}
    await publish(server, "t", "new")
    assert (await events.next() or {})["data"] == "new"


async def test_heartbeats_and_retry(serve, connect) -> None:
    server = await serve(bare_app(on_topics("t", heartbeat=0.01, retry=0.25)))
    events = await Events.open(await connect(server))
    assert await events.next() == {"retry": "250"}
    await events.next()
    assert await events.next() == {"": ""}
    assert await events.next() == {"": ""}
    await publish(server, "t", "x")
    while (event := await events.next()) == {"": ""}:
        pass
    assert event is not None
    assert event["data"] == "x"


@pytest.mark.parametrize("kind", APPS)
async def test_a_client_that_leaves_leaves_nothing_behind(serve, connect, kind: str) -> None:
    server = await serve(APPS[kind](on_topics("t", heartbeat=0.05)))
    client = await connect(server)
    events = await Events.open(client)
    await events.next()
    await events.next()
    hub = server.server._running.topics.hub
    assert hub._topics
    client.reset()
    await until(lambda: not hub._topics and not hub._tasks)


@pytest.mark.parametrize("kind", APPS)
async def test_a_client_that_leaves_while_much_is_to_be_sent(serve, connect, kind: str) -> None:
    """The response is cancelled where it waits to send, and not in its events; no garbage collector ends these."""
    server = await serve(APPS[kind](on_topics("t")))
    client = await connect(server, receive_buffer=4096)
    events = await Events.open(client)
    await events.next()
    await events.next()
    hub = server.server._running.topics.hub
    gc.disable()
    try:
        for _ in range(100):
            await publish(server, "t", "x" * 100_000)
        client.reset()
        await until(lambda: not hub._topics and not hub._tasks)
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", APPS)
async def test_the_servers_end_ends_streams(serve, connect, kind: str) -> None:
    """At once, and the response is complete, so that the client comes back with what it has."""
    server = await serve(APPS[kind](on_topics("t")), timeout_graceful_shutdown=50.0)
    events = await Events.open(await connect(server))
    await events.next()
    await events.next()
    await publish(server, "t", "last")
    await within(server.server.shutdown())
    assert (await events.next() or {})["data"] == "last"
    assert await events.next() is None


async def test_what_is_no_request() -> None:
    with pytest.raises(TypeError, match="takes a request or its ASGI scope, not int"):
        topics.event_source(5, "t")
    with pytest.raises(TypeError, match="takes a request or its ASGI scope, not dict"):
        topics.event_source({"type": "websocket"}, "t")


# Streams that end


async def test_a_stream_of_tokens_is_read_whole_by_all(serve, connect) -> None:
    """2,000 tokens, three readers: one from the beginning, one that comes back in the middle, one that comes late."""
    server = await serve(bare_app(on_topics("answer:1", since=topics.START)))
    tokens = [f"t{number} " for number in range(2000)]

    async def write() -> None:
        async with topics.stream("answer:1") as stream:
            for token in tokens:
                await stream.write(token)
                await asyncio.sleep(0)

    async def read(events: Events, most: int = 2**32) -> list[str]:
        got = []
        while (event := await events.next()) is not None and event.get("event") != "end":
            if "data" in event:
                got.append(event["data"])
                if len(got) == most:
                    return got
        assert event is None or await events.next() is None
        return got

    context = server.server._running.context.variables.copy()
    writing = context.run(asyncio.ensure_future, write())
    whole = asyncio.ensure_future(read(await Events.open(await connect(server))))
    client = await connect(server)
    reader = await Events.open(client)
    begun = await read(reader, 700)
    client.reset()
    rest = await read(await Events.open(await connect(server), f"Last-Event-ID: {reader.last_id}"))
    await within(writing)
    late = await read(await Events.open(await connect(server)))
    assert await within(whole) == begun + rest == late == tokens


async def test_a_stream_beyond_its_size_is_told(room: Room) -> None:
    async def write_and_read() -> list[str]:
        async with topics.stream("s", max_size=5) as stream:
            for _ in range(4):
                await stream.write("abc")
        with pytest.raises(topics.MissedMessages) as missed:
            await anext(topics.listen("s", since=topics.START))
        return [missed.value.topic]

    assert await room.run(write_and_read()) == ["s"]


async def test_an_application_that_ends_ends_all_that_it_began() -> None:
    """A client that leaves: when the call returns, nothing of it runs, and nothing is subscribed."""
    sent: list[Any] = []
    left = asyncio.Event()

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        sent.append(event)
        if b"id: " in event.get("body", b""):
            left.set()

    before = asyncio.all_tasks()
    application = topics.event_source({"type": "http", "headers": []}, "t")
    await application({"type": "http"}, receive, send)
    assert [each["type"] for each in sent[:2]] == ["http.response.start", "http.response.body"]
    assert not current_source().hub._topics
    assert asyncio.all_tasks() == before
    await current_source().hub.close()
