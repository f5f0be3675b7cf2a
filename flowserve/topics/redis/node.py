"""One node of a cluster: its connection, and the partitions that it has."""

from __future__ import annotations

import random
from dataclasses import replace

from flowserve.topics.redis.connect import Connector
from flowserve.topics.redis.link import Link
from flowserve.topics.redis.partition import Partition
from flowserve.topics.redis.slots import Address, partition_of_channel
from flowserve.topics.redis.url import RedisURL
from flowserve.topics.redis.watch import watch
from flowserve.topics.remote.errors import Unreachable
from flowserve.topics.remote.reconnector import Reconnector


class Node:
    """A master of a cluster."""

    def __init__(self, url: RedisURL, address: Address) -> None:
        """`url` is that of the cluster."""
        self.address = address
        self.partitions: dict[int, Partition] = {}
        self._url = replace(url, addresses=(address,))
        self._reconnector = Reconnector("Redis", self._connect, self._watch, (self,))

    @property
    def link(self) -> Link | None:
        """The connection, if there is one."""
        return self._reconnector.link

    @property
    def reconnects(self) -> int:
        """How often it was made again."""
        return self._reconnector.reconnects

    async def open(self) -> None:
        """Connect. While the node can't be reached, go on trying in the background. Raises Refused."""
        await self._reconnector.open()

    def start(self) -> None:
        """As `open()`, in the background; what is refused is logged, and tried again."""
        self._reconnector.start()

    async def close(self) -> None:
        """End the connection."""
        await self._reconnector.close()

    def add(self, partition: Partition) -> None:
        """Have one more partition."""
        self.partitions[partition.index] = partition
        if self.link is not None:
            partition.attach(self.link)

    def remove(self, partition: Partition) -> None:
        """Have it no more."""
        del self.partitions[partition.index]
        partition.detach()

    # The connection

    async def _connect(self) -> Link:
        if not self.partitions:
            raise Unreachable("the node has no topics")
        tried = random.choice([*self.partitions.values()])  # not always the same: its slot may be on the move
        connector = Connector(replace(self._url, prefix=tried.prefix))
        return await connector.connect(self._on_message, self._on_writable, self._on_unsubscribed)

    async def _watch(self, link: Link) -> None:
        await watch(link, self._url, self._tick)

    async def _tick(self) -> None:
        for each in self.partitions.values():
            if each.view is not None:
                each.subscriptions.refresh()

    def up(self, link: Link) -> None:
        for each in self.partitions.values():
            each.attach(link)

    def down(self) -> None:
        for each in self.partitions.values():
            each.detach()

    def give_up(self) -> None:
        """Partitions give up by themselves, as another node may have them."""

    def _on_message(self, channel: bytes, payload: bytes) -> None:
        partition = self.partitions.get(partition_of_channel(channel))
        if partition is not None:
            partition.subscriptions.on_message(channel, payload)

    def _on_unsubscribed(self, channel: bytes) -> None:
        partition = self.partitions.get(partition_of_channel(channel))
        if partition is not None:
            partition.moved()

    def _on_writable(self) -> None:
        for each in self.partitions.values():
            each.publisher.schedule()
