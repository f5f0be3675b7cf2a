"""The backplane of several machines: Redis.

What is promised, and how it is kept when something fails:

- The order and the offsets of a topic are made in Redis, by one script a batch of messages (`scripts.py`), which
  appends to the topic's log and publishes. Everything comes and goes on one connection, in the order in which Redis did
  it, so a subscriber whose offsets have no holes has missed nothing.
- The connection is lost, or Redis is silent for too long: it is opened again, with exponential backoff and full jitter,
  subscribed again, and the receiver is told the heads of all topics, before anything else that came since
  (`subscriptions.py`). It reads from the log what it has missed; where the log does not reach back, or Redis was
  emptied or rolled back, it is a gap. That shows in the epoch (a topic that Redis does not know any more begins a new
  one), in an offset beyond the head, or in the check of the message at that offset.
- A message that Redis never got, or refused, because it could not be reached: `publish()` returns None after GRACE
  seconds without a connection, and at once from then on. The hub delivers it in this process; nobody else gets it, and
  it has no place, so it can't be confused with one that has. When Redis is back, the hub publishes a gap in the topic.
  With a key nobody gets it, as it may be published again.
- A message that was sent and not answered: Redis may have it or not. Within GRACE it is sent again on the next
  connection, with the number of its batch, and Redis applies it if it has not done so before (`publisher.py`).
  Without a connection until then, `publish()` raises TopicsError. To return None would be wrong: the hub would deliver
  it here, and deliver it again when the log is read. So either all subscribers, here and elsewhere, get it once,
  through Redis and in its place, or nobody does; and the publisher knows that it is unknown. With a key, it can publish
  the message again safely.
- A failover that loses the last messages: those who got them have a place that the new master does not know, and are
  told of a gap. A message that was sent again then may come again, after the gap.
- While there is no connection, subscriptions are made without one. Their head is a place that no log has; when Redis is
  back, they are told of a gap, as others may have published meanwhile.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import hiredis

from flowserve.errors import TopicsError
from flowserve.topics.backplane import Reading, Receiver
from flowserve.topics.position import Place
from flowserve.topics.redis.connect import Connector
from flowserve.topics.redis.link import Link
from flowserve.topics.redis.publisher import Publisher
from flowserve.topics.redis.reading import command_to_read, decode_reading
from flowserve.topics.redis.subscriptions import Subscriptions
from flowserve.topics.redis.url import RedisURL
from flowserve.topics.redis.watch import watch
from flowserve.topics.remote.backplane import RemoteBackplane
from flowserve.topics.remote.errors import Refused, Unreachable

_SENTINEL_INTERVAL = 5.0
"""Seconds after which Sentinels are asked whether the master is still the same."""


class RedisBackplane(RemoteBackplane[Link]):
    """A `Backplane` that reaches all who use the same Redis, database and prefix."""

    _publisher: Publisher
    _subscriptions: Subscriptions

    def __init__(self, url: RedisURL) -> None:
        super().__init__("Redis")
        self._url = url
        self._connector = Connector(url)

    async def open(self, receiver: Receiver) -> None:
        """Connect. While Redis can't be reached, go on trying in the background.

        Raises TopicsError if the user, the password, TLS or a permission is refused.
        """
        self._publisher = Publisher(self._url.prefix, secrets.token_hex(8))
        self._subscriptions = Subscriptions(self._url.prefix, receiver)
        users = (self._subscriptions, self._publisher)  # so what is published comes back on the same connection
        await self._connect(self._open_link, self._watch, users)

    async def _open_link(self) -> Link:
        return await self._connector.connect(self._subscriptions.on_message, self._publisher.schedule)

    async def read(self, topic: str, after: Place) -> Reading:
        """See `Backplane.read()`. Raises TopicsError if Redis can't be reached."""
        command = command_to_read(self._url.prefix, topic, after)

        async def question(link: Link) -> Any:
            try:
                return await link.evaluate(command)
            except hiredis.ReplyError as error:
                raise TopicsError(f"Redis answers: {error}") from None

        return decode_reading(topic, after, await self._ask(question))

    # The connection

    async def _watch(self, link: Link) -> None:
        """Return when a connection is lost; see to it that this is noticed."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()

        async def tick() -> None:
            nonlocal asked_at
            if self._url.service is not None and loop.time() - asked_at > _SENTINEL_INTERVAL:
                asked_at = loop.time()
                await self._check_master(link)
            self._subscriptions.refresh()

        await watch(link, self._url, tick)

    async def _check_master(self, link: Link) -> None:
        """End a connection to a server that is not the master any more; nobody else may use it."""
        try:
            address = await self._connector.master()
        except (Unreachable, Refused):
            return  # that says nothing of the connection
        if address != link.peer:
            link.abort(f"the master is now {address[0]}:{address[1]}")
