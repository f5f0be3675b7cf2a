"""Topics in Redis, in fair weather; test_faults.py has the rest."""

from __future__ import annotations

import asyncio

import pytest
from support.helpers import until, within
from support.redis_server import redis_needed, until_channels

from flowserve.errors import TopicsError
from flowserve.topics.position import BEGINNING, parse

pytestmark = redis_needed


async def test_without_a_history(redis, machine):
    here = machine(redis.url, history=0)
    reader = await here.reader("t")
    first = await here.publish("t", "0")
    await here.publish("t", "1")
    assert await reader.texts(2) == ["0", "1"]
    assert (await here.reader("t", since={"t": first})).recovered == {"t": False}
    assert await redis.call("EXISTS", "flowserve:{t}:log") == 0


async def test_unsubscribing_and_subscribing_in_one_iteration(redis, machine):
    here, there = machine(redis.url), machine(redis.url)
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
    await until_channels(redis, [])


async def test_everything_expires(redis, machine):
    here = machine(redis.url, history_age=0.2)
    position = await here.publish("t", "x", key="k")
    keys = [key for key in await redis.call("KEYS", "flowserve:{t}:*") if not key.endswith("head")]
    assert len(keys) == 3  # log, producer and key
    for key in keys:
        assert 0 < await redis.call("PTTL", key) <= 60_000
    assert 86_000_000 < await redis.call("PTTL", "flowserve:{t}:head") <= 86_401_000
    await until_gone(redis, "flowserve:{t}:log")
    reading = await here.backplane.read("t", parse(position))
    assert (reading.complete, reading.head) == (True, parse(position))
    await here.publish("t", "y")
    assert not (await here.backplane.read("t", BEGINNING)).complete


async def until_gone(redis, key):
    async def come():
        while await redis.call("EXISTS", key):
            pass

    await within(come())


async def test_a_head_in_use_lives_on_and_is_compared(redis, machine):
    here, there = machine(redis.url), machine(redis.url)
    reader = await here.reader("t")
    await there.publish("t", "0")
    assert await reader.texts(1) == ["0"]
    await redis.call("PEXPIRE", "flowserve:{t}:head", 100_000)
    here.backplane._subscriptions._refresh_at = 0.0
    here.backplane._subscriptions.refresh()
    await there.publish("t", "1")
    assert await reader.texts(1) == ["1"]
    assert await redis.call("PTTL", "flowserve:{t}:head") > 100_000
    await redis.call("DEL", "flowserve:{t}:head")
    here.backplane._subscriptions._refresh_at = 0.0
    here.backplane._subscriptions.refresh()
    assert await reader.texts(1) == ["gap"]


async def test_what_is_no_message_is_logged(redis, machine, logs):
    here = machine(redis.url)
    reader = await here.reader("t")
    for nonsense in ("", "x" * 40, "x" * 16 + "\0" * 40):
        await redis.call("PUBLISH", "flowserve:{t}:messages", nonsense)
    await until(lambda: len(logs.lines()) == 3)
    assert all("is no message" in line for line in logs.lines())
    await redis.call("SET", "flowserve:{t}:head", "something else")
    await here.publish("t", "1")
    assert await reader.texts(2) == ["gap", "1"]
    await redis.call("LPUSH", "flowserve:{u}:head", "not a string")
    with pytest.raises(TopicsError, match="WRONGTYPE"):
        await here.publish("u", "1")
    with pytest.raises(TopicsError, match="WRONGTYPE"):
        await here.reader("u")
    assert here.connected


async def test_what_redis_refuses_reaches_nobody_else(redis, machine):
    here, there = machine(redis.url), machine(redis.url)
    reader = await there.reader("t")
    await here.publish("t", "1")
    await redis.call("CONFIG", "SET", "min-replicas-to-write", "1")
    refused = asyncio.ensure_future(here.publish("t", "refused"))
    await until(lambda: refused.done() or not here.connected)
    await redis.call("CONFIG", "SET", "min-replicas-to-write", "0")
    told = await within(refused)
    await until(lambda: here.connected)
    last = await here.publish("t", "2")
    expected = ["1", "refused", "2"] if told else ["1", "2"]
    assert await reader.texts(len(expected)) == expected
    assert reader.quiet
    assert (await there.backplane.read("t", BEGINNING)).head.position() == last


async def test_scripts_that_are_forgotten_are_loaded_again(redis, machine):
    here = machine(redis.url)
    reader = await here.reader("t")
    await redis.call("SCRIPT", "FLUSH")
    await asyncio.gather(*(here.publish(topic, "x") for topic in "ttuv"))
    await redis.call("SCRIPT", "FLUSH")
    assert (await here.backplane.read("u", BEGINNING)).complete
    await redis.call("SCRIPT", "FLUSH")
    await here.reader("w")
    assert await reader.texts(2) == ["x", "x"]


async def test_prefix_and_database_keep_applications_apart(redis, machine):
    one, two = machine(redis.url + "?prefix=one:&db=1"), machine(redis.url + "?prefix=two:&db=1")
    readers = [await one.reader("t"), await two.reader("t")]
    await one.publish("t", "1")
    await two.publish("t", "2")
    assert [await reader.texts(1) for reader in readers] == [["1"], ["2"]]
    assert await redis.call("DBSIZE") == 0


async def test_closing_waits_for_what_is_published(redis, machine):
    here, there = machine(redis.url), machine(redis.url)
    reader = await there.reader("t")
    await here.hub.open()
    publishing = [asyncio.ensure_future(here.publish("t", str(n))) for n in range(100)]
    await asyncio.sleep(0)  # they have begun
    await asyncio.sleep(0)
    await here.hub.close()
    assert all(await asyncio.gather(*publishing))
    assert await reader.texts(100) == [str(n) for n in range(100)]
    assert not await here.publish("t", "too late")
    await here.hub.close()
