"""Two machines publish and read while Redis fails: each message once and in order, or a gap that is told."""

from __future__ import annotations

import asyncio
import threading
import time

from support.helpers import until
from support.redis_server import RedisServer, redis_needed
from support.traffic import flows, traffic

pytestmark = redis_needed


async def test_connections_that_are_killed_cost_nothing(redis, logs):
    async with traffic(redis.url) as parties:
        for _ in range(10):
            await flows(parties, 50)
            await redis.call("CLIENT", "KILL", "TYPE", "pubsub")
    for party in parties:
        assert not party.gaps
        assert not party.local | party.unknown
    assert len([line for line in logs.lines() if "is lost" in line]) == 20


async def test_a_server_that_is_killed_and_has_saved_everything(logs):
    redis = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    try:
        await redis.start()
        async with traffic(redis.url) as parties:
            for _ in range(3):
                await flows(parties)
                await redis.kill()
                await redis.start()
            await flows(parties)
        assert not any(party.gaps for party in parties) or any(party.local for party in parties)
    finally:
        await redis.close()


async def test_a_server_that_is_killed_and_has_saved_nothing(redis, logs):
    async with traffic(redis.url) as parties:
        await flows(parties)
        await redis.kill()
        await redis.start()
        await flows(parties)
    assert all(party.gaps for party in parties)


async def test_a_server_that_was_rolled_back(redis, logs):
    async with traffic(redis.url) as parties:
        await flows(parties)
        await redis.call("SAVE")
        await flows(parties)
        await redis.kill()
        await redis.start()
        await flows(parties)
    assert all(party.gaps for party in parties)


async def test_a_server_that_is_emptied(redis, logs):
    async with traffic(redis.url) as parties:
        for number in range(1, 4):
            await flows(parties)
            await redis.call("FLUSHALL")
            await until(lambda number=number: all(party.gaps >= number for party in parties))
        await flows(parties)
    assert not any(party.local or party.unknown for party in parties)


async def test_a_server_that_is_stopped_is_noticed(redis, logs):
    async with traffic(redis.url + "?socket_timeout=0.3&health_check_interval=0.3") as parties:
        await flows(parties)
        redis.pause()
        began = time.monotonic()
        await until(lambda: not any(party.machine.connected for party in parties))
        assert time.monotonic() - began < 8  # 0.3 s, and whatever else the machine does
        await until(lambda: all(party.local for party in parties))
        redis.resume()
        await until(lambda: all(party.machine.connected for party in parties))
        await flows(parties)
    assert all(party.gaps for party in parties)  # each has missed what the other one has got alone


async def test_a_log_that_does_not_reach_back(redis, logs):
    async with traffic(redis.url, history=10) as parties:
        await flows(parties)
        here, there = parties
        here.machine.backplane._connector = Closed(here.machine.backplane._connector)
        await redis.call("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: here.local and there.machine.connected)
        seen = len(there.placed)
        await until(lambda: len(there.placed) > seen + 20)
        here.machine.backplane._connector.opened.set()
        await flows(parties)
    assert here.gaps == 2
    assert there.gaps == 1
    assert not there.local | there.unknown


class Closed:
    """A connector that waits before it connects."""

    def __init__(self, connector):
        self._connector = connector
        self.opened = threading.Event()

    async def connect(self, *arguments):
        await asyncio.get_running_loop().run_in_executor(None, self.opened.wait)
        return await self._connector.connect(*arguments)
