"""Hubs that use the same server outside, such as Redis or NATS, as several machines do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.open import open_hub
from flowserve.topics.message import Gap, Kind, Message
from flowserve.topics.position import Position
from flowserve.topics.settings import Settings
from support.helpers import until, within


class Machine:
    """A hub with the backplane of a URL, as each process has one."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.settings = Settings(**{"history": 100_000, "history_size": 64 << 20, **settings})
        self.hub = open_hub(url, self.settings)
        self.backplane: Any = self.hub._backplane

    async def publish(self, topic: str, text: str, key: str | None = None) -> Position:
        return await within(self.hub.publish(topic, text.encode(), Kind.TEXT, key))

    async def reader(self, *topics: str, since: dict[str, str] | None = None) -> Reader:
        """Subscribe to topics."""
        reader = Reader()
        reader.position, reader.recovered = await within(self.hub.subscribe(reader.queue, topics, since or {}))
        return reader

    @property
    def connected(self) -> bool:
        return bool(self.backplane.connected)


class Reader:
    """A subscriber, which keeps what it gets."""

    def __init__(self, queue: QueueSubscriber | None = None) -> None:
        self.queue = queue or QueueSubscriber(1 << 30)
        self.position: dict[str, Position] = {}
        self.recovered: dict[str, bool] = {}

    async def next(self) -> Message | Gap:
        item = await within(self.queue.get())
        assert item is not None
        return item

    async def texts(self, count: int) -> list[str]:
        """The next messages; None stands for a gap."""
        return [item.text if isinstance(item, Message) else "gap" for item in [await self.next() for _ in range(count)]]

    @property
    def quiet(self) -> bool:
        return not self.queue._items


Machines = Callable[..., Any]


@asynccontextmanager
async def machines() -> AsyncIterator[Machines]:
    """`machine = make(url, **settings)`, each of which is closed at the end and leaves no task behind."""
    made: list[Machine] = []
    before: set[Any] = {*asyncio.all_tasks()}

    def make(url: str, **settings: Any) -> Machine:
        made.append(Machine(url, **settings))
        return made[-1]

    yield make
    for machine in made:
        await within(machine.hub.close())
    before.add(asyncio.current_task())
    await until(lambda: not asyncio.all_tasks() - before)
