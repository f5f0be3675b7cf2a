"""What every backplane does, in fair weather: memory, workers of one supervisor, Redis, its cluster, NATS, and yours.

FLOWSERVE_TEST_BACKPLANE is the URL of another one, of a package that is installed; {} in it stands for what differs
with each test, so that none sees messages of the one before. flowserve/topics/README.md says how one is written.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from uuid import uuid4

import pytest
from support.machines import Machine, Machines, Reader
from support.nats_server import NATSServer, nats_needed
from support.redis_cluster import RedisCluster, cluster_needed
from support.redis_server import RedisServer, redis_needed

from flowserve.topics.api.stream import OLDEST
from flowserve.topics.backplane import NotPublished
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.open import BROKER
from flowserve.topics.local.broker import Broker
from flowserve.topics.message import Gap, Kind, Message
from flowserve.topics.position import BEGINNING
from flowserve.topics.settings import Settings

OWN = os.environ.get("FLOWSERVE_TEST_BACKPLANE")

SERVERS = {"redis": RedisServer, "redis+cluster": RedisCluster, "nats": NATSServer}

Join = Callable[..., Machine]


@pytest.fixture(
    params=[
        "memory",
        "siblings",
        pytest.param("redis", marks=redis_needed),
        pytest.param("redis+cluster", marks=cluster_needed),
        pytest.param("nats", marks=nats_needed),
        *([OWN] if OWN else []),
    ]
)
async def join(request: pytest.FixtureRequest, machine: Machines) -> AsyncIterator[Join]:
    """`here, there = join(history=5), join(history=5)`: hubs that reach each other."""
    async with AsyncExitStack() as stack:
        url = await _url(request.param, stack)
        if url == "memory:":
            made: list[Machine] = []  # one, as it reaches nobody else

            def alone(**settings: object) -> Machine:
                if not made:
                    made.append(machine(url, **settings))
                return made[0]

            yield alone
        else:
            yield partial(machine, url)


async def _url(name: str, stack: AsyncExitStack) -> str:
    """Start what a backplane needs; return its URL."""
    if name == "memory":
        return "memory:"
    if name == "siblings":
        broker = Broker(Settings())
        await broker.open()
        stack.callback(broker.close)
        return BROKER + broker.path
    if name in SERVERS:
        server = SERVERS[name]()
        stack.push_async_callback(server.close)
        await server.start()
        return server.url
    return name.replace("{}", uuid4().hex)


@contextmanager
def away(here: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a machine publishes meanwhile does not reach the others."""

    async def publish(*_: object) -> None:
        return None

    with monkeypatch.context() as patched:
        patched.setattr(here.backplane, "publish", publish)
        yield


@pytest.mark.both_loops
async def test_a_message_reaches_all_machines(join):
    here, there = join(), join()
    readers = [await here.reader("news"), await there.reader("news", "other")]
    position = await here.publish("news", "one")
    await there.publish("news", "two")
    for reader in readers:
        first = await reader.next()
        assert isinstance(first, Message)
        assert (first.topic, first.text, first.kind, first.position) == ("news", "one", Kind.TEXT, position)
        assert abs(first.published_at - time.time()) < 60
        assert await reader.texts(1) == ["two"]
    assert position != readers[0].position["news"]


@pytest.mark.both_loops
async def test_messages_of_one_iteration_keep_their_order(join):
    here, there = join(), join()
    reader = await there.reader("a", "b")
    topics = ["a", "b"] * 1000
    positions = await asyncio.gather(*(here.publish(topic, str(n)) for n, topic in enumerate(topics)))
    got = [await reader.next() for _ in topics]
    assert [item.text for item in got if item.topic == "a"] == [str(n) for n in range(0, 2000, 2)]
    assert [item.text for item in got if item.topic == "b"] == [str(n) for n in range(1, 2000, 2)]
    assert {item.position for item in got} == set(positions)
    assert [item.place.offset for item in got if item.topic == "a"] == list(range(1, 1001))


async def test_any_name_and_any_data(join):
    here, there = join(), join()
    names = ["}", "{", "a}b", "%7D", "%", "é\n", "x" * 200, "a:b", "a:b:messages"]
    data = bytes(range(256)) * 4000
    reader = await there.reader(*names)
    for name in names:
        await here.hub.publish(name, data, Kind.BINARY)
        item = await reader.next()
        assert (item.topic, item.data, item.kind) == (name, data, Kind.BINARY)
    assert reader.quiet


async def test_a_key_is_published_once(join):
    here, there = join(), join()
    reader = await here.reader("t")
    first = await here.publish("t", "one", key="k")
    assert await there.publish("t", "again", key="k") == first
    results = await asyncio.gather(
        *(here.publish("t", text, key=key) for text, key in [("a", "k"), ("b", None), ("c", "2"), ("d", "2")])
    )
    assert results[0] == first
    assert results[2] == results[3]
    assert await reader.texts(3) == ["one", "b", "c"]
    assert await here.publish("u", "another topic", key="k") != first


