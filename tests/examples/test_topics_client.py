"""examples/topics/client.js in Node, Chromium and Firefox: each message once and in order, or a gap that is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.helpers import until
from support.pages import BROWSERS, ENGINES, Lab, reported, running
from support.topic_rooms import Room

from flowserve import topics
from flowserve.topics.client import connect

each_engine = pytest.mark.parametrize("engine", ENGINES)
in_node = pytest.mark.parametrize("engine", ["node"])  # the client's own logic: what starts at once will do
each_browser = pytest.mark.parametrize("engine", BROWSERS)


class Bench(NamedTuple):
    """A server with the lab; `run(script)` is a context."""

    lab: Lab
    room: Room
    run: Callable[[str], AbstractAsyncContextManager[None]]
    base: str

    async def opened(self, count: int = 1) -> None:
        """Wait until there are so many WebSockets."""
        await until(lambda: len(self.lab.scopes) >= count, 30)

    async def subscribed(self, topic: str = "news") -> None:
        await until(lambda: topic in self.room.hub._topics, 30)


OpenBench = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def bench(serve: Any, connect: Any, engine: str, tmp_path: Path) -> OpenBench:
    async def start(**options: Any) -> Bench:
        lab = Lab()
        server = await serve(lab.app, **options)
        base = f"http://127.0.0.1:{server.address[1]}"
        folder = tmp_path / "engine"
        folder.mkdir()
        room = Room(server, None, connect)  # type: ignore[arg-type]
        return Bench(lab, room, lambda script: running(engine, lab, base, folder, script), base)

    return start


COLLECT = """
const seen = [];
const client = connect(url);
client.subscribe("news", {
  since: START,
  onmessage(data) { data === "stop" ? report(seen) : seen.push(data); },
  ongap() { seen.push("gap"); },
});
"""


@each_engine
async def test_each_message_once_and_in_order(bench: OpenBench) -> None:
    one = await bench(topics_history=1000)
    async with one.run(COLLECT):
        await one.opened()
        for number in range(200):
            await one.room.publish("news", json=number)
            if number % 40 == 20:
                one.lab.abort()
            if number % 40 == 30:
                await one.opened()
        await one.room.publish("news", "stop")
        assert await reported(one.lab) == list(range(200))


@in_node
async def test_presence(bench: OpenBench) -> None:
    one = await bench()
    script = """
      const told = [];
      const client = connect(url + "?member=bob");
      client.subscribe("news", {
        onmessage(data) { report([told, data]); },
        onpresence(change) { told.push(change); if (change.joins) client.publish("news", "seen"); },
      });
    """
    async with one.run(script):
        await one.subscribed()
        await one.opened()
        async with connect(f"{one.base}/topics?member=ada".replace("http", "ws"), proxy=None) as client:
            client.subscribe("news")
            told, data = await reported(one.lab)
    assert data == "seen"
    assert told[0]["complete"] is True
    assert [each["id"] for each in told[-1]["joins"]][-1] == "ada"


@in_node
async def test_a_gap_is_shown(bench: OpenBench) -> None:
    one = await bench(topics_history=3)
    async with one.run(COLLECT):
        await one.subscribed()
        await one.room.publish("news", json=0)
        await one.room.publish("news", "ready")
        one.lab.reachable.clear()
        one.lab.abort()
        for number in range(1, 10):
            await one.room.publish("news", json=number)
        one.lab.reachable.set()
        await one.opened()
        while one.lab.reports.empty():  # the first ones may be part of what is missing
            await one.room.publish("news", "stop")
            await asyncio.sleep(0.05)
        seen = await reported(one.lab)
    assert seen in ([0, "ready", "gap"], [0, "gap"], ["gap"])  # it may have been lost before they were written


@each_engine
async def test_what_is_published_while_connections_are_lost(bench: OpenBench) -> None:
    one = await bench(topics_history=2000)
    script = """
      const client = connect(url);
      const positions = [];
      for (let n = 0; n < 300; n++) {
        positions.push(client.publish("news", { n, text: "\\u00fc".repeat(n) }));
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      report(await Promise.all(positions));
    """
    async with one.run(script):
        for _ in range(4):
            await one.opened()
            await asyncio.sleep(0.2)
            one.lab.abort()
        positions = await reported(one.lab)

    async def read() -> list[topics.Message]:
        found = []
        async for message in topics.listen("news", since=topics.START):
            found.append(message)
            if len(found) == 300:
                return found
        raise AssertionError

    found = await one.room.run(read())
    assert [message.json()["n"] for message in found] == list(range(300))
    assert [message.position for message in found] == positions


@in_node
async def test_more_than_the_server_takes_at_once(bench: OpenBench) -> None:
    """It waits until it is taken, in order, also when the connection is lost; a thousand wait at most."""
    one = await bench(topics_history=100)
    one.lab.publish_rate = 100
    script = """
      const client = connect(url), seen = [];
      client.subscribe("news", { since: START, onmessage(data) { if (seen.push(data) === 10) report("ten"); } });
      const publishing = Array.from({ length: 50 }, (_, number) => client.publish("news", number));
      await Promise.all(publishing);
      const more = Array.from({ length: 1001 }, (_, number) => client.publish("news", number));
      report([seen, await more.at(-1).catch((error) => error.code)]);
      client.close();
      await Promise.allSettled(more);
    """
    async with one.run(script):
        assert await reported(one.lab) == "ten"
        one.lab.abort()
        assert await reported(one.lab) == [list(range(50)), "unavailable"]


@in_node
async def test_several_topics_and_what_is_refused(bench: OpenBench) -> None:
    one = await bench()
    script = """
      const seen = [], client = connect(url);
      for (const topic of ["news", "weather"])
        client.subscribe(topic, { onmessage: (data) => seen.push([topic, data]) });
      const refused = new Promise((resolve) => client.subscribe("secret", { onerror: resolve }));
      seen.push((await refused).code);
      await client.publish("secret", 1).catch((error) => seen.push(error.code, error instanceof Error));
      for (const data of [1, "two", null, { three: [3] }]) await client.publish("news", data);
      await client.publish("weather", "rain");
      report(seen);
    """
    async with one.run(script):
        expected = ["forbidden", "forbidden", True]
        data: list[Any] = [1, "two", None, {"three": [3]}]
        assert await reported(one.lab) == [*expected, *(["news", each] for each in data), ["weather", "rain"]]


@in_node
async def test_what_is_too_big(bench: OpenBench) -> None:
    """For the topic; for a request, whose number is not read; and for the WebSocket, which is closed."""
    one = await bench(topics_max_size=1024, ws_max_size=65536)
    script = """
      const seen = [], client = connect(url);
      for (const size of [1025, 40000, 100000]) {
        await client.publish("news", "x".repeat(size)).catch((error) => seen.push(error.code));
        await client.publish("news", "x");
      }
      report(seen);
    """
    async with one.run(script):
        assert await reported(one.lab) == ["too_big"] * 3


@in_node
async def test_binary_messages_and_ends(bench: OpenBench) -> None:
    one = await bench()
    script = """
      const seen = [], client = connect(url);
      client.subscribe("answer", {
        since: START,
        onmessage: (data) => seen.push(typeof data === "string" ? data : [...data]),
        onend: (failure) => { client.close(); report([...seen, failure]); },
      });
    """
    await one.room.publish("answer", data=b"\x00\xff")
    await one.room.run(topics.stream("answer").write("token"))
    await one.room.run(topics.stream("answer").end("no more"))
    async with one.run(script):
        assert await reported(one.lab) == [[0, 255], "token", "no more"]
        await until(lambda: not one.room.hub._topics)


@in_node
async def test_subscribing_again_at_once(bench: OpenBench) -> None:
    """What is on its way for the subscription before does not come twice."""
    one = await bench(topics_history=1000)
    script = """
      const seen = [], client = connect(url);
      let subscription, since = START;
      function again() {
        subscription = client.subscribe("news", { since, onmessage(data) {
          if (data === "stop") return report(seen);
          seen.push(data);
          if (data % 7 === 0) { since = subscription.position; subscription.unsubscribe(); again(); }
        } });
      }
      again();
    """
    async with one.run(script):
        for number in range(300):
            await one.room.publish("news", json=number)
        await one.room.publish("news", "stop")
        assert await reported(one.lab) == list(range(300))


@in_node
async def test_grants_are_renewed(bench: OpenBench) -> None:
    one = await bench()
    one.lab.grants = True
    script = """
      const seen = [];
      const grant = async () => (await fetch(base + "/grant")).text();
      connect(url, { grant }).subscribe("news", {
        since: START,
        onmessage(data) { data === "stop" ? report(seen) : seen.push(data); },
      });
    """
    async with one.run(script):
        await one.subscribed()
        for number in range(30):
            await one.room.publish("news", json=number)
            await asyncio.sleep(0.06)
        await one.room.publish("news", "stop")
        assert await reported(one.lab) == list(range(30))
    assert one.lab.granted > 2


@each_browser
async def test_where_websockets_do_not_get_through(bench: OpenBench) -> None:
    one = await bench(topics_history=1000)
    one.lab.refusing = True
    script = """
      const events = (topics) => base + "/events?topics=" + encodeURIComponent(JSON.stringify(topics));
      const states = new Set(), seen = [], codes = [];
      const client = connect(url, { events, onstatus: (status) => states.add(status) });
      client.publish("news", "before it was connected").catch((error) => codes.push(error.code));
      client.subscribe("other", {});
      client.subscribe("news", {
        since: START,
        onmessage(data) { data === "stop" ? report([[...states], seen, codes]) : seen.push(data); },
        ongap() { seen.push("gap"); },
      });
    """
    async with one.run(script):
        await until(lambda: one.lab.streams > 0, 30)
        for number in range(100):
            await one.room.publish("news", json=number)
            if number == 50:
                one.room.server.server._running.topics.drain()  # all streams end
                one.room.server.server._running.topics._draining = False
        await one.room.publish("news", "stop")
        states, seen, codes = await reported(one.lab)
    assert codes == ["unavailable"]
    assert seen == list(range(100))
    assert set(states) == {"waiting", "events"}
    assert one.lab.streams > 1


@in_node
async def test_who_only_publishes_needs_no_event_stream(bench: OpenBench) -> None:
    """After an outage it connects again, as there is nothing that a stream could bring."""
    one = await bench()
    one.lab.refusing = True
    script = """
      let losses = 0;
      const onstatus = (status) => { if (status === "waiting" && ++losses === 2) report("lost"); };
      const client = connect(url, { events: () => base + "/events", onstatus });
      report(await client.publish("news", "hello"));
    """
    async with one.run(script):
        assert await reported(one.lab) == "lost"
        one.lab.refusing = False
        assert (await reported(one.lab)).count(".") == 2


@each_browser
async def test_a_connection_that_is_silent(bench: OpenBench) -> None:
    """It is looked at when the network is back."""
    one = await bench()
    one.lab.mute = True
    script = """
      const client = connect(url, { onstatus(status) {
        if (status === "open") globalThis.dispatchEvent(new Event("online"));
      } });
      client.subscribe("news", { since: START, onmessage: report });
    """
    await one.room.publish("news", "hello")
    async with one.run(script):
        assert await reported(one.lab) == "hello"
    assert len(one.lab.scopes) == 2


@each_engine
async def test_closing(bench: OpenBench) -> None:
    one = await bench()
    script = """
      const client = connect(url);
      client.subscribe("news", {});
      await client.publish("news", 1);
      const unanswered = client.publish("news", 2);
      client.close();
      const codes = [await unanswered.catch((error) => error.code)];
      codes.push(await client.publish("news", 3).catch((error) => error.code));
      report(codes);
    """
    async with one.run(script):
        assert await reported(one.lab) == ["closed", "unavailable"]
        await until(lambda: not one.room.hub._topics)


def test_it_is_small() -> None:
    from support.pages import CLIENT

    assert len(CLIENT.read_bytes()) < 9300
