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
  connection, and at once from then on. The hub delivers it in this process, and publishes a gap when NATS is back.
- A message that was sent and not answered: the batch behind the expected one says whether it was stored
  (`publisher.py`). Without a connection within GRACE seconds, `publish()` raises TopicsError.
- A key is what JetStream knows a message by (`Nats-Msg-Id`), as long as the stream keeps messages.
- While there is no connection, subscriptions are made without one. Their head is a place that no log has; when NATS is
  back, they are told of a gap, as others may have published meanwhile.
"""

from __future__ import annotations

import asyncio

from flowserve.topics.backplane import Reading, Receiver
from flowserve.topics.nats.connect import Connector
from flowserve.topics.nats.history import read
from flowserve.topics.nats.log import Log
from flowserve.topics.nats.publisher import Publisher
from flowserve.topics.nats.subscriptions import Subscriptions
from flowserve.topics.nats.url import NATSURL
from flowserve.topics.position import Place
from flowserve.topics.remote.backplane import RemoteBackplane
from flowserve.topics.settings import Settings


class NATSBackplane(RemoteBackplane[Log]):
    """A `Backplane` that reaches all who use the same NATS, account and prefix."""

    _publisher: Publisher
    _subscriptions: Subscriptions

    def __init__(self, url: NATSURL, settings: Settings) -> None:
        super().__init__("NATS")
        self._url = url
        self._settings = settings
        self._connector = Connector(url, settings)

    async def open(self, receiver: Receiver) -> None:
        """Connect. While NATS can't be reached, go on trying in the background.

        Raises TopicsError if the user, the password, TLS or a permission is refused, or there is no JetStream.
        """
        self._publisher = Publisher(self._link)
        self._subscriptions = Subscriptions(receiver, self._settings.retention, self._publisher.note)
        await self._connect(self._connector.connect, self._watch, (self._publisher, self._subscriptions))

    async def close(self) -> None:
        """End the connection, after what is being published, as long as that takes no longer than GRACE."""
        await super().close()
        if self._reconnector is not None:
            await self._publisher.close()
            await self._subscriptions.close()

    async def read(self, topic: str, after: Place) -> Reading:
        """See `Backplane.read()`. Raises TopicsError if NATS can't be reached."""
        return await self._ask(lambda log: read(log, topic, after, self._settings.retention))

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
