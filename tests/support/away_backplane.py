"""A backplane in memory that can't be reached for a while."""

from __future__ import annotations

from collections.abc import Sequence

from flowserve.errors import TopicsError
from flowserve.topics.backplane import Reading
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.local.memory import MemoryBackplane
from flowserve.topics.local.store import Store
from flowserve.topics.message import Kind, Message
from flowserve.topics.position import Place
from flowserve.topics.settings import Retention, Settings
from support.helpers import within

NOWHERE = Place("nowhere", 0, "")
"""Where a topic begins while its backplane is away."""


def nothing_after_nowhere(reading: Reading, after: Place) -> Reading:
    """As Redis answers."""
    return reading if after.epoch != NOWHERE.epoch else Reading(False, (), reading.head, reading.head)


class AwayBackplane(MemoryBackplane):
    """Can't be reached while it is `away`, as Redis."""

    away = False

    async def publish(  # type: ignore[override]
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Place | None:
        return None if self.away else await super().publish(topic, data, kind, key, origin, retention)

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        heads = await super().subscribe(topics)
        return [NOWHERE for _ in topics] if self.away else heads

    async def read(self, topic: str, after: Place) -> Reading:
        if self.away:
            raise TopicsError("it is away")
        return nothing_after_nowhere(await super().read(topic, after), after)

    def return_(self) -> None:
        self.away = False
        self._receiver.restored({topic: self._store.head(topic) for topic in self._topics})

    def lose_all(self) -> None:
        self._store = Store(Settings())
        self.return_()


async def told(queue: QueueSubscriber, count: int) -> list[str | None]:
    """The next items: texts, and None for a gap."""
    items = [await within(queue.get()) for _ in range(count)]
    return [item.text if isinstance(item, Message) else None for item in items]
