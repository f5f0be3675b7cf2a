"""`flowserve bench --topics`: on real servers, good ones and others."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from click.testing import CliRunner
from support.helpers import echo, within
from support.redis_server import RedisServer, redis_needed
from support.terminal import Terminal

from flowserve import topics
from flowserve.cli import main
from flowserve.commands.bench.deliveries import Marker

Serve = Callable[..., Awaitable[Any]]
Act = Callable[[int, int, str], Iterable[str]]


async def bench(*args: str) -> tuple[int, str, str]:
    run = await within(asyncio.to_thread(CliRunner().invoke, main, ["bench", *args]), 20)
    return run.exit_code, run.stdout, run.stderr


async def measure(*args: str) -> tuple[int, dict[str, Any]]:
    status, out, err = await bench(*args, "--json")
    assert err == ""
    return status, json.loads(out)


def deliveries(**counts: int) -> dict[str, int]:
    """What is told of deliveries, where all that is not named is 0."""
    names = ("delivered", "late", "lost", "doubled", "swapped", "gaps", "others")
    return {**dict.fromkeys(names, 0), **counts}


async def room(scope: Any, receive: Any, send: Any) -> None:
    """Publishes what it gets to the topic "t", to which all are subscribed."""
    await receive()
    await send({"type": "websocket.accept"})
    await topics.subscribe(scope, "t", envelope="json")
    while (event := await receive())["type"] == "websocket.receive":
        await topics.publish("t", event["text"])


class Broadcast:
    """Without topics: sends what one says to all. `act(connection, number, text)` says what a connection gets of a
    message; connections are counted from 0, as messages are; those that find out who is subscribed are no messages."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self._sends: dict[int, Any] = {}
        self._number = -1

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self._sends[len(self._sends)] = send
        while (event := await receive())["type"] == "websocket.receive":
            text = event["text"]
            if ":-1;" not in text:
                self._number += 1
            for connection, each in [*self._sends.items()]:
                told = [text] if self._number < 0 else self._act(connection, self._number, text)
                for answer in told:
                    if answer == "close":
                        del self._sends[connection]
                        await each({"type": "websocket.close", "code": 4000})
                    else:
                        await each({"type": "websocket.send", "text": answer})


# Where all comes


