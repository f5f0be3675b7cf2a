"""The topics of one event loop: what is published, who is subscribed, and the backplane between it and the others."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from time import time
from typing import Any

from flowserve.errors import ClientDisconnected, TopicsError
from flowserve.logs.loggers import logger
from flowserve.metrics import (
    SECONDS,
    TOPICS_CONNECTED,
    TOPICS_LAG,
    TOPICS_PRESENCE_MESSAGES,
    TOPICS_RECONNECTS,
    Snapshot,
    observe,
)
from flowserve.topics.backplane import Backplane, NotPublished, Reading
from flowserve.topics.counts import Counts, TopicCounts
from flowserve.topics.delivery.backlog import Backlog
from flowserve.topics.delivery.members import Member, Subscriber
from flowserve.topics.delivery.topic import Topic
from flowserve.topics.hub.owed_gaps import OwedGaps
from flowserve.topics.message import Kind, Message
from flowserve.topics.names import CONTROL, ChangesName, check_name, topic_of
from flowserve.topics.payload import check_key
from flowserve.topics.position import BEGINNING, NOWHERE, Place, Position, parse
from flowserve.topics.presence.changes import ChangesTopic
from flowserve.topics.presence.membership import Membership
from flowserve.topics.presence.tracker import Tracker
from flowserve.topics.settings import Retention, Settings

_MAX_LATE = 100_000
"""Messages with an excluded owner that may still be on their way when their publishers go on."""

_ENDED = "the server has ended, or is about to"


class Hub:
    """The topics of one event loop. All methods are called in it."""

    def __init__(self, backplane: Backplane, settings: Settings, counts: Counts | None = None) -> None:
        """What happens is counted in `counts`, by topic; so is the lag of a backplane that reaches other processes."""
        self.settings = settings
        self.excluded: dict[str, object] = {}
        self._late: deque[str] = deque()  # the origins of messages that had not come when their publishers went on
        self._backplane = backplane
        self._counts = counts
        self._uncounted = TopicCounts()  # stands for those of all topics without `counts`
        self._lag = None if counts is None or backplane.connected is None else counts.lag
        self._topics: dict[str, Topic] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[None] | None = None
        self._is_open = False  # `open()` has succeeded, so that publishing needs not call it
        self._closed = False
        self._retention = settings.retention
        self._name = secrets.token_hex(8)
        self._numbers = count(1)
        self.owed_gaps = OwedGaps(backplane, self._name, settings.max_topics, self.spawn)
        self.tracker = Tracker(self._name, backplane, self)

    async def open(self) -> None:
        """Open the backplane, unless it is. Raises TopicsError if that is not possible; the next call tries again."""
        opening = self._opening
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception() is not None)):
            if self._closed:
                raise TopicsError(_ENDED)
            opening = self._opening = self._begin(self._backplane.open(self))
        if not opening.done():
            await self._end_of(opening)
        self._is_open = True

    @property
    def connected(self) -> bool:
        """Whether it reaches other processes."""
        return bool(self._backplane.connected)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what several calls wait for, by `_end_of()`, any of which may be cancelled."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: task.cancelled() or task.exception())  # nobody may be left to see it
        return task

    async def _end_of(self, task: asyncio.Task[None]) -> None:
        """Wait for it. Raises what it raises, and TopicsError if `close()` has cancelled it."""
        await asyncio.wait([task])
        if task.cancelled():
            raise TopicsError(_ENDED)
        task.result()

    async def close(self) -> None:
        """Close the backplane, after what is being published. What waits for it to open raises TopicsError."""
        self._closed = True
        await self.owed_gaps.close()
        await self.tracker.close()
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._opening is not None:
            await self._backplane.close()

    # Publishing

    async def publish(
        self,
        topic: str,
        data: bytes,
        kind: Kind,
        key: str | None = None,
        exclude: object = None,
        retention: Retention | None = None,
        alone: bool = True,
    ) -> Position:
        """Publish a message; see `topics.publish()`. `exclude` is the owner of subscribers, `retention` by default that
        of the settings. Raises NotPublished where the other processes can't be reached if it has a key, or may not be
        delivered `alone` in this one."""
        check_name(topic, self.settings.max_name)
        if len(data) > self.settings.max_size:
            raise TopicsError(f"the message has {len(data)} bytes; at most {self.settings.max_size} can be published")
        if key is not None:
            check_key(key)
        if not self._is_open:
            await self.open()
        kept = retention or self._retention
        if topic in self.owed_gaps:  # first, so that the gap is told where it is
            await self.owed_gaps.tell(topic)
        origin = ""  # it matters for those alone who exclude somebody
        if exclude is None or topic not in self._topics:
            place = await self._backplane.publish(topic, data, kind, key, origin, kept)
        else:
            origin = f"{self._name}.{next(self._numbers)}"
            place = await self._publish_excluding(exclude, topic, data, kind, key, origin, kept)
        if place is None:
            if key is not None or not alone:
                self.excluded.pop(origin, None)
                raise NotPublished(key)
            return self.publish_alone(topic, data, kind, origin, kept)
        self.counts_of(topic).published += 1
        return place.position()

    async def _publish_excluding(
        self, owner: object, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Place | None:
        """Publish a message that the subscribers of `owner` are not to get."""
        self.excluded[origin] = owner
        try:
            place = await self._backplane.publish(topic, data, kind, key, origin, retention)
        finally:
            if origin in self.excluded:  # it comes later
                self._late.append(origin)
                if len(self._late) > _MAX_LATE:
                    self.excluded.pop(self._late.popleft(), None)
        if place is not None and origin in self.excluded and self._has_passed(topic, place):
            del self.excluded[origin]  # its key was used before
        return place

    def publish_alone(
        self, topic: str, data: bytes, kind: Kind, origin: str = "", retention: Retention | None = None
    ) -> Position:
        """Deliver a message that was not published in this process alone, as the others can't be reached; they are told
        of a gap later. Raises NotPublished if there are too many topics of which that is to be remembered."""
        if not self.owed_gaps.admits(topic):
            self.excluded.pop(origin, None)
            raise NotPublished(None)
        self.owed_gaps.add(topic, retention or self._retention)
        self.counts_of(topic).published += 1
        self.received(Message(topic, data, kind, None, origin))
        return Position()

    def _has_passed(self, name: str, place: Place) -> bool:
        topic = self._topics.get(name)
        if topic is None or topic.opening is not None or topic.is_behind:
            return topic is None
        return topic.place.epoch == place.epoch and topic.place.offset >= place.offset

    # Subscribing

    async def subscribe(
        self, subscriber: Subscriber, topics: Sequence[str], since: Mapping[str, str]
    ) -> tuple[dict[str, Position], dict[str, bool]]:
        """Subscribe to topics, each from a position on where `since` has one. Return the positions from which on all
        messages are delivered, and whether none is missing since those in `since`: a gap that was told says so."""
        for name in topics:
            self.check_name(name)
        names = self._missing(subscriber, topics)
        pairs: list[tuple[Topic, Member]] = []
        try:
            async with self._subscribed(names):
                if subscriber.closed:
                    raise ClientDisconnected("the connection has ended")
                joined = [self._topics[name] for name in self._missing(subscriber, names)]
                pairs += [(topic, self._join(subscriber, topic, since.get(topic.name))) for topic in joined]
            resuming = [(topic, each, backlog) for topic, each in pairs if (backlog := each.backlog) is not None]
            await asyncio.gather(*(topic.catch_up(each, backlog) for topic, each, backlog in resuming))
        except BaseException:
            self.unsubscribe(subscriber, [member.topic for _, member in pairs])
            raise
        places = {name: found.place for name in topics if (found := self._topics.get(name)) and not found.opening}
        places.update((topic.name, topic.place) for topic, _ in pairs)
        recovered = {name: since[name] == place.position() for name, place in places.items() if name in since}
        for topic, member in pairs:
            if topic.name in since:
                recovered[topic.name] = member.complete
                counts = self.counts_of(topic.name)
                counts.recovered += member.complete
                counts.lost += not member.complete
        return {name: place.position() for name, place in places.items()}, recovered

    async def join_presence(
        self, subscriber: Subscriber, topics: Sequence[str], membership: Membership | None, presence: bool
    ) -> None:
        """Have a subscriber of topics be a member of them, and, with `presence`, get who is there and who comes and
        goes. Raises as `subscribe()`, and subscribes to nothing then."""
        if membership is not None:
            for topic in topics:
                if subscriber.member(topic) is not None:  # else the connection has ended
                    self.tracker.join(topic, subscriber, *membership, time())
        if presence:
            names = [ChangesName.of(topic) for topic in topics]
            await self.subscribe(subscriber, names, dict.fromkeys(names, BEGINNING.position()))

    def _missing(self, subscriber: Subscriber, topics: Iterable[str]) -> list[str]:
        """Return those of the topics to which it is not subscribed. Raises TopicsError if they are too many."""
        names = [name for name in dict.fromkeys(topics) if subscriber.member(name) is None]
        if subscriber.count() + len(names) > self.settings.max_per_connection:
            raise TopicsError(f"a connection can subscribe to {self.settings.max_per_connection} topics at most")
        return names

    def _join(self, subscriber: Subscriber, topic: Topic, since: str | None) -> Member:
        backlog = None
        if since is not None:
            place = parse(since) or NOWHERE
            if place != topic.place or topic.is_behind:
                backlog = Backlog(place, resuming=True)
        return topic.add(subscriber, backlog)

    @asynccontextmanager
    async def _subscribed(self, names: Sequence[str]) -> AsyncIterator[None]:
        """Have the backplane subscribed to topics, which stay so if they have members at the end."""
        await self.open()
        new = [name for name in names if name not in self._topics]
        if new:
            opening = self._begin(self._open_topics(new))
            for name in new:
                self._topics[name] = self._new_topic(name)
                self._topics[name].opening = opening
        topics = [self._topics[name] for name in names]
        for topic in topics:
            topic.joining += 1
        try:
            for topic in topics:
                if topic.opening is not None:
                    await self._end_of(topic.opening)
            yield
        finally:
            for topic in topics:
                topic.joining -= 1
            self._drop_unused(names)

    def _new_topic(self, name: str) -> Topic:
        if isinstance(name, ChangesName):
            return ChangesTopic(name, self, lambda: self.tracker.all_members(name))
        return Topic(name, self, self.counts_of(name))

    async def _open_topics(self, names: Sequence[str]) -> None:
        try:
            heads = await self.tracker.subscribe(names)
        except BaseException:
            for name in names:
                del self._topics[name]
            raise
        for name, head in zip(names, heads, strict=True):
            self._topics[name].begin(head)
        self._drop_unused(names)

    def _drop_unused(self, names: Iterable[str]) -> None:
        unused = []
        for name in names:
            topic = self._topics.get(name)
            if topic is not None and topic.empty and not topic.joining and topic.opening is None:
                del self._topics[name]
                unused.append(name)
        if unused:
            self.tracker.unsubscribe(unused)

    def unsubscribe(self, subscriber: Subscriber, topics: Iterable[str]) -> None:
        """End subscriptions to topics; those that there are not are none."""
        names = list(topics)
        for name in names:
            member = subscriber.member(name)
            if member is not None:
                subscriber.forget(member)
                self._topics[name].remove(member)
                if self.tracker.roster:
                    self.tracker.leave(name, subscriber)
        self._drop_unused(names)

    def ended(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a connection that is lost."""
        self.unsubscribe(subscriber, [member.topic for member in subscriber.members])

    def check_name(self, topic: str) -> None:
        """Raise TypeError for what is no name of a topic, TopicsError for one that is beyond the limits."""
        check_name(topic, self.settings.max_name)

    # As the backplane's receiver

    def received(self, message: Message) -> None:
        topic = self._topics.get(message.topic)
        try:
            if topic is not None:
                topic.received(message)
            elif message.topic == CONTROL:
                self.tracker.exchange.received(message)
        except Exception:  # a defect, or what another program has published; it must not end the connection
            logger.exception("A message of the topic %r could not be delivered", message.topic)
        if topic is not None and self._lag is not None and message.place is not None:
            observe(self._lag, SECONDS, max(0.0, time() - message.published_at))

    def restored(self, heads: dict[str, Place]) -> None:
        if CONTROL in heads:
            self.tracker.exchange.restored(heads[CONTROL])
        for name, head in heads.items():
            topic = self._topics.get(name)
            if topic is not None:
                topic.restored(head)

    # As the host of topics

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run in a task of its own until `close()`, and return that. What it raises is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, TopicsError):
            logger.debug("Topics: %s", error)
        elif error is not None:
            logger.error("A task of topics has failed", exc_info=error)

    async def read(self, topic: str, after: Place) -> Reading:
        return await self._backplane.read(topic, after)

    # As the host of presence

    def subscribers(self, topic: str) -> int:
        found = self._topics.get(topic_of(topic))
        return 0 if found is None else found.subscribers

    def deliver_changes(self, name: ChangesName, message: Message) -> None:
        topic = self._topics.get(name)
        if topic is not None:
            topic.received(message)

    # Counting

    def counts_of(self, topic: str) -> TopicCounts:
        """Return where a topic counts."""
        if self._counts is None or isinstance(topic, ChangesName):
            return self._uncounted
        return self._counts.of(topic)

    def count_client(self, more: int) -> None:
        """Count one client of `topics.serve()` more or less."""
        if self._counts is not None:
            self._counts.clients += more

    def count_request(self, type: str, result: str) -> None:
        """Count a request of such a client. There are few types and results."""
        if self._counts is not None:
            self._counts.request(type, result)

    def snapshot(self) -> Snapshot:
        """Return what was counted; nothing without `counts`. The backplane is part of it once it has been used, and
        what processes tell each other of presence once they do."""
        if self._counts is None:
            return {}
        found = self._counts.snapshot()
        told = {"out": self.tracker.exchange.sent, "in": self.tracker.exchange.heard}
        if any(told.values()):
            found[TOPICS_PRESENCE_MESSAGES] = told
        if self._lag is not None and self._opening is not None and self._opening.done():
            found[TOPICS_LAG] = {"": list(self._lag)}
            found[TOPICS_RECONNECTS] = {"": self._backplane.reconnects}
            found[TOPICS_CONNECTED] = {"": int(bool(self._backplane.connected))}
        return found
