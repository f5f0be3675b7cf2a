"""The backplane of several machines: a Redis cluster.

Each node has one connection, and each topic is in one of a fixed number of partitions, each of which is in one slot
(`slots.py`). A partition is what a single server is in `backplane.py`, with the same promises; it follows its slot
(`partition.py`). Here is which node has which partition: that is asked whenever a partition has lost its node, and now
and then, of any node that is not cut off from the others.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import suppress

import hiredis

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.backplane import Reading, Receiver
from flowserve.topics.message import Kind
from flowserve.topics.position import Place
from flowserve.topics.redis.connect import is_unavailable
from flowserve.topics.redis.link import Link
from flowserve.topics.redis.node import Node
from flowserve.topics.redis.partition import Partition
from flowserve.topics.redis.publisher import Shared
from flowserve.topics.redis.reading import command_to_read, decode_reading
from flowserve.topics.redis.slots import PARTITIONS, Address, find_owners, partition_of
from flowserve.topics.redis.url import RedisURL
from flowserve.topics.remote.backplane import READS
from flowserve.topics.remote.errors import AttemptLog, LinkLost, Unreachable
from flowserve.topics.remote.reconnector import GRACE
from flowserve.topics.settings import Retention

_INTERVAL = 5.0
"""Seconds after which it is asked whether all is where it was."""
_FIRST_DELAY, _LONGEST_DELAY = 0.02, 0.5
"""Seconds until it is asked again while a partition has no node."""


class ClusterBackplane:
    """A `Backplane` that reaches all who use the same cluster and prefix."""

    def __init__(self, url: RedisURL) -> None:
        self._url = url
        self._nodes: dict[Address, Node] = {}
        self._partitions: list[Partition] = []
        self._reads = asyncio.Semaphore(READS)
        self._changed = asyncio.Event()  # a partition has lost its node
        self._past_reconnects = 0  # of nodes that are gone
        self._closing: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether all nodes that have topics are connected."""
        return bool(self._nodes) and all(node.link is not None for node in self._nodes.values())

    @property
    def reconnects(self) -> int:
        return self._past_reconnects + sum(node.reconnects for node in self._nodes.values())

    # The interface of a backplane

    async def open(self, receiver: Receiver) -> None:
        """Connect to all nodes. While one can't be reached, go on trying in the background.

        Raises TopicsError if the user, the password, TLS or a permission is refused.
        """
        name, prefix, shared = secrets.token_hex(8), self._url.prefix, Shared()
        self._partitions = [
            Partition(index, prefix, name, shared, receiver, self._changed.set) for index in range(PARTITIONS)
        ]
        try:
            self._place(await self._ask_owners())
            opened = await asyncio.gather(*(node.open() for node in self._nodes.values()), return_exceptions=True)
            for refused in opened:
                if refused is not None:
                    raise refused
        except Unreachable as error:
            logger.warning("Topics: %s; until it can be, messages stay within this process", error)
        except BaseException:
            await self._end()
            raise
        for partition in self._partitions:
            if partition.view is None:
                partition.give_up()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End the connections, after what is being published, as long as that takes no longer than GRACE."""
        task, self._task = self._task, None
        if task is None:
            return
        attached = [partition for partition in self._partitions if partition.view is not None]
        await asyncio.gather(*(partition.publisher.drain(GRACE) for partition in attached))
        task.cancel()
        await asyncio.wait([task])
        await self._end()

    async def _end(self) -> None:
        nodes, self._nodes = self._nodes, {}
        await asyncio.gather(*(node.close() for node in nodes.values()), *self._closing)
        for partition in self._partitions:
            partition.give_up()

    def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Awaitable[Place | None]:
        """See `Backplane.publish()`. Raises TopicsError if it is unknown whether the message was published."""
        publisher = self._partitions[partition_of(topic)].publisher
        return publisher.publish(topic, data, kind, key, origin, retention)

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        groups: dict[int, list[str]] = defaultdict(list)
        for topic in topics:
            groups[partition_of(topic)].append(topic)
        try:
            found = await asyncio.gather(
                *(self._partitions[index].subscriptions.subscribe(some) for index, some in groups.items())
            )
        except BaseException:
            self.unsubscribe(topics)
            raise
        heads = {
            topic: head
            for some, places in zip(groups.values(), found, strict=True)
            for topic, head in zip(some, places, strict=True)
        }
        return [heads[topic] for topic in topics]

    def unsubscribe(self, topics: Sequence[str]) -> None:
        for topic in topics:
            self._partition_of(topic).subscriptions.unsubscribe([topic])

    async def read(self, topic: str, after: Place) -> Reading:
        """See `Backplane.read()`. Raises TopicsError if the topic's node can't be reached."""
        partition = self._partition_of(topic)
        command = command_to_read(partition.prefix, topic, after)
        async with self._reads:
            while True:
                view = await partition.connected()
                try:
                    return decode_reading(topic, after, await view.link.evaluate(command))
                except LinkLost:
                    continue
                except hiredis.ReplyError as error:
                    if not is_unavailable(error):
                        raise TopicsError(f"Redis answers: {error}") from None
                    view.retire(str(error))

    def _partition_of(self, topic: str) -> Partition:
        return self._partitions[partition_of(topic)]

    # Which node has what

    async def _run(self) -> None:
        """Have each partition where its slot is, for ever."""
        delay, failures = _FIRST_DELAY, AttemptLog()
        while True:
            if all(partition.view is not None for partition in self._partitions):
                delay = _FIRST_DELAY
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _INTERVAL)
            else:
                await asyncio.sleep(random.uniform(delay / 2, delay))
                delay = min(2 * delay, _LONGEST_DELAY)
            self._changed.clear()
            try:
                self._place(await self._ask_owners())
            except Exception as error:  # whatever it is must not end this
                failures.add(error, "finding out the nodes of a Redis cluster")

    async def _ask_owners(self) -> dict[int, Address]:
        """Return where the partitions are. Raises Unreachable, Refused."""
        return await find_owners(self._url, self._links(), self._nodes)

    def _links(self) -> Iterator[Link]:
        """Yield the connections that there are, first those of nodes that have said that a partition is elsewhere."""
        nodes = [node for node in self._nodes.values() if node.link is not None]
        random.shuffle(nodes)
        nodes.sort(key=lambda node: all(partition.view is not None for partition in node.partitions.values()))
        for node in nodes:
            if node.link is not None:
                yield node.link

    def _place(self, masters: dict[int, Address]) -> None:
        """Have each partition where its slot is."""
        new = []
        for address in set(masters.values()) - set(self._nodes):
            new.append(Node(self._url, address))
            self._nodes[address] = new[-1]
        for partition in self._partitions:
            owner = self._nodes.get(masters.get(partition.index, ("", 0)))
            for node in self._nodes.values():
                if node is not owner and partition.index in node.partitions:
                    node.remove(partition)
            if owner is not None and (partition.index not in owner.partitions or partition.view is None):
                owner.add(partition)
        for node in [node for node in self._nodes.values() if not node.partitions]:
            self._drop(node)
        if self._task is not None:  # else open() does it
            for node in new:
                node.start()

    def _drop(self, node: Node) -> None:
        """End a node's connection."""
        if self._nodes.pop(node.address, None) is not node:
            return
        for partition in [*node.partitions.values()]:
            node.remove(partition)
        self._past_reconnects += node.reconnects
        task = asyncio.get_running_loop().create_task(node.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
