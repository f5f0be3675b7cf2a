"""The client in Python: each message once and in order, or a gap, whatever is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from support.helpers import until, within
from support.pages import SECRET, Lab
from support.topic_rooms import Room

from flowserve import HandshakeError, topics
from flowserve.errors import RequestRefused, TopicsError
from flowserve.topics.backplane import unknown_whether_published
from flowserve.topics.client import Client, Gap, Member, Subscription, connect
from flowserve.topics.client import client as client_module


class Bench(NamedTuple):
    lab: Lab
    room: Room
    uri: str

    def connect(self, **options: Any) -> Any:
        return connect(self.uri, proxy=None, **options)


OpenBench = Callable[..., Awaitable[Bench]]


@pytest.fixture
def bench(serve: Any, connect: Any) -> OpenBench:
    async def start(**options: Any) -> Bench:
        lab = Lab()
        server = await serve(lab.app, **options)
        room = Room(server, None, connect)  # type: ignore[arg-type]
        return Bench(lab, room, f"ws://127.0.0.1:{server.address[1]}/topics")

    return start


async def collect(subscription: Subscription, last: Any = "stop") -> list[Any]:
    """The data of all messages until the last one, None for a gap."""
    found: list[Any] = []
    async for item in subscription:
        data = None if isinstance(item, Gap) else item.data
        if data == last:
            return found
        found.append(data)
    raise AssertionError("it has ended")


@pytest.mark.both_loops
async def test_subscribing_and_publishing(bench: OpenBench) -> None:
    one = await bench()
    async with one.connect() as client:
        subscription = client.subscribe("news", since=topics.START)
        position = await within(client.publish("news", "hello"))
        message = await within(anext(subscription))
        assert (message.topic, message.position, message.data) == ("news", position, "hello")
        assert subscription.position == position
        await client.publish("news", data=b"\x00\xff")
        await client.publish("news", json={"n": [1]})
        assert [(await within(anext(subscription))).data for _ in range(2)] == [b"\x00\xff", {"n": [1]}]
        with pytest.raises(ValueError, match="already"):
            client.subscribe("news")
        await subscription.aclose()
        assert [each async for each in subscription] == []
        await until(lambda: not one.room.hub._topics)


async def test_presence(bench: OpenBench) -> None:
    """Also after a loss, upon which all is told anew."""
    one = await bench()
    async with one.connect() as client:
        subscription = client.subscribe("news", presence=True)
        await until(lambda: bool(one.room.hub._topics))
        async with connect(f"{one.uri}?member=ada", proxy=None) as other:
            other.subscribe("news")
            await until(lambda: list(subscription.present) == ["ada"])
            assert subscription.present["ada"] == Member("ada", None, subscription.present["ada"].since)
            one.lab.abort()
            subscription.present.clear()
            await until(lambda: list(subscription.present) == ["ada"])
        await until(lambda: not subscription.present)
        await client.publish("news", "only messages are items")
        assert (await within(anext(subscription))).data == "only messages are items"


async def test_each_message_once_and_in_order(bench: OpenBench) -> None:
    one = await bench(topics_history=1000)
    async with one.connect() as client:
        collecting = asyncio.ensure_future(collect(client.subscribe("news", since=topics.START)))
        for number in range(200):
            await one.room.publish("news", json=number)
            if number % 40 == 20:
                await until(lambda: bool(one.lab.scopes))
                one.lab.abort()
        await one.room.publish("news", "stop")
        assert await within(collecting, 30) == list(range(200))


async def test_a_gap(bench: OpenBench) -> None:
    one = await bench(topics_history=3)
    async with one.connect() as client:
        subscription = client.subscribe("news", since=topics.START)
        await until(lambda: "news" in one.room.hub._topics)
        await one.room.publish("news", json=0)
        assert (await within(anext(subscription))).data == 0
        one.lab.abort()
        for number in range(1, 10):
            await one.room.publish("news", json=number)
        gap = await within(anext(subscription))
        assert isinstance(gap, Gap)
        assert gap.position == subscription.position


async def test_what_is_published_while_connections_are_lost(bench: OpenBench) -> None:
    one = await bench(topics_history=2000)
    async with one.connect() as client:
        publishing = []
        for number in range(300):
            publishing.append(asyncio.ensure_future(client.publish("news", json=number)))
            await asyncio.sleep(0.003)
            if number % 60 == 30:
                await until(lambda: bool(one.lab.scopes))
                one.lab.abort()
        positions = await within(asyncio.gather(*publishing), 30)
        subscription = client.subscribe("news", since=topics.START)
        found = [await within(anext(subscription)) for _ in range(300)]
    assert [each.data for each in found] == list(range(300))
    assert [each.position for each in found] == positions


async def test_more_than_the_server_takes_at_once(bench: OpenBench) -> None:
    """It waits until it is taken, in order, also when the connection is lost."""
    one = await bench(topics_history=100)
    one.lab.publish_rate = 100
    async with one.connect() as client:
        publishing = [asyncio.ensure_future(client.publish("news", json=number)) for number in range(50)]
        subscription = client.subscribe("news", since=topics.START)
        found = [await within(anext(subscription)) for _ in range(10)]
        one.lab.abort()
        found += [await within(anext(subscription)) for _ in range(40)]
        positions = await within(asyncio.gather(*publishing))
    assert [each.data for each in found] == list(range(50))
    assert [each.position for each in found] == positions


async def test_a_program_that_publishes_too_fast_for_long(bench: OpenBench) -> None:
    one = await bench()
    one.lab.publish_rate = 0.01
    async with one.connect() as client:
        publishing = [asyncio.ensure_future(client.publish("news", json=number)) for number in range(1000)]
        await asyncio.sleep(0)
        with pytest.raises(TopicsError, match="1000 messages wait"):
            await client.publish("news", "one more")
        publishing[-1].cancel()
        await asyncio.wait([publishing[-1]])
        publishing.append(asyncio.ensure_future(client.publish("news", "there is room again")))
        await within(asyncio.gather(*publishing[:4]))
    ends = await asyncio.gather(*publishing[4:], return_exceptions=True)
    assert {type(end) for end in ends} == {RequestRefused, asyncio.CancelledError}


async def test_a_program_that_is_slow_holds_up_no_other_topic(bench: OpenBench) -> None:
    one = await bench(topics_history=1000)
    async with one.connect(max_queue=10) as client:
        slow = client.subscribe("slow", since=topics.START)
        fast = client.subscribe("fast", since=topics.START)
        for number in range(100):
            await client.publish("slow", json=number)
        await client.publish("slow", "stop")
        await client.publish("fast", "hello")
        assert (await within(anext(fast))).data == "hello"
        assert len(slow._items) == 10
        await until(lambda: "slow" not in one.room.hub._topics)
        assert await within(collect(slow)) == list(range(100))


async def test_the_end_of_a_stream(bench: OpenBench) -> None:
    one = await bench()
    await one.room.run(topics.stream("a").write("token"))
    await one.room.run(topics.stream("a").end())
    await one.room.run(topics.stream("b").end("no more"))
    async with one.connect() as client:
        assert [each.data async for each in client.subscribe("a", since=topics.START)] == ["token"]
        with pytest.raises(TopicsError, match="no more"):
            await within(anext(client.subscribe("b", since=topics.START)))


async def test_what_is_refused(bench: OpenBench) -> None:
    one = await bench()
    async with one.connect() as client:
        with pytest.raises(RequestRefused, match="forbidden") as refused:
            await within(anext(client.subscribe("secret")))
        assert refused.value.code == "forbidden"
        with pytest.raises(RequestRefused):
            await client.publish("secret", "hello")
        with pytest.raises(TypeError):
            await client.publish("news")
        await client.publish("news", "hello")


async def test_what_may_have_been_published_can_be_repeated(bench: OpenBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the key that was made for it, which the exception has."""
    one = await bench()
    publish = one.room.hub._backplane.publish

    async def lose_the_answer(*arguments: Any) -> Any:
        await publish(*arguments)
        raise unknown_whether_published("Redis")

    async with one.connect() as client:
        collecting = asyncio.ensure_future(collect(client.subscribe("news", since=topics.START)))
        with monkeypatch.context() as patched:
            patched.setattr(one.room.hub._backplane, "publish", lose_the_answer)
            with pytest.raises(RequestRefused) as refused:
                await client.publish("news", "1")
        assert refused.value.code == "unavailable"
        assert refused.value.key
        assert await client.publish("news", "1", key=refused.value.key)
        with pytest.raises(RequestRefused) as refused:
            await client.publish("secret", "1", key="mine")
        assert refused.value.key == "mine"
        with pytest.raises(RequestRefused) as refused:
            await within(anext(client.subscribe("secret")))
        assert refused.value.key is None
        await client.publish("news", "stop")
        assert await within(collecting) == ["1"]


