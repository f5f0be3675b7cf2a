"""Hubs of several processes, all in this one, which tell each other who is there."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from time import time
from typing import Any

import pytest

from flowserve.topics.backplane import Backplane
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.hub import Hub
from flowserve.topics.local.broker import Broker
from flowserve.topics.local.siblings import SiblingsBackplane
from flowserve.topics.message import Kind, Message
from flowserve.topics.names import CONTROL
from flowserve.topics.position import Place
from flowserve.topics.presence import tracker
from flowserve.topics.presence.entries import Presence
from flowserve.topics.presence.limits import Limits
from flowserve.topics.presence.membership import Membership
from flowserve.topics.presence.protocol import Packet, decode
from flowserve.topics.settings import Retention, Settings
from support.helpers import within

QUICK = {"interval": 0.1, "prompt": 0.005, "heartbeat": 0.2, "expiry": 1.0, "answer": 2.0}
"""Limits for tests that wait for what takes its time."""

OpenProcesses = Callable[..., Awaitable[Any]]


class Carrier:
    """A backplane that notes what is published, and can lose it."""

    def __init__(self, inner: Backplane) -> None:
        self.inner = inner
        self.told: list[Packet] = []
        """What was said of presence."""
        self.loses = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Place | None:
        if topic == CONTROL:
            packet = decode(data)
            assert packet is not None
            self.told.append(packet)
            if self.loses:
                return None
        return await self.inner.publish(topic, data, kind, key, origin, retention)


class Process:
    """A hub, and what the test does with it."""

    def __init__(self, backplane: Backplane, settings: Settings) -> None:
        self.carrier = Carrier(backplane)
        self.hub = Hub(self.carrier, settings)

    @property
    def told(self) -> list[Packet]:
        return self.carrier.told

    async def subscribe(self, *topics: str, presence: bool = False) -> QueueSubscriber:
        queue = QueueSubscriber(1 << 20)
        await within(self.hub.subscribe(queue, topics, {}))
        await within(self.hub.join_presence(queue, topics, None, presence))
        return queue

    async def join(self, topic: str, id: str, info: Any = None) -> QueueSubscriber:
        queue = await self.subscribe(topic)
        await self.hub.join_presence(queue, [topic], Membership(id, json.dumps(info)), False)
        return queue

    async def join_many(self, topic: str, ids: Sequence[str], info: Any = None) -> None:
        """Members without subscriptions: as many as a test likes."""
        await self.hub.tracker.exchange.listen()
        for id in ids:
            self.hub.tracker.join(topic, object(), id, json.dumps(info), time())

    async def presence(self, topic: str) -> Presence:
        return await within(self.hub.tracker.presence(topic))

    async def ids(self, topic: str) -> list[str]:
        return sorted(each.id for each in await self.presence(topic))

    async def count(self, topic: str) -> int:
        return await within(self.hub.tracker.count(topic))

    def die(self) -> None:
        """End as one that was killed."""
        self.carrier.inner._transport.abort()  # type: ignore[attr-defined]
        self.carrier.inner._is_open = False  # type: ignore[attr-defined]
        timer = self.hub.tracker.exchange._timer
        if timer is not None:
            timer.cancel()


class Processes:
    """Several that share a broker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]) -> None:
        self.settings = Settings()
        self._broker = Broker(self.settings)
        self._all: list[Process] = []
        monkeypatch.setattr(tracker, "limits", Limits(**limits))

    async def open(self, count: int) -> None:
        await self._broker.open()
        for _ in range(count):
            self.add()

    def add(self) -> Process:
        self._all.append(Process(SiblingsBackplane(self._broker.path), self.settings))
        return self._all[-1]

    def __iter__(self) -> Iterator[Process]:
        return iter(self._all)

    async def close(self) -> None:
        for each in self._all:
            await each.hub.close()
        self._broker.close()


async def next_change(queue: QueueSubscriber) -> dict[str, Any]:
    """What a subscriber to changes is told next."""
    item = await within(queue.get())
    assert isinstance(item, Message)
    assert item.kind == Kind.PRESENCE
    found: dict[str, Any] = item.json()
    return found


async def until_told(queue: QueueSubscriber, known: set[str], expected: set[str]) -> None:
    """Wait until changes, however many, lead from the members known to those expected; who is in both never leaves."""
    staying = known & expected
    while known != expected:
        change = await next_change(queue)
        known = known.union(each["id"] for each in change["joins"]) - set(change["leaves"])
        assert staying <= known
