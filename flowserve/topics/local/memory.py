"""The backplane of a single process: memory."""

from __future__ import annotations

from collections.abc import Sequence

from flowserve.topics.backplane import Reading, Receiver
from flowserve.topics.local.store import Store, Sweep
from flowserve.topics.message import Kind
from flowserve.topics.position import Place
from flowserve.topics.settings import Retention, Settings


class MemoryBackplane:
    """A `Backplane` that reaches this process alone."""

    connected = None
    reconnects = 0

    def __init__(self, settings: Settings) -> None:
        self._store = Store(settings)
        self._sweep = Sweep(self._store)
        self._topics: set[str] = set()
        self._receiver: Receiver

    async def open(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def close(self) -> None:
        self._sweep.close()

    async def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Place:
        place, message = self._store.publish(topic, data, kind, key, origin, retention)
        self._sweep.begin()
        if message is not None and topic in self._topics:
            self._receiver.received(message)
        return place

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        self._topics.update(topics)
        return [self._store.head(topic) for topic in topics]

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self._topics.difference_update(topics)

    async def read(self, topic: str, after: Place) -> Reading:
        return self._store.read(topic, after)
