"""The topics that the NATS backplane is subscribed to.

A topic is live on a connection once the end of its log is known, which was asked for behind the subscription. What
comes before that is not passed on, but may be later than that end, as JetStream answers and publishes on several ways:
then it is the end. So a receiver that is told the head, and then gets what comes, misses nothing, not even if the
stream was rolled back while there was no connection.

A batch that no longer is in the stream takes the topic's place with it: nobody could tell whether something was
published since. So those who are subscribed publish a batch without messages when none has come for long; it tells
everybody the head, too, so that what was lost on the way to one of them is found.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from nats.aio.subscription import Subscription

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.backplane import Receiver
from flowserve.topics.nats.batch import MALFORMED, Batch, Tail
from flowserve.topics.nats.client import Received
from flowserve.topics.nats.link import Unavailable
from flowserve.topics.nats.log import Conflict, Log
from flowserve.topics.position import Place, new_check, new_epoch
from flowserve.topics.remote.errors import LinkLost
from flowserve.topics.settings import Retention

_AT_ONCE = 64
"""Topics that are subscribed to, or kept, at once."""
_RETRY_INTERVAL = 0.25
"""Seconds between attempts while JetStream can't work."""
_TURNS = 4
"""Turns in which all topics are looked at while a batch is kept; one of which none has come for two is kept."""


class _Topic:
    """One topic. `head` is what the receiver was told, or will be told when it is `ready`."""

    __slots__ = ("fresh", "head", "live", "name", "ready", "subscription", "tail")

    def __init__(self, name: str) -> None:
        self.name = name
        self.live = False
        self.head = Place(new_epoch(), 0, new_check())
        self.tail: Tail | None = None  # on this connection
        self.fresh = True  # something came since the last turn
        self.subscription: Subscription | None = None
        self.ready: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()


class Subscriptions:
    """All topics that one event loop is subscribed to."""

    def __init__(self, receiver: Receiver, retention: Retention, note: Callable[[str, Tail], None]) -> None:
        """`retention` is for logs that are begun. `note()` is told the ends of logs."""
        self._receiver = receiver
        self._retention = retention
        self._note = note
        self._topics: dict[str, _Topic] = {}
        self._log: Log | None = None
        self._given_up = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._loop = asyncio.get_running_loop()

    # The interface of a backplane

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        """See `Backplane.subscribe()`. While NATS is given up, the heads are places that no log has, and no client."""
        added = [_Topic(name) for name in topics]
        self._topics.update((each.name, each) for each in added)
        waiting = [each.ready for each in added if each.ready is not None]
        if self._given_up:
            _resolve(added)
        elif self._log is not None:
            self._begin(self._log, added)
        try:
            await asyncio.gather(*waiting)
        except BaseException:
            self.unsubscribe(topics)
            raise
        for each in added:
            each.ready = None
        return [each.head for each in added]

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """See `Backplane.unsubscribe()`."""
        for name in topics:
            topic = self._topics.pop(name, None)
            if topic is not None:
                topic.live = False
                self._end(topic)

    def _end(self, topic: _Topic) -> None:
        subscription, topic.subscription = topic.subscription, None
        if subscription is not None and self._log is not None:
            self._spawn(self._log.link.unsubscribe(subscription))

    # Connections

    def up(self, log: Log) -> None:
        """Subscribe to everything on a new connection, and tell the receiver the heads."""
        self._log = log
        self._given_up = False
        self._begin(log, list(self._topics.values()))
        self._spawn(self._keep_all(log))

    def down(self) -> None:
        """Wait for the next connection."""
        self._log = None
        for task in self._tasks:
            task.cancel()
        for each in self._topics.values():
            each.live = False
            each.subscription = each.tail = None

    def give_up(self) -> None:
        """Let nobody wait, until there is a connection."""
        self._given_up = True
        _resolve(self._topics.values())

    async def close(self) -> None:
        """Return when nothing is being done any more."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, log: Log, topics: Sequence[_Topic]) -> None:
        for topic in topics:
            self._spawn(self._begin_one(log, topic))

    async def _begin_one(self, log: Log, topic: _Topic) -> None:
        """Have a topic live on a connection."""

        take = partial(self._take, log, topic)
        with suppress(LinkLost):  # the next connection begins anew
            topic.subscription = subscription = await log.link.subscribe(log.live_subject(topic.name), take)
            tail = None
            while tail is None and self._topics.get(topic.name) is topic:
                try:
                    async with self._slots:
                        tail = await log.tail(topic.name, self._retention)
                except Unavailable:
                    await asyncio.sleep(_RETRY_INTERVAL)
                except LinkLost:
                    if log.link.is_lost:
                        raise
                except TopicsError as error:
                    self._fail(topic, error)
                    return
            if tail is not None:
                self._head(topic, tail)
            else:
                await log.link.unsubscribe(subscription)  # it has ended meanwhile

    def _fail(self, topic: _Topic, error: TopicsError) -> None:
        if topic.ready is None:
            logger.error("Topics: NATS does not tell the head of the topic %r: %s", topic.name, error)
        elif not topic.ready.done():
            topic.ready.set_exception(error)

    def _head(self, topic: _Topic, tail: Tail) -> None:
        """Take the end of a topic's log."""
        if topic.tail is None or topic.tail.seq < tail.seq:
            topic.tail = tail
        topic.live = True
        topic.head = topic.tail.place
        if topic.ready is None:
            self._receiver.restored({topic.name: topic.head})
        elif not topic.ready.done():
            topic.ready.set_result(None)

    # What comes

    def _take(self, log: Log, topic: _Topic, message: Received) -> None:
        """Pass on a batch."""
        if self._log is not log or self._topics.get(topic.name) is not topic:
            return
        try:
            batch = Batch(int(message.headers["Nats-Sequence"]), message.data)
        except (*MALFORMED, KeyError) as error:
            logger.warning("Topics: what came on %s of NATS is no message: %r", message.subject, error)
            return
        topic.fresh = True
        topic.tail = batch.tail
        self._note(topic.name, batch.tail)
        if not topic.live:
            return
        messages = list(batch.messages(topic.name))
        for each in messages:
            self._receiver.received(each)
        if not messages:
            self._receiver.restored({topic.name: batch.tail.place})

    # Keeping

    async def _keep_all(self, log: Log) -> None:
        """Keep the places of topics in which nothing is published, for ever."""
        while True:
            await asyncio.sleep(random.uniform(0.8, 1.2) * log.max_age / _TURNS)
            stale = [each for each in self._topics.values() if each.live and not each.fresh]
            for each in self._topics.values():
                each.fresh = False
            for start in range(0, len(stale), _AT_ONCE):
                await asyncio.gather(*(self._keep(log, each) for each in stale[start : start + _AT_ONCE]))

    async def _keep(self, log: Log, topic: _Topic) -> None:
        if topic.tail is None or topic.fresh:
            return
        try:
            await log.keep(topic.name, topic.tail, topic.tail.retention)
        except Conflict:
            with suppress(TopicsError):  # somebody has done it, or the log was lost
                self._head_again(topic, await log.tail(topic.name, self._retention))
        except TopicsError as error:
            logger.debug("Topics: the place of the topic %r is not kept: %s", topic.name, error)

    def _head_again(self, topic: _Topic, tail: Tail) -> None:
        if topic.live and topic.tail is not None and tail.place != topic.tail.place:
            topic.tail = tail
            self._receiver.restored({topic.name: tail.place})


def _resolve(topics: Any) -> None:
    for each in topics:
        if each.ready is not None and not each.ready.done():
            each.ready.set_result(None)
