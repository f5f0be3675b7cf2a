"""The channels of one process: what is sent to them, and to the groups that they are in.

Theory of operation. A process has a topic of its own, on which others send to its channels and ask it to add them to
groups; the name of a channel says whose it is. A group is a topic, to which the channels in it are subscribed. A normal
channel is a `WorkQueue`; in a group, the process that has added it forwards the messages.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from time import time
from typing import Any
from weakref import ref

import msgpack
from channels.exceptions import ChannelFull, MessageTooLarge

from flowserve.errors import ClientDisconnected, TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.channels.channel import Channel, Limits, Name
from flowserve.topics.channels.losses import Losses
from flowserve.topics.channels.work_queue import WorkQueue
from flowserve.topics.counts import TopicCounts
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.hub import Hub
from flowserve.topics.message import Kind, Message
from flowserve.topics.position import Place

_ANSWER_TIMEOUT = 5.0
"""Seconds that another process has for adding its channel to a group."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What a layer says of its channels."""

    prefix: str
    """Begins the names of topics."""
    expiry: float
    """Seconds that a message waits in a normal channel."""
    limits: Callable[[str], Limits]
    """Returns those of a channel."""


class Router:
    """All methods are called in the event loop of the hub."""

    def __init__(self, hub: Hub, settings: RouterSettings) -> None:
        self.hub = hub
        self.client = secrets.token_hex(8)
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._topic = self._process_topic(self.client)
        self._inbox = _Inbox(self)
        self._channels: dict[str, Channel] = {}
        self._sweeping = False  # a call of `_end_unread()` is to come
        self._queues: dict[str, WorkQueue] = {}
        self._forwarders: dict[str, _Forwarder] = {}  # by normal channel that is in a group
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._numbers = count(1)
        self._losses = Losses()

    def _process_topic(self, client: str) -> str:
        return f"{self._settings.prefix}.process:{client}"

    def _group_topic(self, group: str) -> str:
        return f"{self._settings.prefix}.group:{group}"

    # Channels

    async def new_channel(self, prefix: str, maker: asyncio.Task[Any] | None) -> str:
        """Return the name of a new channel, which ends at the latest with this object. `maker` is the task that calls
        this."""
        await self._listen()
        name = Name(f"{prefix}.{self.client}!{secrets.token_hex(8)}")
        channel = self._open(str(name))
        loop, end = self._loop, self._end

        def forget(_: ref[Name], plain: str = str(name)) -> None:
            with suppress(RuntimeError):  # the loop is closed; the garbage collector calls this, in any thread
                loop.call_soon_threadsafe(end, plain)

        channel.owned_by = ref(name, forget)
        channel.maker = None if maker is None else ref(maker)
        return name

    def _end_unread(self) -> None:
        """End the channels of consumers that have ended. One that has failed may be kept from the garbage collection
        for long, by its exception."""
        for channel in list(self._channels.values()):
            if channel.unread():
                self._end(channel.name)
        self._sweeping = bool(self._channels)
        if self._sweeping:
            self._loop.call_later(self._settings.expiry, self._end_unread)

    async def _listen(self) -> None:
        if self._inbox.member(self._topic) is None:
            await self.hub.subscribe(self._inbox, [self._topic], {})

    def _open(self, name: str) -> Channel:
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(self._settings.expiry, self._end_unread)
        channel = self._channels[name] = Channel(self, name, self._settings.limits(name))
        return channel

    def _end(self, name: str) -> None:
        channel = self._channels.pop(name, None)
        if channel is not None:
            channel.close()
            self.hub.ended(channel)

    def _queue(self, name: str) -> WorkQueue:
        queue = self._queues.get(name)
        if queue is None:
            topic = f"{self._settings.prefix}.queue:{name}"
            capacity = self._settings.limits(name).capacity
            queue = self._queues[name] = WorkQueue(self, name, topic, capacity, self._settings.expiry)
        return queue

    def unused(self, queue: WorkQueue) -> None:
        """See WorkQueueHost."""
        self._queues = {name: each for name, each in self._queues.items() if each is not queue}
        self.hub.ended(queue)

    def source_of(self, name: str) -> Channel | WorkQueue:
        """Return what `receive()` reads. Raises ValueError for a channel of another process."""
        if "!" not in name:
            return self._queue(name)
        if _client_of(name) != self.client:
            raise ValueError(f"the channel {name!r} is of another process, or new_channel() has not made it")
        return self._channels.get(name) or self._open(str(name))

    # Messages

    async def send(self, name: str, data: bytes) -> None:
        """Send to a channel. Raises ChannelFull, MessageTooLarge, and TopicsError if it can't be reached."""
        self._check_size(data)
        if "!" not in name:
            await self._queue(name).send(data)
        elif _client_of(name) != self.client:
            await self._publish_to(_client_of(name), msgpack.packb([name, data]), Kind.BINARY)
        elif (channel := self._channels.get(name)) is not None and not self._offer(channel, data):
            raise ChannelFull(name)

    def _offer(self, channel: Channel, data: bytes) -> bool:
        message = Message(self._topic, data, Kind.BINARY, None, "", time())
        return channel.offer(message, self.hub.counts_of(self._topic))

    async def group_send(self, group: str, data: bytes) -> None:
        """Send to all channels of a group. Raises MessageTooLarge, and TopicsError if only those of this process could
        be reached."""
        self._check_size(data)
        await self._publish(group, data, Kind.BINARY)

    async def _publish(self, group: str, data: bytes, kind: Kind) -> None:
        if not await self.hub.publish(self._group_topic(group), data, kind):
            raise TopicsError(f"a message to the group {group!r} reached only this process, as the backplane is away")

    async def _publish_to(self, client: str, data: bytes, kind: Kind) -> None:
        """Publish to another process. Raises TopicsError."""
        await self.hub.publish(self._process_topic(client), data, kind, alone=False)

    def _check_size(self, data: bytes) -> None:
        if len(data) > self.hub.settings.max_size:
            raise MessageTooLarge(f"the message has {len(data)} bytes, and may have {self.hub.settings.max_size}")

    # Groups

    async def group_add(self, group: str, name: str) -> None:
        """Add a channel to a group. Raises TopicsError if the process that it is of does not answer."""
        topic = self._group_topic(group)
        if "!" not in name:
            await self._forward(topic, name)
        elif _client_of(name) != self.client:
            await self._ask_to_add(group, name)
        elif (channel := self._channels.get(name)) is not None:
            await self.hub.subscribe(channel, [topic], {})

    async def group_discard(self, group: str, name: str) -> None:
        """Remove a channel from a group, if it is in it."""
        topic = self._group_topic(group)
        if "!" in name and _client_of(name) == self.client:
            if (channel := self._channels.get(name)) is not None:
                self.hub.unsubscribe(channel, [topic])
        else:
            await self._publish(group, name.encode(), Kind.TEXT)

    async def _forward(self, topic: str, name: str) -> None:
        forwarder = self._forwarders.get(name)
        if forwarder is None:
            forwarder = self._forwarders[name] = _Forwarder(self, name)
            self.hub.spawn(self._run_forwarder(forwarder))
        await self.hub.subscribe(forwarder, [topic], {})

    async def _run_forwarder(self, forwarder: _Forwarder) -> None:
        name = forwarder.name
        while (item := await forwarder.receive()) is not None:
            assert isinstance(item, Message)
            try:  # the key: other processes may have added the channel to the group, too
                await self._queue(name).send(item.data, _key_of(item))
            except ChannelFull:
                self.dropped(item.topic, name, "it is full")
            except TopicsError as error:
                self.dropped(item.topic, name, str(error))

    def left_groups(self, forwarder: _Forwarder) -> None:
        """Forget a forwarder."""
        if self._forwarders.get(forwarder.name) is forwarder:
            del self._forwarders[forwarder.name]

    async def _ask_to_add(self, group: str, name: str) -> None:
        await self._listen()
        number = next(self._numbers)
        answer = self._answers[number] = self._loop.create_future()
        record = {"add": name, "group": group, "client": self.client, "number": number}
        try:
            await self._publish_to(_client_of(name), json.dumps(record).encode(), Kind.JSON)
            error = await asyncio.wait_for(answer, _ANSWER_TIMEOUT)
        except asyncio.TimeoutError:
            error = "its process does not answer"
        finally:
            del self._answers[number]
        if error:
            raise TopicsError(f"the channel {name!r} could not be added to the group {group!r}: {error}")

    # The process's own topic

    def arrived(self, message: Message) -> None:
        """Take a message of this process's topic."""
        if message.kind == Kind.BINARY:
            name, data = msgpack.unpackb(message.data)
            channel = self._channels.get(name)
            if channel is not None and not self._offer(channel, data):
                self.dropped(message.topic, name, "it is full")
        elif message.kind == Kind.JSON:
            record = json.loads(message.data)
            if "add" in record:
                self.hub.spawn(self._add_for(record))
            elif (answer := self._answers.get(record["number"])) is not None and not answer.done():
                answer.set_result(record["error"])

    async def _add_for(self, record: Mapping[str, Any]) -> None:
        error = ""
        try:
            await self.group_add(record["group"], record["add"])
        except (TopicsError, ClientDisconnected) as failure:
            error = str(failure)
        answer = {"number": record["number"], "error": error}
        with suppress(TopicsError):  # who has asked is told that nobody answers
            await self._publish_to(record["client"], json.dumps(answer).encode(), Kind.JSON)

    # As the host of channels

    def dropped(self, topic: str, name: str, why: str) -> None:
        """See ChannelHost."""
        self.hub.counts_of(topic).dropped += 1
        self._losses.tell(why, f"a message to the channel {name!r} is dropped: {why}")

    def gap(self, topic: str) -> None:
        """See ChannelHost."""
        self.hub.counts_of(topic).gaps += 1
        kind = topic.partition(":")[0]
        self._losses.tell(
            kind, f"messages of {topic!r} are missing: they were lost on their way, and no history has them"
        )

    def close(self) -> None:
        """Forget the messages that wait; nothing is called afterwards."""
        for queue in self._queues.values():
            queue.close()

    async def flush(self) -> None:
        """Drop all messages of this process's channels and of normal channels that it uses, and leave all groups."""
        for channel in [*self._channels.values(), *self._forwarders.values()]:
            channel.clear()
        for queue in list(self._queues.values()):
            await queue.flush()