async def test_what_is_too_big(bench: OpenBench) -> None:
    """For the topic; for a request, whose number is not read; and for the WebSocket, which is closed."""
    one = await bench(topics_max_size=1024, ws_max_size=65536)
    async with one.connect() as client:
        for size in (1025, 40_000, 100_000):
            with pytest.raises(RequestRefused, match="too_big"):
                await within(client.publish("news", "x" * size))
            await within(client.publish("news", "x"))


async def test_grants_are_renewed(bench: OpenBench) -> None:
    one = await bench()
    one.lab.grants = True
    granted: list[str] = []

    async def grant() -> str:
        granted.append(topics.grant(SECRET, ["news"], ttl=0.3))
        return granted[-1]

    async with one.connect(grant=grant) as client:
        collecting = asyncio.ensure_future(collect(client.subscribe("news", since=topics.START)))
        for number in range(20):
            await one.room.publish("news", json=number)
            await asyncio.sleep(0.05)
        await one.room.publish("news", "stop")
        assert await within(collecting) == list(range(20))
    assert len(granted) > 2
    async with one.connect(grant=lambda: granted[0]) as client:  # it has expired
        with pytest.raises(RequestRefused, match="forbidden"):
            await within(anext(client.subscribe("news")))


async def test_whoever_gives_grants_may_be_away(bench: OpenBench, logs: Any) -> None:
    one = await bench()
    one.lab.grants = True
    asked: list[int] = []

    def grant() -> str:
        asked.append(len(asked))
        if asked[-1] == 0:
            raise ConnectionRefusedError("nobody is there")
        return topics.grant(SECRET, ["news"])

    async with one.connect(grant=grant) as client:
        subscription = client.subscribe("news", since=topics.START)
        await one.room.publish("news", "hello")
        assert (await within(anext(subscription))).data == "hello"
    assert asked == [0, 1]
    assert sum("nobody is there" in line for line in logs.lines()) == 1


