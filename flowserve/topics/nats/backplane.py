"""The backplane of several machines: NATS with JetStream.

Theory of operation, and how the promise is kept when something fails:

- All topics are in one stream of JetStream, each on a subject of its own. JetStream numbers messages over all subjects,
  so a topic's offsets are made by those who publish: a batch of messages says which places it has (`batch.py`), and is
  stored only behind the batch that its publisher knows as the last one (`log.py`). If another one was faster, its
  publisher learns that one's end, and tries again. So offsets are dense, and there is one order, whoever publishes.
- JetStream publishes a batch again once it is stored, to those who are subscribed, as a core message: nobody gets what
  was refused. Batches follow each other, so a subscriber whose offsets have no holes has missed nothing.
- The connection is lost, or NATS is silent for too long: it is opened again, with exponential backoff and full jitter,
  to any of the servers, and the receiver is told the heads of all topics before anything else that came since
  (`subscriptions.py`). It reads from the stream what it has missed (`history.py`); where that does not reach back, was
  purged or rolled back, it is a gap. That shows in the epoch (a log that is empty gets a new one), in an offset beyond
  the head, or in the check of the message at that offset.
- JetStream acknowledges a batch before it syncs it to the disk: what it has is a cache. If the machine crashes, the
  last batches may be gone; those who got them are told of a gap.
- A message that NATS never got, because it could not be reached: `publish()` returns None after GRACE seconds without a
  connection, and at once from then on. The hub delivers it in this process.
- A message that was sent and not answered: the batch behind the expected one says whether it was stored
  (`publisher.py`). Without a connection within GRACE seconds, `publish()` raises TopicsError.
- A key is what JetStream knows a message by (`Nats-Msg-Id`), as long as the stream keeps messages.
- While there is no connection, subscriptions are made without one. Their head is a place that no log has; when NATS is
  back, they are told of a gap, as others may have published meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flowserve.errors import TopicsError
from flowserve.topics.backplane import Reading, Receiver
from flowserve.topics.message import Kind
from flowserve.topics.nats.connect import Connector
from flowserve.topics.nats.history import read
from flowserve.topics.nats.link import LinkLost
from flowserve.topics.nats.log import Log
from flowserve.topics.nats.publisher import Publisher
from flowserve.topics.nats.subscriptions import Subscriptions
from flowserve.topics.nats.url import NATSURL
from flowserve.topics.position import Place
from flowserve.topics.remote.reconnector import GRACE, Reconnector
from flowserve.topics.settings import Retention, Settings

_READS = 32
"""Logs that are read at once: after an outage, thousands of topics may want to."""
_ATTEMPTS = 3
"""Connections on which a log is tried to be read."""


class NATSBackplane:
    """A `Backplane` that reaches all who use the same NATS, account and prefix."""

    def __init__(self, url: NATSURL, settings: Settings) -> None:
        self._url = url
        self._settings = settings
        self._connector = Connector(url, settings)
        self._publisher: Publisher
        self._subscriptions: Subscriptions
        self._reconnector: Reconnector[Log] | None = None
        self._reads = asyncio.Semaphore(_READS)

    @property
    def connected(self) -> bool:
        return self._reconnector is not None and self._reconnector.link is not None

    @property
    def reconnects(self) -> int:
        return 0 if self._reconnector is None else self._reconnector.reconnects

    async def open(self, receiver: Receiver) -> None:
        """Connect. While NATS can't be reached, go on trying in the background.

        Raises TopicsError if the user, the password, TLS or a permission is refused, or there is no JetStream.
        """
        self._publisher = Publisher(self._connected)
        self._subscriptions = Subscriptions(receiver, self._settings.retention, self._publisher.note)
        users = (self._publisher, self._subscriptions)
        self._reconnector = Reconnector("NATS", self._connector.connect, self._watch, users)
        await self._reconnector.open()

    async def close(self) -> None:
        """End the connection, after what is being published, as long as that takes no longer than GRACE."""
        if self._reconnector is None:
            return
        if self.connected:
            await self._publisher.drain(GRACE)
        await self._reconnector.close()
        await self._publisher.close()
        await self._subscriptions.close()

    async def _connected(self) -> Log:
        assert self._reconnector is not None
        return await self._reconnector.connected()

    async def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Place | None:
        """See `Backplane.publish()`. Raises TopicsError if it is unknown whether the message was published, or NATS
        refuses it."""
        return await self._publisher.publish(topic, data, kind, key, origin, retention)

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        return await self._subscriptions.subscribe(topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self._subscriptions.unsubscribe(topics)

    async def read(self, topic: str, after: Place) -> Reading:
        """See `Backplane.read()`. Raises TopicsError if NATS can't be reached."""
        async with self._reads:
            for _ in range(_ATTEMPTS):
                log = await self._connected()
                try:
                    return await read(log, topic, after, self._settings.retention)
                except LinkLost:
                    continue
        raise TopicsError("NATS was lost again and again")

    async def _watch(self, log: Log) -> None:
        """Return when a connection is lost; see to it that this is noticed."""
        ended = asyncio.ensure_future(log.ended())
        try:
            while not ended.done():
                await asyncio.wait([ended], timeout=self._url.health_check_interval)
                if not ended.done():
                    await log.check()
        finally:
            ended.cancel()
