"""Publishing to Redis: batches, callers that are cancelled, connections that break, limits."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from typing import Any

import pytest
from support.helpers import until, within
from support.redis_server import redis_needed

from flowserve.errors import TopicsError
from flowserve.topics.backplane import NotPublished
from flowserve.topics.message import Kind
from flowserve.topics.position import NOWHERE
from flowserve.topics.redis import publisher
from flowserve.topics.remote import reconnector
from flowserve.topics.settings import Retention

pytestmark = redis_needed


class Proxy:
    """Between a hub and Redis: it can hold back what comes, as a network does that lets nothing through."""

    def __init__(self, redis) -> None:
        self._redis = redis
        self._path = str(redis.folder / "proxy.sock")
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"redis+unix://{self._path}?socket_timeout=0.3&health_check_interval=0.3"

    async def __aenter__(self):
        self._server = await asyncio.start_unix_server(self._connected, self._path)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def _connected(self, reader, writer) -> None:
        others = await asyncio.open_unix_connection(str(self._redis.socket))
        self._writers += [writer, others[1]]
        loop = asyncio.get_running_loop()
        self._tasks += [
            loop.create_task(self._pass(reader, others[1])),
            loop.create_task(self._pass(others[0], writer)),
        ]

    async def _pass(self, reader, writer) -> None:
        while data := await reader.read(65536):  # its end is not passed on, as that would lose what Redis has not read
            await self._open.wait()
            writer.write(data)


async def test_a_connection_that_lets_nothing_through(redis, machine, logs):
    async with Proxy(redis) as proxy:
        here, there = machine(proxy.url), machine(redis.url)
        reader, other = await here.reader("t"), await there.reader("t")
        await here.publish("t", "1")
        proxy.hold()
        with pytest.raises(TopicsError, match="it is unknown whether it was published"):
            await here.publish("t", "2")
        assert not await here.publish("t", "3")  # at once, as it is known by now
        await there.publish("t", "4")
        proxy.release()  # what was held back reaches Redis after all, on the connection that this end has given up
        await until(lambda: here.connected)
        await here.publish("t", "5")
        got = await reader.texts(6)
        assert sorted(got) == ["1", "2", "3", "4", "5", "gap"]
        assert [text for text in got if text != "3"] == await other.texts(5)
        assert any("it has not answered for 0.3 s" in line for line in logs.lines())
        await here.hub.close()


async def test_a_key_that_is_repeated_while_redis_stands_still_is_published_once(redis, machine):
    """As the error says; nobody gets it meanwhile, as it would come again."""
    here, there = (machine(redis.url + "?socket_timeout=0.3&health_check_interval=0.3") for _ in range(2))
    readers = [await here.reader("t"), await there.reader("t")]
    assert await here.publish("t", "0", key="0")
    redis.pause()
    with pytest.raises(TopicsError, match="it is unknown whether it was published"):
        await here.publish("t", "1", key="1")
    for key in ("1", "2"):
        with pytest.raises(NotPublished, match="again with the same key"):
            await here.publish("t", key, key=key)
    redis.resume()
    await until(lambda: here.connected and there.connected)
    for key in ("1", "2", "1", "2"):
        assert await here.publish("t", key, key=key)
    assert await there.publish("t", "3")
    for reader in readers:
        assert await reader.texts(4) == ["0", "1", "2", "3"]


async def test_what_is_sent_again_and_then_comes_late_is_published_once(redis, machine, monkeypatch):
    monkeypatch.setattr(reconnector, "GRACE", 30.0)
    async with Proxy(redis) as proxy:
        here, there = machine(proxy.url), machine(redis.url)
        reader = await there.reader("t")
        await here.publish("t", "1")
        proxy.hold()
        publishing = asyncio.ensure_future(here.publish("t", "2"))
        await until(lambda: not here.connected)
        proxy.release()
        assert await within(publishing)
        await here.publish("t", "3")
        assert await reader.texts(3) == ["1", "2", "3"]
        await here.hub.close()
        await there.publish("t", "4")
        assert await reader.texts(1) == ["4"]


async def test_messages_wait_for_a_connection_that_comes_back_soon(redis, machine, monkeypatch):
    monkeypatch.setattr(reconnector, "GRACE", 30.0)
    here = machine(redis.url)
    reader = await here.reader("t")
    await redis.kill()
    await until(lambda: not here.connected)
    publishing = [asyncio.ensure_future(here.publish(topic, str(n))) for n, topic in enumerate("tut")]
    joining = asyncio.ensure_future(here.reader("u"))
    reading = asyncio.ensure_future(here.backplane.read("v", NOWHERE))
    await redis.start()
    assert all(await asyncio.gather(*publishing))
    await within(joining)
    assert not (await within(reading)).complete
    assert await reader.texts(3) == ["gap", "0", "2"]


async def test_calls_end_soon_while_there_is_no_connection(redis, machine, monkeypatch):
    monkeypatch.setattr(reconnector, "GRACE", 0.1)
    here = machine(redis.url)
    await here.hub.open()
    await redis.kill()
    await until(lambda: not here.connected)
    began = time.monotonic()
    assert not any(await asyncio.gather(*(here.publish("t", str(n)) for n in range(100))))
    reader = await here.reader("t")
    with pytest.raises(TopicsError, match="Redis can't be reached"):
        await here.backplane.read("t", NOWHERE)
    assert not await here.publish("t", "x")
    assert await reader.texts(1) == ["x"]
    assert time.monotonic() - began < 8  # GRACE, and whatever else the machine does


async def test_a_caller_that_is_cancelled(redis, machine):
    here = machine(redis.url)
    reader = await here.reader("t")
    tasks = [asyncio.ensure_future(here.hub.publish("t", b"%d" % n, Kind.TEXT)) for n in range(4)]
    await asyncio.sleep(0)  # they have begun, and nothing is sent
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await reader.texts(2) == ["1", "3"]
    sent = asyncio.ensure_future(here.hub.publish("t", b"4", Kind.TEXT))
    for _ in range(3):
        await asyncio.sleep(0)  # it is sent
    sent.cancel()
    await here.publish("t", "5")
    assert await reader.texts(2) == ["4", "5"]
    assert not here.backplane._publisher._lanes
    assert here.backplane._publisher._shared._size == 0


async def test_more_than_can_wait(redis, machine, logs, monkeypatch):
    monkeypatch.setattr(publisher, "_MAX_PENDING", 10_000)
    here = machine(redis.url)
    reader = await here.reader("t")
    results = await asyncio.gather(*(here.publish("t", str(n) * 1000) for n in range(9)), here.publish("t", "x" * 4000))
    assert [bool(each) for each in results] == [True] * 9 + [False]
    assert logs.lines() == ["Topics: Redis is too slow: messages are not published until it has taken those before"]
    assert await here.publish("t", "more")
    assert {"gap", "more"} <= {*await reader.texts(12)}


async def test_large_messages_and_many(redis, machine):
    here, there = machine(redis.url), machine(redis.url)
    reader = await there.reader("t")
    data = os.urandom(500_000)
    await asyncio.gather(*(here.hub.publish("t", data, Kind.BINARY) for _ in range(40)))
    for _ in range(40):
        assert (await reader.next()).data == data
    gc.collect()


async def test_a_stalled_event_loop_is_no_lost_connection(redis, machine, logs):
    here = machine(redis.url + "?socket_timeout=0.2&health_check_interval=0.2")
    reader = await here.reader("t")
    for number in range(5):
        publishing = asyncio.ensure_future(here.publish("t", str(number)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 (that is what applications do)
        assert await publishing
    assert await reader.texts(5) == ["0", "1", "2", "3", "4"]
    assert not logs.lines()


class StrangeLink:
    """Answers what Redis never should."""

    paused = retired = False

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def run(self, commands, answers):
        for each in answers:
            each(self._answer)


@pytest.mark.parametrize("answer", [b"nonsense", b"epoch one", None, 5])
async def test_an_answer_that_is_none_keeps_nobody_waiting(answer):
    """As of a key of a producer that another program has written."""
    publishing = publisher.Publisher("prefix:", "producer")
    publishing.up(StrangeLink(answer))
    with pytest.raises(TopicsError, match="which tells no places"):
        await within(publishing.publish("t", b"x", Kind.TEXT, None, "", Retention(1, 1, 1.0)))
    assert not publishing._lanes
    assert publishing._shared._size == 0
