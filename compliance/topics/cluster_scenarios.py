"""What happens to a Redis Cluster while messages are published by the workers of two servers."""

from __future__ import annotations

import asyncio
import signal
import time
from functools import partial
from typing import cast

from redis import Redis
from redis.crc import key_slot

from compliance._servers import HOST
from compliance.topics.crowd import until
from compliance.topics.redis_scenarios import again_and_again
from compliance.topics.scenarios import DEEP, Rig, lose_connections, scenario
from compliance.topics.stores import ClusterNode
from flowserve.topics.redis.slots import partition_of

_MOVED = 2.0
"""Seconds between two moves of a slot."""
_LOST = 2.0
"""Seconds whose writes a failover loses."""

_cluster = partial(scenario, store="cluster", servers=2, subscribers=1000)


@_cluster(
    "cluster", "two servers of two workers each, and a Redis Cluster of three nodes, 20 topics", topics=20, each=5
)
async def cluster(rig: Rig) -> None:
    await rig.pause(1)


@_cluster("cluster-moves", "the topic's slot moves from node to node, again and again", *DEEP)
async def cluster_moves(rig: Rig) -> None:
    masters = _nodes(rig)[:3]
    slot = _slot_of("cluster-moves:0")
    for number in range(5 * await again_and_again(rig)):
        source = _owner(masters, slot)
        target = masters[(masters.index(source) + 1) % 3]
        await asyncio.to_thread(_move, slot, source, target, masters)
        rig.notes[:] = [f"it moved {number + 1} times"]
        await asyncio.sleep(_MOVED)


@_cluster(
    "cluster-failover",
    "the node that has the topic is killed, and its replica takes over",
    *DEEP,
    complete=False,
    rolls_back=True,
)
async def cluster_failover(rig: Rig) -> None:
    await _to_the_first(rig, "cluster-failover:0")
    await rig.pause(0.3)
    await _fail_over(rig)
    await rig.pause(0.3)


@_cluster(
    "cluster-failover-lossy",
    "the same, the replica lacks the last writes, and connections are lost meanwhile",
    *DEEP,
    complete=False,
    rolls_back=True,
    told=True,
)
async def cluster_failover_lossy(rig: Rig) -> None:
    await _to_the_first(rig, "cluster-failover-lossy:0")
    first, *_, replica = _nodes(rig)
    losing = asyncio.ensure_future(lose_connections(rig, 1.0))
    await rig.pause(0.3)
    replica.ask("CONFIG SET masterauth wrong")  # so that it cannot connect again
    first.ask("CLIENT KILL TYPE replica")  # what is written from now on is lost
    await asyncio.sleep(_LOST)
    if "master_link_status:down" not in replica.ask("INFO replication"):
        rig.checker.violation("the replica has not lost its master, so that the scenario shows nothing")
    await _fail_over(rig)
    await losing


async def _to_the_first(rig: Rig, topic: str) -> None:
    """Move a topic's slot to the first node, which has a replica."""
    masters = _nodes(rig)[:3]
    slot = _slot_of(topic)
    source = _owner(masters, slot)
    if source is not masters[0]:
        await asyncio.to_thread(_move, slot, source, masters[0], masters)


async def _fail_over(rig: Rig) -> None:
    """Kill the first node, and wait until its replica is the master."""
    first, *_, replica = _nodes(rig)
    first.end(signal.SIGKILL)
    began = time.monotonic()
    if not await until(lambda: "role:master" in replica.ask("INFO replication"), 60):
        rig.checker.violation("the replica did not become the master")
    rig.notes.append(f"the failover took {time.monotonic() - began:.0f} s")


def _nodes(rig: Rig) -> list[ClusterNode]:
    return cast(list[ClusterNode], rig.stores)


def _slot_of(topic: str) -> int:
    return key_slot(b"%d" % partition_of(topic))


def _owner(masters: list[ClusterNode], slot: int) -> ClusterNode:
    """Return the node that has a slot."""
    with Redis(HOST, masters[0].port) as redis:
        for first, last, (_, port, *_), *_ in redis.execute_command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in masters if node.port == port)
    raise LookupError(f"nobody has the slot {slot}")


def _move(slot: int, source: ClusterNode, target: ClusterNode, masters: list[ClusterNode]) -> None:
    """Move a slot, as redis-cli does."""
    target.ask(f"CLUSTER SETSLOT {slot} IMPORTING {source.id}")
    source.ask(f"CLUSTER SETSLOT {slot} MIGRATING {target.id}")
    with Redis(HOST, source.port) as redis:
        while keys := redis.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            redis.execute_command("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)
    for node in (target, *(node for node in masters if node is not target)):
        node.ask(f"CLUSTER SETSLOT {slot} NODE {target.id}")
