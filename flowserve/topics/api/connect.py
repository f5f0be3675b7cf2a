"""Topics for programs that are not served: a worker of a task queue, a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from flowserve.errors import ConfigError, TopicsError
from flowserve.grammar import without_passwords
from flowserve.topics.api.functions import Since, by_topic, distinct
from flowserve.topics.api.listener import messages
from flowserve.topics.hub.current import HubSource
from flowserve.topics.hub.open import open_hub, reaches_machines
from flowserve.topics.message import Message
from flowserve.topics.payload import UNSET, payload_of
from flowserve.topics.position import Position
from flowserve.topics.presence.entries import Presence
from flowserve.topics.settings import Settings


class Connection:
    """Publishes, and listens, for a program that no server runs; `connect()` makes it."""

    def __init__(self, source: HubSource) -> None:
        self._source = source

    async def publish(
        self,
        topic: str,
        text: str | None = None,
        *,
        data: bytes | bytearray | memoryview | None = None,
        json: Any = UNSET,
        key: str | None = None,
    ) -> Position:
        """Publish a message; see `topics.publish()`. The position is empty, and so false, if it reached nobody but this
        program, which is never so with a `key`: then TopicsError is raised."""
        payload, kind = payload_of(text, data, json)
        return await self._source.hub.publish(topic, payload, kind, key)

    def listen(self, *topics: str, since: Since = None, presence: bool = False) -> AsyncGenerator[Message, None]:
        """Yield the messages of topics; see `topics.listen()`. It ends with the connection."""
        topics = distinct(topics)
        return messages(self._source, topics, by_topic(since, topics), presence)

    async def presence(self, topic: str) -> Presence:
        """Return who is in a topic; see `topics.presence()`."""
        self._source.hub.check_name(topic)
        return await self._source.hub.tracker.presence(topic)

    async def count(self, topic: str) -> int:
        """Return how many subscribers a topic has; see `topics.count()`."""
        self._source.hub.check_name(topic)
        return await self._source.hub.tracker.count(topic)


@asynccontextmanager
async def connect(
    url: str, *, history: int = 100, history_size: int = 262144, history_age: float = 300.0
) -> AsyncIterator[Connection]:
    """Connect a program that is not served to the topics of servers with the same --topics-url.

    The other parameters are --topics-history, -size (bytes) and -age (seconds) of those servers: what is kept of a
    topic is as its last publisher says. Raises ConfigError, which is no TopicsError, for a URL that is wrong, or
    reaches this process alone, such as memory:, TopicsError if nothing can be reached there, or it is refused.
    """
    check_url(url)
    settings = Settings(history=history, history_size=history_size, history_age=history_age)
    hub = open_hub(url, settings)
    source = HubSource(asyncio.get_running_loop(), lambda: hub)
    try:
        await hub.open()
        if not hub.connected:
            raise TopicsError(f"nothing can be reached at {without_passwords(url)}")
        yield Connection(source)
    finally:
        source.drain()
        await source.close()


def check_url(url: str) -> None:
    """Raise TypeError for what is no URL, ConfigError for one that reaches this process alone."""
    if not isinstance(url, str):
        raise TypeError(f"the URL is str, not {type(url).__name__}")
    if not reaches_machines(url):
        raise ConfigError(
            f"{url.partition(':')[0]}: reaches no other process; write redis:, rediss:, redis+sentinel:,"
            " redis+cluster:, nats: or tls:"
        )
