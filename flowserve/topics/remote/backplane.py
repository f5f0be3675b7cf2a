"""What the backplanes with one supervised connection to a server elsewhere have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from flowserve.errors import TopicsError
from flowserve.topics.message import Kind
from flowserve.topics.position import Place
from flowserve.topics.remote.errors import LinkLost
from flowserve.topics.remote.reconnector import GRACE, LinkUser, Reconnector, RemoteLink
from flowserve.topics.settings import Retention

READS = 32
"""Logs that are read at once: after an outage, thousands of topics may want to."""
_ATTEMPTS = 3
"""Connections on which a log is tried to be read."""

L = TypeVar("L", bound=RemoteLink)
T = TypeVar("T")


class Publisher(Protocol):
    """Publishes on the connection."""

    def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Awaitable[Place | None]:
        """See `Backplane.publish()`."""

    async def drain(self, timeout: float) -> None:
        """Wait until everything is answered, at most `timeout` seconds."""


class Subscriptions(Protocol):
    """What is subscribed to on the connection."""

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        """See `Backplane.subscribe()`."""

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """See `Backplane.unsubscribe()`."""


class RemoteBackplane(Generic[L]):
    """A `Backplane`, but for `open()` and `read()`. `open()` sets the attributes that are declared here."""

    _publisher: Publisher
    _subscriptions: Subscriptions

    def __init__(self, name: str) -> None:
        """`name` is that of the server, for people."""
        self._name = name
        self._reconnector: Reconnector[L] | None = None  # from `open()` on
        self._reads = asyncio.Semaphore(READS)

    @property
    def connected(self) -> bool:
        return self._reconnector is not None and self._reconnector.link is not None

    @property
    def reconnects(self) -> int:
        return 0 if self._reconnector is None else self._reconnector.reconnects

    async def _connect(
        self, connect: Callable[[], Awaitable[L]], watch: Callable[[L], Awaitable[None]], users: Sequence[LinkUser[L]]
    ) -> None:
        """Keep a connection from now on; see Reconnector."""
        self._reconnector = Reconnector(self._name, connect, watch, users)
        await self._reconnector.open()

    async def _link(self) -> L:
        """Return the connection, or the next one. Raises TopicsError if there is none for long."""
        assert self._reconnector is not None
        return await self._reconnector.connected()

    async def close(self) -> None:
        """End the connection, after what is being published, as long as that takes no longer than GRACE."""
        if self._reconnector is not None:
            if self.connected:
                await self._publisher.drain(GRACE)
            await self._reconnector.close()

    def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Awaitable[Place | None]:
        return self._publisher.publish(topic, data, kind, key, origin, retention)

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        return await self._subscriptions.subscribe(topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self._subscriptions.unsubscribe(topics)

    async def _ask(self, question: Callable[[L], Awaitable[T]]) -> T:
        """Return the answer to a question that may be repeated on the next connection. Raises TopicsError if there is
        none for long."""
        async with self._reads:
            for _ in range(_ATTEMPTS):
                link = await self._link()
                try:
                    return await question(link)
                except LinkLost:
                    continue
        raise TopicsError(f"{self._name} was lost again and again")