async def test_the_end_of_the_client(bench: OpenBench) -> None:
    one = await bench()
    async with one.connect() as client:
        subscription = client.subscribe("news")
        reading = asyncio.ensure_future(collect(subscription))
        await until(lambda: "news" in one.room.hub._topics)
    with pytest.raises(AssertionError, match="it has ended"):
        await reading
    with pytest.raises(TopicsError, match="ended"):
        await client.publish("news", "hello")
    assert [each async for each in client.subscribe("other")] == []


async def test_an_error_that_does_not_pass(bench: OpenBench) -> None:
    one = await bench()
    one.lab.refusing = True
    async with one.connect() as client:
        subscription = client.subscribe("news")
        with pytest.raises(HandshakeError):
            await within(anext(subscription))
        with pytest.raises(HandshakeError):
            await client.publish("news", "hello")


async def test_a_server_that_does_not_speak_it(serve: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    server = await serve(app)
    async with connect(f"ws://127.0.0.1:{server.address[1]}", proxy=None) as client:
        with pytest.raises(TopicsError, match="does not speak"):
            await within(anext(client.subscribe("news")))


def test_the_package_has_it() -> None:
    assert topics.client.connect is connect
    assert topics.client.Client is Client
    with pytest.raises(AttributeError):
        _ = topics.no_such_thing


async def test_a_client_that_ends_while_its_connection_is_lost(
    bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not connect again, and ends."""
    ending = asyncio.Event()

    async def write(ws: Any, outgoing: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await asyncio.Event().wait()  # until it is cancelled once more

    monkeypatch.setattr(client_module, "_write", write)
    one = await bench()

    async def use() -> None:
        async with one.connect():
            await until(lambda: bool(one.lab.scopes))
            one.lab.abort()
            await within(ending.wait())

    await within(use())