async def test_a_message_with_a_key_is_never_delivered_in_one_process_alone(join, monkeypatch):
    here, there = join(), join()
    reader = await here.reader("t")
    with away(here, monkeypatch), pytest.raises(NotPublished, match="again with the same key"):
        await here.publish("t", "one", key="k")
    assert reader.quiet
    position = await here.publish("t", "one", key="k")
    assert position == await there.publish("t", "one", key="k")
    await here.publish("t", "two")
    assert await reader.texts(2) == ["one", "two"]


async def test_what_one_process_alone_has_got_is_a_gap_for_all(join, monkeypatch):
    """Live, while it takes no more, and for who resumes."""
    here, there = join(), join()
    if here is there:
        pytest.skip("there are no others")
    before = await here.publish("t", "before")
    slow = Reader(QueueSubscriber(1))
    await there.hub.subscribe(slow.queue, ["t"], {"t": OLDEST})
    readers = [await here.reader("t"), await there.reader("t")]
    with away(here, monkeypatch):
        assert await here.publish("t", "alone") == ""
    await there.publish("t", "there")
    await here.publish("t", "after")
    assert sorted(await readers[0].texts(4)) == ["after", "alone", "gap", "there"]
    got = [await readers[1].next() for _ in range(3)]
    texts = ["gap" if isinstance(each, Gap) else each.text for each in got]
    assert sorted(texts) == ["after", "gap", "there"]
    assert texts.index("gap") < texts.index("after")
    late = await there.reader("t", since={"t": before})
    assert (late.recovered, await late.texts(3)) == ({"t": False}, texts)
    behind = await there.reader("t", since={"t": got[texts.index("gap")].position})
    assert behind.recovered == {"t": True}
    assert await slow.texts(4) == ["before", *texts]


async def test_a_gap_is_kept_as_a_message_is(join):
    here = join(history=2)
    await here.hub.open()
    for kind in (Kind.TEXT, Kind.GAP, Kind.TEXT):
        await here.hub.publish("t", b"", kind)
    reading = await here.backplane.read("t", BEGINNING)
    assert [(each.kind, each.place.offset) for each in reading.messages] == [(Kind.GAP, 2), (Kind.TEXT, 3)]


async def test_resuming(join):
    here, there = join(history=5), join(history=5)
    positions = [await here.publish("t", str(n)) for n in range(10)]
    reader = await there.reader("t", since={"t": positions[4]})
    assert reader.recovered == {"t": True}
    assert await reader.texts(5) == ["5", "6", "7", "8", "9"]
    lost = await there.reader("t", since={"t": positions[3]})
    assert lost.recovered == {"t": False}
    assert await lost.texts(1) == ["gap"]
    assert lost.quiet
    for nonsense in ("x", "..", f"{'f' * 16}.{'9' * 3000}.{'0' * 8}", positions[6][:-1] + "g", ".\ud800.", ".0."):
        assert (await there.reader("t", since={"t": nonsense})).recovered == {"t": False}
    changed = positions[6][:-1] + ("0" if positions[6][-1] != "0" else "1")
    assert (await there.reader("t", since={"t": changed})).recovered == {"t": False}
    assert (await there.reader("t", since={"t": positions[9]})).recovered == {"t": True}


async def test_reading_from_the_beginning(join):
    here = join(history=2)
    await here.hub.open()
    read = here.backplane.read
    assert (await read("t", BEGINNING)).complete
    await here.publish("t", "0")
    await here.publish("t", "1")
    reading = await read("t", BEGINNING)
    assert (reading.complete, [each.text for each in reading.messages]) == (True, ["0", "1"])
    assert (reading.start.epoch, reading.start.offset) == (reading.head.epoch, 0)
    await here.publish("t", "2")
    reading = await read("t", BEGINNING)
    assert (reading.complete, [each.text for each in reading.messages], reading.start.offset) == (False, ["1", "2"], 1)


async def test_without_a_history(join):
    here = join(history=0)
    reader = await here.reader("t")
    first = await here.publish("t", "0")
    await here.publish("t", "1")
    assert await reader.texts(2) == ["0", "1"]
    assert (await here.reader("t", since={"t": first})).recovered == {"t": False}


async def test_unsubscribing_and_subscribing_in_one_iteration(join):
    here, there = join(), join()
    for number in range(20):
        reader = await here.reader("t")
        joining = asyncio.ensure_future(here.reader("u"))
        here.hub.ended(reader.queue)
        again = await here.reader("t")
        other = await joining
        await there.publish("t", str(number))
        await there.publish("u", str(number))
        assert await again.texts(1) == await other.texts(1) == [str(number)]
        here.hub.ended(again.queue)
        here.hub.ended(other.queue)


async def test_many_topics_at_once(join):
    here, there = join(max_per_connection=1000), join()
    names = [f"t{n}" for n in range(1000)]
    reader = await here.reader(*names)
    await asyncio.gather(*(there.publish(name, name) for name in names))
    assert sorted(await reader.texts(1000)) == sorted(names)
