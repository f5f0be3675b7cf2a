"""The topics that the Redis backplane is subscribed to.

A topic is live on a connection from the answer to `head` on, which was sent behind its SUBSCRIBE. What is pushed before
that is dropped, as the head covers it; what is pushed after it is later than the head. So a receiver that is told the
head, and then gets what is pushed, misses nothing, not even if Redis was rolled back while there was no connection: a
message of the new log never follows one of the old log without the receiver having compared their heads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import hiredis

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.backplane import Receiver
from flowserve.topics.position import Place, new_check, new_epoch
from flowserve.topics.redis.connect import is_of_server
from flowserve.topics.redis.link import Commands, pack
from flowserve.topics.redis.scripts import (
    MALFORMED,
    REFRESH,
    Keys,
    decode_pushed,
    escape,
    head_command,
    keys_of,
)
from flowserve.topics.remote.errors import LinkLost

T = TypeVar("T")

_MAX_BATCH = 500
"""Topics that are subscribed to, or asked for their heads, in one write."""


class _Opening:
    """A call of subscribe() that waits for the heads of some topics."""

    def __init__(self, topics: Sequence[str]) -> None:
        self._left = set(topics)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def advance(self, topic: str) -> None:
        self._left.discard(topic)
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: TopicsError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Subscription:
    """One topic. `head` is what the receiver was told, or will be told when `opening` is over."""

    __slots__ = ("head", "keys", "live", "opening", "topic")

    def __init__(self, topic: str, keys: Keys, opening: _Opening) -> None:
        self.topic = topic
        self.keys = keys
        self.live = False
        self.head = Place(new_epoch(), 0, new_check())
        self.opening: _Opening | None = opening


class Subscriptions:
    """All topics that one event loop is subscribed to."""

    def __init__(self, prefix: str, receiver: Receiver) -> None:
        self._prefix = prefix
        self._receiver = receiver
        self._by_channel: dict[bytes, _Subscription] = {}
        self._new: list[_Subscription] = []  # to be subscribed to, and
        self._gone: list[bytes] = []  # channels to be unsubscribed from, at the end of this event loop iteration
        self._stale: deque[_Subscription] = deque()  # to be asked for their heads
        self._refresh_at = 0.0
        self._link: Commands | None = None
        self._given_up = False
        self._scheduled = False
        self._loop = asyncio.get_running_loop()

    # The interface of a backplane

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        """See `Backplane.subscribe()`. While Redis is given up, the heads are places that no log has, and no client."""
        opening = _Opening(topics)
        added = [_Subscription(topic, keys_of(self._prefix, escape(topic), ""), opening) for topic in topics]
        for each in added:
            self._by_channel[each.keys.channel] = each
        self._new.extend(added)
        self._schedule()
        if self._given_up or not added:
            opening.done.set_result(None)
        try:
            await opening.done
        except BaseException:
            self.unsubscribe(topics)
            raise
        for each in added:
            each.opening = None
        return [each.head for each in added]

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """See `Backplane.unsubscribe()`."""
        for topic in topics:
            channel = keys_of(self._prefix, escape(topic), "").channel
            if self._by_channel.pop(channel, None) is not None:
                self._gone.append(channel)
        self._schedule()

    # Connections

    def up(self, link: Commands) -> None:
        """Subscribe to everything on a new connection, and tell the receiver the heads."""
        self._link = link
        self._given_up = False
        self._new.clear()
        self._gone.clear()
        self._refresh_at = self._loop.time() + REFRESH
        self._send(list(self._by_channel.values()))

    def down(self) -> None:
        """Wait for the next connection."""
        self._link = None
        for each in self._by_channel.values():
            each.live = False

    def leave(self) -> None:
        """End all subscriptions on a connection that goes on for others."""
        if self._link is not None:
            for some in _batches([*self._by_channel, *self._gone]):
                self._link.unsubscribe(some, lambda error: None)

    def give_up(self) -> None:
        """Let nobody wait, until there is a connection."""
        self._given_up = True
        for each in self._by_channel.values():
            if each.opening is not None and not each.opening.done.done():
                each.opening.done.set_result(None)

    def refresh(self) -> None:
        """Ask for some heads, from time to time, so that they do not expire, and what was lost unnoticed is found."""
        if self._loop.time() >= self._refresh_at:
            self._refresh_at = self._loop.time() + REFRESH
            self._stale.extend(self._by_channel.values())
        some = [self._stale.popleft() for _ in range(min(len(self._stale), _MAX_BATCH))]
        self._ask([each for each in some if each.live])

    # Sending

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        new, gone, self._new, self._gone = self._new, self._gone, [], []
        if self._link is None:
            return
        for some in _batches(gone):
            self._link.unsubscribe(some, partial(_refused, self._link))
        self._send([each for each in new if self._by_channel.get(each.keys.channel) is each])

    def _send(self, subscriptions: Sequence[_Subscription]) -> None:
        link = self._link
        assert link is not None
        for some in _batches(subscriptions):
            link.subscribe([each.keys.channel for each in some], partial(_refused, link))
            self._ask(some)

    def _ask(self, subscriptions: Sequence[_Subscription]) -> None:
        link = self._link
        if subscriptions and link is not None:
            commands = [pack(head_command(each.keys)) for each in subscriptions]
            link.run(commands, [partial(self._headed, link, each) for each in subscriptions])

    # What comes

    def on_message(self, channel: bytes, payload: bytes) -> None:
        """Pass on what was pushed on a channel."""
        subscription = self._by_channel.get(channel)
        if subscription is None or not subscription.live:
            return
        receiver = self._receiver
        try:
            for message in decode_pushed(subscription.topic, payload):
                receiver.received(message)
        except MALFORMED as error:
            logger.warning("Topics: what came on the channel %s of Redis is no message: %s", channel, error)

    def _headed(self, link: Commands, subscription: _Subscription, answer: Any) -> None:
        if self._by_channel.get(subscription.keys.channel) is not subscription or isinstance(answer, LinkLost):
            return
        if isinstance(answer, Exception):
            self._failed(link, subscription, answer)
            return
        if link.retired:
            return  # SUBSCRIBE may have failed; the next connection asks again
        epoch, offset, check = answer
        subscription.head = Place(epoch.decode(), offset, check.decode())
        subscription.live = True
        if subscription.opening is None:
            self._receiver.restored({subscription.topic: subscription.head})
        else:
            subscription.opening.advance(subscription.topic)

    def _failed(self, link: Commands, subscription: _Subscription, error: Exception) -> None:
        if isinstance(error, hiredis.ReplyError) and is_of_server(error):
            link.retire(str(error))
        elif subscription.opening is not None:
            subscription.opening.fail(TopicsError(f"Redis answers: {error}"))
        else:
            logger.error("Topics: Redis does not tell the head of the topic %r: %s", subscription.topic, error)


def _refused(link: Commands, error: Any) -> None:
    """SUBSCRIBE has failed."""
    if not isinstance(error, LinkLost):
        link.retire(str(error))


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _MAX_BATCH):
        yield items[start : start + _MAX_BATCH]
