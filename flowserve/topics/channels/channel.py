"""A process-specific channel: the queue of one consumer."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Any, NamedTuple, Protocol
from weakref import ref

from flowserve.topics.counts import TopicCounts
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.hub import Hub
from flowserve.topics.message import Gap, Kind, Message
from flowserve.topics.position import Place


class Name(str):
    """The name of a channel, which ends at the latest when nobody has this object any more: a consumer keeps it, and
    Channels does not tell a layer that a consumer has ended."""

    __slots__ = ("__weakref__",)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)  # a copy keeps nothing alive


class ChannelHost(Protocol):
    """What a channel asks of its router."""

    hub: Hub

    def dropped(self, topic: str, name: str, why: str) -> None:
        """Count and log a message of a topic that is lost to a channel."""

    def gap(self, topic: str) -> None:
        """Count and log that messages of a topic are missing."""


class Limits(NamedTuple):
    """Those of a channel."""

    capacity: int | None
    """Messages that wait; None: as many as `max_pending` bytes are, and those that the history has."""
    max_age: float | None
    """Seconds that a message waits; None: for ever."""
    tells_gaps: bool
    """Whether `receive()` returns gaps."""


class Channel(QueueSubscriber):
    """A queue that is subscribed to the topics of groups. A message of the kind TEXT in one of them is the name of a
    channel that leaves the group."""

    def __init__(self, host: ChannelHost, name: str, limits: Limits) -> None:
        super().__init__(host.hub.settings.max_pending)
        self.name = name
        self.owned_by: ref[Name] | None = None
        self.maker: ref[asyncio.Task[Any]] | None = None  # which has called new_channel()
        self._read = False  # since the last call of `unread()`
        self._readers = 0  # calls of `receive()` that wait
        self._host = host
        self._limits = limits
        self._came_at: deque[float] = deque()  # of each item, if there is a max_age

    def count(self) -> int:
        return 0  # its groups are the application's doing: the limit for the topics of a connection is not for them

    def deliver(self, message: Message, counts: TopicCounts) -> bool:
        if message.kind == Kind.TEXT:
            if message.data == self.name.encode():
                self._host.hub.unsubscribe(self, [message.topic])
            return True
        limits = self._limits
        if limits.capacity is not None and len(self._items) >= limits.capacity:
            self._host.dropped(message.topic, self.name, f"{limits.capacity} messages wait, which is its capacity")
            return True
        if not super().deliver(message, counts):
            return False
        self._note_time()
        return True

    def offer(self, message: Message, counts: TopicCounts) -> bool:
        """Take a message of no group, or return False if the channel is full."""
        capacity = self._limits.capacity
        return (capacity is None or len(self._items) < capacity) and self.deliver(message, counts)

    def tell_gap(self, topic: str, head: Place | None, counts: TopicCounts) -> bool:
        self._host.gap(topic)
        if not self._limits.tells_gaps:
            return True
        self._note_time()
        return super().tell_gap(topic, head, TopicCounts())  # it is counted

    def _note_time(self) -> None:
        if self._limits.max_age is not None:
            self._came_at.append(monotonic())

    async def receive(self) -> Message | Gap | None:
        """As `get()`; what has waited for too long is dropped."""
        self._read = True
        self._readers += 1
        try:
            while True:
                item = await self.get()
                if item is None or self._limits.max_age is None:
                    return item
                if monotonic() - self._came_at.popleft() <= self._limits.max_age:
                    return item
                self._host.dropped(item.topic, self.name, f"it was not received for {self._limits.max_age:g} s")
        finally:
            self._readers -= 1

    def unread(self) -> bool:
        """Whether the task that has made the channel has ended, and nobody has received since the last call."""
        read, self._read = self._read or self._readers > 0, False
        return not read and self.maker is not None and ((task := self.maker()) is None or task.done())

    def put_back(self, item: Message | Gap) -> None:
        """Have `receive()` return an item again, as the first one."""
        self._items.appendleft(item)
        if isinstance(item, Message):
            self._size += item.cost
        if self._limits.max_age is not None:
            self._came_at.appendleft(monotonic())
        self._wake_getters()

    def clear(self) -> None:
        """Drop what waits, and leave all groups."""
        self._host.hub.ended(self)
        self._items.clear()
        self._came_at.clear()
        self._size = 0
        self._wake_putters()
