"""What happens to Redis while messages are published by the workers of two servers."""

from __future__ import annotations

import asyncio
import signal
import time

from compliance.topics.crowd import until
from compliance.topics.scenarios import DEEP, Rig, killed, lose_connections, scenario
from compliance.topics.stores import SERVICE

_AWAY = 4.0
"""Seconds for which a store is away."""
_NOBODY = 1
"""A port on which nobody listens."""


@scenario("redis", "two servers of two workers each, and Redis", store="redis", servers=2, subscribers=1000)
async def redis(rig: Rig) -> None:
    await rig.pause(1)


async def again_and_again(rig: Rig) -> int:
    """Return how often a store is disturbed: about every ten seconds."""
    await asyncio.sleep(0.5)
    return max(1, round(rig.seconds / 10))


async def store_restarted(rig: Rig, number: signal.Signals = signal.SIGTERM) -> None:
    """End the store with a signal and start it again, again and again."""
    for _ in range(await again_and_again(rig)):
        rig.stores[0].end(number)
        await asyncio.sleep(_AWAY)
        rig.stores[0].start()
        await asyncio.sleep(_AWAY)


async def store_stopped(rig: Rig) -> None:
    """Stop the store and continue it, again and again."""
    for _ in range(await again_and_again(rig)):
        rig.stores[0].process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(_AWAY)
        rig.stores[0].process.send_signal(signal.SIGCONT)
        await asyncio.sleep(_AWAY)


@scenario(
    "redis-restarted",
    "Redis ends and starts again, with all it had",
    *DEEP,
    store="redis",
    servers=2,
    subscribers=1000,
    complete=False,
)
async def redis_restarted(rig: Rig) -> None:
    await store_restarted(rig)


@scenario(
    "redis-flushed",
    "Redis is emptied: FLUSHALL",
    *DEEP,
    store="redis",
    servers=2,
    subscribers=1000,
    complete=False,
    told=True,
    rolls_back=True,
)
async def redis_flushed(rig: Rig) -> None:
    for _ in range(await again_and_again(rig)):
        rig.stores[0].ask("FLUSHALL")
        await asyncio.sleep(_AWAY)


@scenario(
    "redis-stopped", "Redis stands still (SIGSTOP)", *DEEP, store="redis", servers=2, subscribers=1000, complete=False
)
async def redis_stopped(rig: Rig) -> None:
    await store_stopped(rig)


@scenario(
    "sentinel-failover",
    "Sentinel makes a replica the master that lacks the last writes",
    *DEEP,
    store="sentinel",
    servers=2,
    subscribers=1000,
    complete=False,
    rolls_back=True,
    told=True,
)
async def sentinel_failover(rig: Rig) -> None:
    master, replica, sentinel = rig.stores
    await rig.pause(0.3)
    replica.ask(f"REPLICAOF 127.0.0.1 {_NOBODY}")  # what is written from now on is lost
    await asyncio.sleep(2)
    master.end(signal.SIGKILL)
    began = time.monotonic()
    address = f"{replica.port}"
    if not await until(lambda: address in sentinel.ask(f"SENTINEL GET-MASTER-ADDR-BY-NAME {SERVICE}"), 60):
        rig.checker.violation("the Sentinel did not make the replica the master")
    rig.notes.append(f"the failover took {time.monotonic() - began:.0f} s")
    await rig.pause(0.3)


@scenario(
    "redis-all-at-once",
    "Redis ends and starts again, workers are killed, connections are lost",
    *DEEP,
    store="redis",
    servers=2,
    subscribers=1000,
    complete=False,
    forgets=True,
)
async def redis_all_at_once(rig: Rig) -> None:
    await asyncio.gather(redis_restarted(rig), killed(rig), lose_connections(rig, 1.0))
