"""A normal channel: each message goes to one of all who receive, in whatever process.

Theory of operation. The topic of the channel is a log in which everything happens: a message (BINARY), a claim (TEXT:
the position of a message, and who takes it), a flush (JSON). All processes that send or receive follow the log from the
oldest entry that is kept. As it has one order, they all see the same claim first, and whose it is has the message. A
process claims when a call of `receive()` waits; the position is the key of the claim, so that later ones are not
published. What can't be known to be taken by nobody else, as entries of the log were lost, is dropped: a message is
never delivered twice.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

from channels.exceptions import ChannelFull

from flowserve.errors import TopicsError
from flowserve.topics.api.stream import OLDEST
from flowserve.topics.channels.channel import ChannelHost
from flowserve.topics.counts import TopicCounts
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.message import OVERHEAD, Gap, Kind, Message
from flowserve.topics.position import Place
from flowserve.topics.settings import Retention

_MAX_SIZE = 16 << 20
"""Bytes that wait in a channel, each message with what it takes beside."""
_RETRY_INTERVAL = 0.25
"""Seconds between attempts to claim a message while the backplane is away."""


class WorkQueueHost(ChannelHost, Protocol):
    """What a queue asks of its router."""

    client: str
    """Names this process in claims."""

    def unused(self, queue: WorkQueue) -> None:
        """Forget a queue that has nothing, and was not used for some time."""


class WorkQueue(QueueSubscriber):
    """The log of a normal channel, as one process sees it."""

    def __init__(self, host: WorkQueueHost, name: str, topic: str, capacity: int | None, expiry: float) -> None:
        """`capacity` is in messages, None for what _MAX_SIZE bytes are; `expiry` in seconds that one waits."""
        super().__init__(host.hub.settings.max_pending)
        self._host = host
        self._name = name
        self._topic = topic
        self._capacity = capacity
        self._expiry = expiry
        most = _MAX_SIZE // OVERHEAD if capacity is None else capacity
        self._retention = Retention(2 * most + 100, 2 * _MAX_SIZE, expiry)
        self._pending: dict[str, tuple[Message, float]] = {}  # by position: what nobody has claimed, and since when
        self._waiting_size = 0  # bytes of those, and of what is being sent
        self._sending = 0  # messages that are being sent
        self._claiming: set[str] = set()
        self._receivers = 0
        self._used = True
        self._sweep = asyncio.get_running_loop().call_later(expiry, self._expire_or_end)

    def count(self) -> int:
        return 0

    async def follow(self) -> None:
        """Subscribe to the log."""
        self._used = True
        if self.member(self._topic) is None:
            await self._host.hub.subscribe(self, [self._topic], {self._topic: OLDEST})

    async def send(self, data: bytes, key: str | None = None) -> None:
        """Append a message. Raises ChannelFull, and TopicsError if others can't be reached."""
        await self.follow()
        self._expire()
        cost = len(data) + OVERHEAD
        if self._capacity is None:
            full = self._waiting_size + cost > _MAX_SIZE
        else:
            full = len(self._pending) + self._sending >= self._capacity
        if full:
            raise ChannelFull(self._name)
        self._sending += 1
        self._waiting_size += cost
        try:
            await self._publish(data, Kind.BINARY, key)
        finally:
            self._sending -= 1
            self._waiting_size -= cost

    async def flush(self) -> None:
        """Drop what nobody has claimed, in all processes. Raises TopicsError if others can't be reached."""
        await self.follow()
        await self._publish(b"", Kind.JSON)

    async def _publish(self, data: bytes, kind: Kind, key: str | None = None) -> None:
        """Append to the log, or raise TopicsError: what is not in it is nowhere."""
        await self._host.hub.publish(self._topic, data, kind, key, retention=self._retention, alone=False)

    async def receive(self) -> Message | Gap | None:
        """Return a message that this process has claimed."""
        await self.follow()
        self._receivers += 1
        try:
            self._claim_some()
            return await self.get()
        finally:
            self._receivers -= 1
            self._return_unwanted()

    def put_back(self, item: Message | Gap) -> None:
        """Send a message again that was claimed and not received."""
        if isinstance(item, Message):
            self._host.hub.spawn(self._send_again(item))

    def _return_unwanted(self) -> None:
        """Leave to others what was claimed for a receiver that was cancelled."""
        while len(self._items) > self._receivers:
            item = self._items.pop()
            assert isinstance(item, Message)
            self._size -= item.cost
            self.put_back(item)

    async def _send_again(self, message: Message) -> None:
        try:
            await self._publish(message.data, Kind.BINARY)
        except TopicsError:
            self._host.dropped(self._topic, self._name, "its receiver was cancelled while the backplane was away")

    # The log

    def deliver(self, message: Message, counts: TopicCounts) -> bool:
        if message.kind == Kind.BINARY:
            self._pending[message.position] = message, monotonic()
            self._waiting_size += message.cost
        elif message.kind == Kind.TEXT:
            position, _, client = message.text.partition(" ")
            claimed = self._forget(position)
            if claimed is not None and client == self._host.client:
                self._take(claimed, counts)
        elif message.kind == Kind.JSON:
            self._forget_all()
        self._claim_some()
        return True

    def _take(self, message: Message, counts: TopicCounts) -> None:
        self._items.append(message)
        self._size += message.cost
        counts.delivered += 1
        self._wake_getters()
        self._return_unwanted()

    def tell_gap(self, topic: str, head: Place | None, counts: TopicCounts) -> bool:
        self._host.gap(topic)
        for _ in self._pending:
            self._host.dropped(topic, self._name, "its log is lost, so that another process may have received it")
        self._forget_all()
        return True

    def _forget(self, position: str) -> Message | None:
        self._claiming.discard(position)
        found = self._pending.pop(position, None)
        if found is None:
            return None
        self._waiting_size -= found[0].cost
        return found[0]

    def _forget_all(self) -> None:
        for position in list(self._pending):
            self._forget(position)

    # Claims

    def _claim_some(self) -> None:
        """Claim a message for each receiver that waits."""
        wanted = self._receivers - len(self._items) - len(self._claiming)
        if wanted <= 0 or not self._pending:
            return
        self._expire()
        for position in self._pending:
            if wanted <= 0:
                return
            if position not in self._claiming:
                self._claiming.add(position)
                self._host.hub.spawn(self._claim(position))
                wanted -= 1

    async def _claim(self, position: str) -> None:
        """Write a claim to the log, which says then whose it is."""
        claim = f"{position} {self._host.client}".encode()
        try:
            while position in self._pending:
                try:
                    await self._publish(claim, Kind.TEXT, position)
                    return
                except TopicsError:  # the log will say it, if it has got there; it is written once, as it has a key
                    await asyncio.sleep(_RETRY_INTERVAL)
        finally:
            if position not in self._pending:
                self._claiming.discard(position)

    def _expire(self) -> None:
        oldest = monotonic() - self._expiry
        while self._pending:
            position = next(iter(self._pending))
            if self._pending[position][1] > oldest:
                return
            self._forget(position)
            self._host.dropped(self._topic, self._name, f"it was not received for {self._expiry:g} s")

    def close(self) -> None:
        """Take and drop nothing more."""
        super().close()
        self._sweep.cancel()
        self._forget_all()

    def _expire_or_end(self) -> None:
        self._expire()
        if self._used or self._pending or self._receivers or self._sending or self._items:
            self._used = False
            self._sweep = asyncio.get_running_loop().call_later(self._expiry, self._expire_or_end)
        else:
            self._host.unused(self)
