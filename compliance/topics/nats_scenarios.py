"""What happens to NATS while messages are published by the workers of two servers."""

from __future__ import annotations

import asyncio
import signal
from functools import partial

from compliance.topics.redis_scenarios import again_and_again, store_restarted, store_stopped
from compliance.topics.scenarios import DEEP, Rig, killed, lose_connections, scenario
from compliance.topics.stores import NATSStore

_AWAY = 4.0
"""Seconds between two purges."""

_nats = partial(scenario, store="nats", servers=2, subscribers=1000)
_unsteady = partial(_nats, complete=False)


@_nats("nats", "two servers of two workers each, and NATS")
async def nats(rig: Rig) -> None:
    await rig.pause(1)


@_nats("nats-several-topics", "the same, 20 topics, 5 a subscriber", topics=20, each=5)
async def nats_several_topics(rig: Rig) -> None:
    await rig.pause(1)


@_unsteady("nats-restarted", "NATS ends and starts again, with all it had", *DEEP)
async def nats_restarted(rig: Rig) -> None:
    await store_restarted(rig)


@_unsteady("nats-killed", "NATS is killed (SIGKILL) and starts again", *DEEP, rolls_back=True)
async def nats_killed(rig: Rig) -> None:
    await store_restarted(rig, signal.SIGKILL)


@scenario(
    "nats-memory",
    "NATS has all in memory, ends and starts again",
    *DEEP,
    store="nats-memory",
    servers=2,
    subscribers=1000,
    complete=False,
    told=True,
    rolls_back=True,
)
async def nats_memory(rig: Rig) -> None:
    await store_restarted(rig)


@_unsteady("nats-purged", "the stream of NATS is purged", *DEEP, told=True, rolls_back=True)
async def nats_purged(rig: Rig) -> None:
    (store,) = rig.stores
    assert isinstance(store, NATSStore)
    for _ in range(await again_and_again(rig)):
        store.purge()
        await asyncio.sleep(_AWAY)


@_unsteady("nats-stopped", "NATS stands still (SIGSTOP)", *DEEP)
async def nats_stopped(rig: Rig) -> None:
    await store_stopped(rig)


@_unsteady(
    "nats-all-at-once", "NATS ends and starts again, workers are killed, connections are lost", *DEEP, forgets=True
)
async def nats_all_at_once(rig: Rig) -> None:
    await asyncio.gather(store_restarted(rig), killed(rig), lose_connections(rig, 1.0))
