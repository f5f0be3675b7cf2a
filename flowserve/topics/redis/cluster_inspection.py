"""What a Redis cluster knows of topics: each of its masters is read as a Redis of its own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from flowserve.topics.redis.inspection import (
    MOST_TOPICS,
    READER_PERMISSIONS,
    Layout,
    RedisInspector,
    literally,
    name_of,
)
from flowserve.topics.redis.scripts import Keys, escape, keys_of
from flowserve.topics.redis.slots import PARTITIONS, Address, find_owners, partition_of, prefix_of
from flowserve.topics.redis.url import RedisURL
from flowserve.topics.remote.errors import Unreachable
from flowserve.topics.remote.inspection import Look, TopicDetail, TopicState


class _ClusterLayout(Layout):
    """Each topic is in a partition, which its keys name first."""

    permissions = f"{READER_PERMISSIONS} +pubsub|shardnumsub +cluster|slots +cluster|info"
    count_processes = b"SHARDNUMSUB"

    def keys(self, name: str) -> Keys:
        return keys_of(prefix_of(self.prefix, partition_of(name)), escape(name), "")

    def heads(self, prefix: str) -> bytes:
        return literally(f"{self.prefix}{{") + b"*}" + literally(f"{{{escape(prefix)}") + b"*}:head"

    def name(self, head: bytes) -> str | None:
        index, _, escaped = head[len(f"{self.prefix}{{") : -len(b"}:head")].partition(b"}{")
        name = name_of(escaped)
        return name if name is not None and index == b"%d" % partition_of(name) else None


class ClusterInspector:
    """An `Inspector` of all masters of a cluster."""

    def __init__(self, url: RedisURL) -> None:
        self._url = url
        self._layout = _ClusterLayout(url.prefix)
        self._owners: dict[int, Address] = {}
        self._nodes: dict[Address, RedisInspector] = {}

    @property
    def shown(self) -> str:
        return self._url.shown

    async def open(self) -> None:
        try:
            await self._follow()
        except BaseException:
            await self.close()
            raise

    async def _follow(self) -> None:
        """Have a connection to each node that is a master now. Raises TopicsError if one can't be reached."""
        self._owners = await find_owners(self._url, [node.link for node in self._nodes.values()])
        missing = PARTITIONS - len(self._owners)
        if missing:
            raise Unreachable(f"no node of the Redis cluster has {missing} of {PARTITIONS} parts of the topics")
        masters = set(self._owners.values())
        for address in self._nodes.keys() - masters:
            await self._nodes.pop(address).close()
        await asyncio.gather(*(self._connect(address) for address in masters - self._nodes.keys()))

    async def _connect(self, address: Address) -> None:
        node = RedisInspector(replace(self._url, addresses=(address,)), self._layout)
        await node.open()
        self._nodes[address] = node

    async def close(self) -> None:
        while self._nodes:
            await self._nodes.popitem()[1].close()

    async def round_trip(self) -> float:
        """Return the seconds that the slowest node takes."""
        return max(await asyncio.gather(*(node.round_trip() for node in self._nodes.values())))

    async def look(self, prefix: str) -> Look:
        await self._follow()  # what another node has now would be missing
        looks = await asyncio.gather(*(node.look(prefix) for node in self._nodes.values()))
        found = {state.name: state for look in looks for state in look.topics}  # one that is moved may be in two
        complete = all(look.complete for look in looks) and len(found) <= MOST_TOPICS
        return Look([*found.values()][:MOST_TOPICS], complete)

    async def details(self, topics: Sequence[TopicState]) -> list[TopicDetail]:
        of_node: dict[Address, list[TopicState]] = defaultdict(list)
        for topic in topics:
            of_node[self._owners[partition_of(topic.name)]].append(topic)
        answers = await asyncio.gather(*(self._nodes[address].details(some) for address, some in of_node.items()))
        found = {
            state.name: detail
            for some, details in zip(of_node.values(), answers, strict=True)
            for state, detail in zip(some, details, strict=True)
        }
        return [found[topic.name] for topic in topics]
