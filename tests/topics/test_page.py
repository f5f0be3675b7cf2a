"""The examples of flowserve/topics/README.md run as they stand there, and do what the page says."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.documents import blocks, section
from support.draining import launched
from support.helpers import Client, until, within
from support.redis_server import RedisServer, redis_needed
from support.topic_requests import Requester

from flowserve import topics
from flowserve.topics.hub.current import current_source
from flowserve.topics.serving.grants import keys_of, read_grant

PAGE = "flowserve/topics/README.md"


def example(heading: str, number: int = 0) -> str:
    return blocks(section(PAGE, heading), "python")[number]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """`await launched("example:app", *write(code))`"""

    def make(code: str) -> tuple[str, ...]:
        (tmp_path / "example.py").write_text(code, "utf-8")
        return "--app-dir", str(tmp_path)

    return make


async def open_ws(address: Any, target: str) -> Client:
    client = await Client.connect(address)
    await client.upgrade(target)
    return client


async def events(client: Client, target: str, *headers: str) -> AsyncIterator[dict[str, str]]:
    """Those of an event stream that have data."""
    await client.raw("\r\n".join((f"GET {target} HTTP/1.1", "Host: a.example", *headers, "", "")).encode())
    assert (await client.head()).status == 200
    text = ""
    async for chunk in client.chunks():
        text += chunk.decode()
        while "\n\n" in text:
            block, _, text = text.partition("\n\n")
            event = dict(re.findall(r"^(\w+): ?(.*)$", block, re.MULTILINE))
            if "data" in event:
                yield event


async def next_event(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await client.message())
    return found


async def test_a_chat(write: Any, command: Any) -> None:
    server = await command("example:app", *write(example("A chat")), "--workers", "2")
    clients = [await open_ws(server.address, "/?room=tea") for _ in range(6)]
    for number, client in enumerate(clients):  # each is subscribed once it hears itself
        await client.send_text(str(number))
        while (await next_event(client))["data"] != str(number):
            pass
    await clients[0].send_text("the last")
    for client in clients:
        while (event := await next_event(client))["data"] != "the last":
            pass
    assert event["topic"] == "room:tea"
    await clients[1].send_text("after it")
    assert (await next_event(clients[0]))["data"] == "after it"
    again = await open_ws(server.address, f"/?room=tea&since={event['position']}")
    assert (await next_event(again))["data"] == "after it"
    other = await open_ws(server.address, "/")
    await other.send_text("alone")
    assert (await next_event(other))["data"] == "alone"
    for client in (*clients, other, again):
        await client.aclose()
    server.signal(signal.SIGTERM)
    assert (await server.wait())[0] == 0


async def test_an_asgi_application(write: Any) -> None:
    async with launched("example:app", *write(example("Subscribing a WebSocket")), "--lifespan", "off") as server:
        client = await open_ws(server.address, "/")
        assert re.fullmatch(r"after \w+\.0\.\w+", str(await client.message()))
        await client.aclose()


def subscribers(topic: str) -> int:
    """Of the server that runs in this event loop."""
    found = current_source().hub._topics.get(topic)
    return 0 if found is None else sum(len(group.members) for group in found._groups.values())


async def test_the_library(write: Any) -> None:
    from flowserve import connect, serve

    scope: dict[str, Any] = {"__name__": "page"}
    exec(example("Subscribing a WebSocket", 1).partition("\n\nasyncio.run")[0], scope)
    async with serve(scope["handler"], "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connect(uri, proxy=None) as one, connect(uri, proxy=None) as two:
            await until(lambda: subscribers("chat") == 2)
            await one.send("hello")
            await two.send("hi")
            assert await within(two.recv()) == "hello"
            assert await within(one.recv()) == "hi"


async def test_clients_that_subscribe_by_themselves(write: Any, command: Any) -> None:
    code = example("Clients that subscribe by themselves")
    server = await command("example:app", *write(code), "--workers", "2")
    ada, bob = [Requester(await open_ws(server.address, f"/?user={name}")) for name in ("ada", "bob")]
    await ada.request("subscribe", topic="inbox:ada")
    assert await bob.refused("subscribe", topic="inbox:ada") == "forbidden"
    assert await bob.refused("publish", topic="news", data="mine") == "forbidden"
    await ada.request("publish", topic="inbox:ada", data="a note")
    assert await ada.data() == "a note"
    for each in (ada, bob):
        await each.client.aclose()


async def test_the_client_in_python(write: Any, command: Any) -> None:
    server = await command("example:app", *write(example("Clients that subscribe by themselves")), "--workers", "2")
    code = example("A client in Python").replace("127.0.0.1:8000", "{}:{}".format(*server.address))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", code), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out, _ = await within(process.communicate(), 30)
    assert re.fullmatch(r"published at \S+\nhello\n", out.decode())


async def test_grants() -> None:
    scope: dict[str, Any] = {}
    exec(example("Grants"), scope)
    found = read_grant(scope["text"], keys_of(["another secret of some length", scope["SECRET"]]))
    assert found.allows("inbox:ada", "publish")
    assert not found.allows("inbox:bob", "publish")
    rooms = read_grant(scope["rooms"], keys_of(scope["SECRET"]))
    assert rooms.allows("room:7", "subscribe")
    assert not rooms.allows("room:7", "publish")


async def test_listening(write: Any, tmp_path: Path) -> None:
    """With a publisher beside it; the task of the lifespan ends when the server does."""
    code = example("Listening in the application").replace("print(message", "heard.append(message.text), print(message")
    code += (
        "\n\nheard = []\n\n"
        "async def publish(request):\n"
        "    from starlette.responses import PlainTextResponse\n"
        "    await topics.publish('orders', 'tea')\n"
        "    return PlainTextResponse(' '.join(heard))\n\n"
        "app.add_route('/', publish)\n"
    )
    async with launched("example:app", *write(code), "--timeout-graceful-shutdown", "30") as server:
        client = await Client.connect(server.address)
        while not (await client.get()).body.startswith(b"tea"):
            pass
        await client.aclose()
        server.process.terminate()
        status, out = await server.wait()
    assert (status, set(out.splitlines())) == (0, {"orders tea"}), server.log


async def test_an_event_stream(write: Any) -> None:
    code = example("Event streams") + (
        "\n\nasync def publish(request):\n"
        "    from starlette.responses import PlainTextResponse\n"
        "    return PlainTextResponse(await topics.publish('news', 'tea'))\n\n"
        "app.add_route('/publish', publish)\n"
    )
    async with launched("example:app", *write(code), "--timeout-graceful-shutdown", "30") as server:
        reader, publisher = [await Client.connect(server.address) for _ in range(2)]
        position = (await publisher.get("/publish")).body.decode()
        reading = events(reader, "/events", f"Last-Event-ID: {topics.START}")
        assert await anext(reading) == {"id": position, "data": "tea"}
        position = (await publisher.get("/publish")).body.decode()
        assert await anext(reading) == {"id": position, "data": "tea"}
        await publisher.aclose()
        server.process.terminate()
        assert [event async for event in reading] == []
        await server.wait()
        await reader.aclose()


async def test_a_stream_with_an_end(write: Any) -> None:
    code = example("Event streams", 1)
    async with launched("example:app", *write(code)) as server:
        client = await Client.connect(server.address)
        await client.raw(b"POST /7 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n")
        assert (await client.response("POST")).body == b"answer:7"
        for _ in range(2):  # while it is written, and afterwards
            found = [each async for each in events(client, "/7")]
            assert [each["data"] for each in found] == ["to ", "be ", "or ", "not", ""]
            assert [each.get("event") for each in found] == [None] * 4 + ["end"]
        await client.aclose()


@redis_needed
async def test_a_program_that_is_not_served(redis: RedisServer) -> None:
    code = example("Programs that are not served").replace("redis://127.0.0.1", redis.url)
    async with topics.connect(redis.url) as connection:
        for _ in range(2):  # with its key, the message is published once
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-c", code), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            assert await within(process.communicate(), 30) == (b"", None)
        await connection.publish("news", "the next")
        heard = connection.listen("news", since=topics.START)
        assert [(await within(anext(heard))).text for _ in range(2)] == ["The report is ready", "the next"]
        await heard.aclose()