def _client_of(name: str) -> str:
    return name.partition("!")[0].rpartition(".")[2]


def _key_of(message: Message) -> str | None:
    """Return what a group's message is known by in a queue, which several processes may forward it to; a name and a
    position may be longer than a key."""
    if not message.place:
        return None
    return hashlib.blake2b(f"{message.topic} {message.position}".encode(), digest_size=16).hexdigest()


class _Inbox(QueueSubscriber):
    """Subscribed to the topic of this process."""

    def __init__(self, router: Router) -> None:
        super().__init__(router.hub.settings.max_pending)
        self._router = router

    def deliver(self, message: Message, counts: TopicCounts) -> bool:
        try:
            self._router.arrived(message)
        except (ValueError, TypeError, KeyError) as error:
            logger.warning("Channel layer: what came on the topic %s is no message: %r", message.topic, error)
        return True

    def tell_gap(self, topic: str, head: Place | None, counts: TopicCounts) -> bool:
        self._router.gap(topic)
        return True


class _Forwarder(Channel):
    """Takes the messages of groups for a normal channel, until that has left them all."""

    def __init__(self, router: Router, name: str) -> None:
        super().__init__(router, name, Limits(None, None, False))
        self._router = router

    def unused(self) -> None:
        self.close()
        self._router.left_groups(self)