async def test_an_application_that_publishes_what_it_gets(serve: Serve) -> None:
    server = await serve(room)
    status, told = await measure(server.ws_url, "--topics", "t", "-c", "5", "--messages", "20", "--rate", "400")
    assert status == 0
    assert (told["published"], told["not_published"], told["unsent"]) == (20, {}, 0)
    assert told["deliveries"] == deliveries(delivered=100)
    assert told["connections"] == {"opened": 5, "failed": {}, "closed": {}, "not_subscribed": 0}
    latency = told["latency"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["max"] < told["seconds"]
    assert sum(each["count"] for each in told["histogram"]) == 100
    assert told["deliveries_per_second"] == pytest.approx(100 / told["seconds"])


@redis_needed
async def test_what_is_published_in_redis(serve: Serve, redis: RedisServer) -> None:
    """Across servers, as they use the same Redis."""
    server = await serve(room, topics_url=redis.url)
    status, told = await measure(
        *(server.ws_url, "--topics", "t", "--topics-url", redis.url, "-c", "5", "-d", "300ms", "--rate", "100")
    )
    assert (status, told["published"], told["not_published"]) == (0, 30, {})
    assert told["deliveries"] == deliveries(delivered=150)


async def test_clients_that_subscribe_by_themselves(serve: Serve) -> None:
    """Where the server speaks the protocol for clients; what it refuses is told."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": topics.SUBPROTOCOL})
        allowed = {"allow": lambda topic, action: topic == "t", "publish_rate": 1, "publish_burst": 12}
        await topics.serve(scope, receive=receive, send=send, **allowed)

    server = await serve(app)
    options = (server.ws_url, "--subprotocol", topics.SUBPROTOCOL, "-c", "3", "--messages", "10", "--rate", "200")
    status, told = await measure(*options, "--topics", "t")
    assert (status, told["published"]) == (0, 10)
    assert told["deliveries"] == deliveries(delivered=30, others=3), "3 answers to subscribe"
    status, told = await measure(*options[:-4], "--messages", "30", "--rate", "300", "--topics", "t")
    (why,) = told["not_published"]
    assert (status, why) == (1, "the server answers: rate_limited: too many messages were published")
    assert told["published"] + told["not_published"][why] == 30
    assert told["deliveries"] == deliveries(delivered=3 * told["published"], others=3)
    status, _, err = await bench(*options, "--topics", "secret")
    assert status == 1
    assert "the server answers: forbidden: " in err


async def test_a_template(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await topics.subscribe(scope, "t")
        while (event := await receive())["type"] == "websocket.receive":
            await topics.publish("t", json.loads(event["text"])["say"] + "!")

    server = await serve(app)
    options = (server.ws_url, "--topics", "t", "-c", "2", "--messages", "3", "--template", '{"say": "{}"}')
    status, told = await measure(*options)
    assert (status, told["deliveries"]) == (0, deliveries(delivered=6))


# Where it does not


def lose(connection: int, number: int, text: str) -> Iterable[str]:
    return [] if (connection, number) in ((0, 1), (0, 9), (1, 2)) else [text]


def double(connection: int, number: int, text: str) -> Iterable[str]:
    return [text, text] if connection == 1 else [text]


def swap() -> Act:
    """Messages 4 and 5 come in the other order on all connections."""
    kept: dict[int, str] = {}

    def act(connection: int, number: int, text: str) -> Iterable[str]:
        if number == 4:
            kept[connection] = text
            return []
        return [text, kept[connection]] if number == 5 else [text]

    return act


def gap(connection: int, number: int, text: str) -> Iterable[str]:
    told = json.dumps({"topic": "t", "gap": True, "position": None})
    return [told] if (connection, number) == (0, 3) else [text]


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lose, {"delivered": 27, "lost": 3}),
        (double, {"delivered": 30, "doubled": 10}),
        (swap(), {"delivered": 30, "swapped": 3}),
        (gap, {"delivered": 29, "lost": 1, "gaps": 1}),
    ],
)
async def test_deliveries_that_are_wrong(serve: Serve, act: Act, told: dict[str, int]) -> None:
    server = await serve(Broadcast(act))
    options = ("-c", "3", "--messages", "10", "--rate", "200", "--timeout", "500ms")
    status, found = await measure(server.ws_url, "--topics", "t", *options)
    assert (status, found["deliveries"]) == (1, deliveries(**told))


async def test_what_comes_before_is_taken(serve: Serve) -> None:
    """A history that is longer than what waits unread on a connection."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def sending(event: Any) -> None:
            await send(event)
            for _ in range(300):
                await send({"type": "websocket.send", "text": "x" * 1000})

        await room(scope, receive, sending)

    server = await serve(app)
    options = (server.ws_url, "--topics", "t", "-c", "4", "--messages", "5", "--rate", "100", "--timeout", "1s")
    status, told = await measure(*options)
    assert (status, told["deliveries"]) == (0, deliveries(delivered=20, others=1200))


async def test_late(serve: Serve) -> None:
    """What is late has come all the same."""
    server = await serve(room)
    options = (server.ws_url, "--topics", "t", "-c", "2", "--messages", "4", "--rate", "100")
    status, told = await measure(*options, "--late", "0.001ms")
    assert (status, told["deliveries"]) == (0, deliveries(delivered=8, late=8))


async def test_who_is_not_subscribed(serve: Serve) -> None:
    """Some, and all: that is an error before anything is measured."""
    count = 0

    async def some(scope: Any, receive: Any, send: Any) -> None:
        nonlocal count
        count += 1
        if count != 2:
            await room(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            pass

    server = await serve(some)
    options = (server.ws_url, "--topics", "t", "-c", "3", "--messages", "5", "--rate", "100", "--timeout", "500ms")
    status, told = await measure(*options)
    assert (status, told["connections"]["not_subscribed"]) == (1, 1)
    assert told["deliveries"] == deliveries(delivered=10, lost=5)


async def test_the_publisher_is_sent_away(serve: Serve) -> None:
    """It is told, and nobody waits for it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": topics.SUBPROTOCOL})
        while "publish" not in (await receive()).get("text", "publish"):
            pass
        await send({"type": "websocket.close", "code": 1011})

    server = await serve(app)
    status, out, err = await bench(server.ws_url, "--subprotocol", topics.SUBPROTOCOL, "--topics", "t", "-c", "2")
    assert (status, out) == (1, "")
    assert "the connection on which is published was closed" in err


async def test_the_publisher_is_sent_away_while_it_publishes(serve: Serve) -> None:
    """The report says that publishing stopped, and when; it ends then."""

    def act(connection: int, number: int, text: str) -> list[str]:
        return ["close"] if (connection, number) == (2, 5) else [text]  # the last one is the publisher's

    options = ("--topics", "t", "-c", "2", "--rate", "100", "--messages", "1000", "--timeout", "500ms")
    server = await serve(Broadcast(act))
    status, out, err = await bench(server.ws_url, *options)
    assert (status, err) == (1, "")
    told = next(line.strip() for line in out.splitlines() if "publishing stopped" in line)
    number, at = re.fullmatch(
        r"publishing stopped after (\d+) of 1,000 messages, at ([\d.]+) s: the connection on which is published was"
        r" closed: .*4000.*",
        told,
    ).groups()  # type: ignore[union-attr]
    assert (6 <= int(number) < 1000, 0 < float(at) < 10, "lower --rate" in out) == (True, True, False)
    server = await serve(Broadcast(act))
    status, found = await measure(server.ws_url, *options)
    assert (status, "4000" in found["publishing_stopped"]["why"]) == (1, True)
    assert found["deliveries"]["delivered"] >= 10


async def test_nobody_is_subscribed(serve: Serve) -> None:
    """An error before anything is measured, with what the server has said."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            pass

    server = await serve(app)
    status, out, err = await bench(server.ws_url, "--topics", "t", "-c", "3", "--timeout", "300ms")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "nothing comes of what is published to 't': the connections are not subscribed to it" in err


async def test_closed_by_the_server(serve: Serve) -> None:
    server = await serve(
        Broadcast(lambda connection, number, text: ["close"] if (connection, number) == (0, 5) else [text])
    )
    options = ("-c", "2", "--messages", "8", "--rate", "100", "--timeout", "500ms")
    status, told = await measure(server.ws_url, "--topics", "t", *options)
    assert (status, told["connections"]["closed"]) == (1, {"4000": 1})
    assert told["deliveries"] == deliveries(delivered=13, lost=3)


# For people


async def test_for_people(serve: Serve) -> None:
    server = await serve(Broadcast(lose))
    options = ("-c", "3", "--messages", "10", "--rate", "200", "--timeout", "500ms")
    status, out, err = await bench(server.ws_url, "--topics", "t\x1b", *options)
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert lines[0] == f"{server.ws_url}/: what is published to t\\x1b, 200 messages a second"
    assert lines[2] == "connections  3 opened, 0 failed, 0 closed by the server"
    assert lines[3].startswith("published    10 messages, ")
    assert lines[4].startswith("delivered    27 messages, ")
    assert lines[5].strip() == "3 lost, 0 doubled, 0 swapped, 0 late (over 1s)"
    assert "3 deliveries had not come when nothing more came for 500ms" in lines


async def test_progress_and_an_early_end(serve: Serve) -> None:
    server = await serve(room)
    terminal = Terminal(
        "bench", server.ws_url, "--topics", "t", "-c", "2", "-d", "1m", "--rate", "200", "--json", piped=True
    )
    try:
        await terminal.shows(" s, sent 2")
        terminal.interrupt()
        assert await terminal.end() == 130
        assert terminal.process.stdout is not None
        told = json.loads(terminal.process.stdout.read())
        assert told["deliveries"] == deliveries(delivered=2 * told["published"])
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--late", "3s"), "--late is for topics: name one with --topics"),
        (("--topics-url", "redis://host"), "--topics-url is for topics"),
        (("--topics", "t", "-n", "3"), "--in-flight does not go with --topics"),
        (("--topics", "t", "--binary"), "--binary does not go with --topics"),
        (("--topics", "t", "--template", "x"), "--template has {}"),
    ],
)
async def test_wrong_usage(options: tuple[str, ...], says: str) -> None:
    status, out, err = await bench("ws://127.0.0.1:1/", *options)
    assert (status, out) == (2, "")
    assert says in err


async def test_the_environment_has_the_url(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    """For topics; it does not stand in the way of echoes."""
    monkeypatch.setenv("FLOWSERVE_TOPICS_URL", "memory:")
    status, _, err = await bench((await serve(room)).ws_url, "--topics", "t", "-c", "1")
    assert (status, "memory: reaches no other process" in err) == (2, True)
    status, told = await measure((await serve(echo)).ws_url, "-c", "1", "--messages", "3")
    assert (status, told["messages"]["echoed"]) == (0, 3)


def test_marks() -> None:
    marker = Marker("a1", 64)
    assert len(marker.text(7)) == 64
    assert marker.number_in(json.dumps({"data": marker.text(7)})) == 7
    assert marker.number_in(marker.text(-1)) == -1
    assert Marker("b2", 64).number_in(marker.text(7)) is None
    for wrong in ("", "hello", "flowserve-bench:a1:x;", "flowserve-bench:a1:", "flowserve-bench:a1:" + "9" * 100):
        assert marker.number_in(wrong) is None
