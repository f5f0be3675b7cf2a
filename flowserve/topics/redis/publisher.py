# cython: language_level=3, annotation_typing=False, binding=False
"""Publishing to Redis: batches, each of which is applied once, whatever happens to connections.

All messages of a topic that are published while none of its batches is on its way form the next batch, which leaves at
the end of the event loop iteration together with those of other topics. So there is one batch of a topic at most of
which it can be unknown whether Redis has applied it, and messages of a topic stay in order.

A batch has a number. Redis remembers the last one of each producer and topic, with its answer, so that a batch that is
sent again on the next connection is applied once, and one that arrives late, from a connection that this end has given
up, is not applied after a later one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import Any

import hiredis

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.backplane import unknown_whether_published
from flowserve.topics.message import Kind
from flowserve.topics.position import Place, new_check, parse, place_of
from flowserve.topics.redis.connect import is_of_server
from flowserve.topics.redis.link import Commands
from flowserve.topics.redis.scripts import MALFORMED, PublishCommand, encode_record, escape, keys_of
from flowserve.topics.remote.errors import LinkLost
from flowserve.topics.settings import Retention

_MAX_BATCH = 256
"""Messages; a Lua function takes some thousand arguments."""
_MAX_BATCH_SIZE = 1 << 20
"""Bytes, beyond which a batch gets no further message."""
_MAX_PENDING = 64 << 20
"""Bytes of messages that wait for Redis."""
_KNOWN_TOPICS = 4096
"""Topics of which what their commands have in common is kept in memory."""
_UNREADABLE = (AttributeError, *MALFORMED)
"""What reading an answer raises that is an error, or what another program has written."""


class _Item:
    """A message that is being published. `result` is its place, None if it was not published."""

    __slots__ = ("check", "key", "record", "result")

    def __init__(self, record: bytes, check: str, key: bytes | None, result: asyncio.Future[Place | None]) -> None:
        self.record = record
        self.check = check
        self.key = key
        self.result = result

    def settle(self, place: Place | None) -> None:
        if not self.result.done():
            self.result.set_result(place)

    def fail(self, error: TopicsError) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class _Lane:
    """The messages of one topic that are being published. Called, it takes the answer to its batch."""

    __slots__ = ("batch", "command", "encode", "publisher", "queue", "retention", "topic")

    def __init__(self, publisher: Publisher, topic: str, encode: PublishCommand, retention: Retention) -> None:
        self.publisher = publisher
        self.topic = topic
        self.encode = encode  # makes its commands
        self.retention = retention  # as the last call of publish() wants it
        self.queue: deque[_Item] = deque()
        self.batch: list[_Item] = []  # those that were sent and not answered,
        self.command = b""  # and how

    def __call__(self, answer: Any) -> None:
        self.publisher.answered(self, answer)

    def taken(self) -> int:
        """Return the bytes of what was sent and not answered."""
        size = 0
        for item in self.batch:
            size += len(item.record)
        return size


class Shared:
    """What publishers share: the bound of what waits for Redis, and the end of the event loop iteration, when all of
    them send. There are many in a cluster."""

    __slots__ = ("_due", "_loop", "_overflowing", "_size")

    def __init__(self) -> None:
        self._size = 0  # bytes that wait
        self._overflowing = False
        self._due: list[Publisher] = []
        self._loop = asyncio.get_running_loop()

    def add(self, size: int) -> None:
        """Note that so many bytes more wait, or fewer."""
        self._size += size

    def overflows(self, size: int) -> bool:
        """Return whether a message of that size can't wait, too."""
        if self._size + size <= _MAX_PENDING:
            return False
        if not self._overflowing:
            self._overflowing = True
            logger.warning("Topics: Redis is too slow: messages are not published until it has taken those before")
        return True

    def schedule(self, publisher: Publisher) -> None:
        """Have a publisher send what is due at the end of this event loop iteration."""
        if not self._due:
            self._loop.call_soon(self._flush)
        self._due.append(publisher)

    def _flush(self) -> None:
        due, self._due = self._due, []
        for publisher in due:
            publisher.flush()


class Publisher:
    """Publishes the messages of one event loop."""

    def __init__(self, prefix: str, name: str, partitions: int = 0, shared: Shared | None = None) -> None:
        """`name` is that of this producer, unlike all others. It is one of so many for the partitions of a cluster,
        which have `shared`."""
        self._command_of: Callable[[str], PublishCommand] = lru_cache(_KNOWN_TOPICS // (partitions or 1))(
            lambda topic: PublishCommand(keys_of(prefix, escape(topic), name), partitions > 0)
        )
        self._numbers = count(1)
        self._lanes: dict[str, _Lane] = {}
        self._ready: list[_Lane] = []  # those with something to send, and no batch on its way
        self._shared = shared or Shared()
        self._link: Commands | None = None
        self._given_up = False
        self._scheduled = False
        self._loop = asyncio.get_running_loop()

    def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> asyncio.Future[Place | None]:
        """See `Backplane.publish()`."""
        result: asyncio.Future[Place | None] = self._loop.create_future()
        if self._given_up or self._shared.overflows(len(data)):
            result.set_result(None)
            return result
        lane = self._lanes.get(topic)
        if lane is None:
            lane = self._lanes[topic] = _Lane(self, topic, self._command_of(topic), retention)
            self._ready.append(lane)
            self.schedule()
        lane.retention = retention
        check = new_check()
        record = encode_record(data, kind, key is not None, origin, check)
        lane.queue.append(_Item(record, check, None if key is None else lane.encode.keys.of_key(key), result))
        self._shared.add(len(record))
        return result

    async def drain(self, timeout: float) -> None:
        """Wait until everything is answered, at most `timeout` seconds."""
        waiting = [item.result for lane in self._lanes.values() for item in (*lane.batch, *lane.queue)]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout)

    # Connections

    def up(self, link: Commands) -> None:
        """Go on with a new connection: first with the batches of which nothing is known."""
        self._link = link
        self._given_up = False
        unknown = [lane for lane in self._lanes.values() if lane.batch]
        link.run([lane.command for lane in unknown], unknown)
        self.flush()

    def down(self) -> None:
        """Wait for the next connection."""
        self._link = None

    def give_up(self) -> None:
        """Wait no longer: until there is a connection, nothing is published."""
        self._given_up = True
        lanes, self._lanes = self._lanes, {}
        self._ready.clear()
        for lane in lanes.values():
            self._shared.add(-lane.taken())
            for item in lane.batch:
                item.fail(unknown_whether_published("Redis"))
            for item in lane.queue:
                self._shared.add(-len(item.record))
                item.settle(None)

    # Sending

    def schedule(self) -> None:
        """Send what is due at the end of this event loop iteration."""
        if not self._scheduled:
            self._scheduled = True
            self._shared.schedule(self)

    def flush(self) -> None:
        """Send the next batch of each topic that has none on its way."""
        self._scheduled = False
        link = self._link
        if link is None or link.paused or link.retired:
            return
        ready, self._ready = self._ready, []
        commands, filled = [], []
        for lane in ready:
            if self._fill(lane):
                commands.append(lane.command)
                filled.append(lane)
            else:
                del self._lanes[lane.topic]
        if filled:
            link.run(commands, filled)

    def _fill(self, lane: _Lane) -> bool:
        """Make the next batch; return whether there is something in it."""
        queue, batch, size = lane.queue, lane.batch, 0
        records, keyed = [], []
        while queue and len(batch) < _MAX_BATCH and size < _MAX_BATCH_SIZE:
            item = queue.popleft()
            if item.result.done():  # its caller was cancelled
                self._shared.add(-len(item.record))
                continue
            batch.append(item)
            records.append(item.record)
            size += len(item.record)
            if item.key is not None:
                keyed.append(item.key)
        if batch:
            lane.command = lane.encode(next(self._numbers), lane.retention, records, keyed)
        return bool(batch)

    # Answers

    def answered(self, lane: _Lane, answer: Any) -> None:
        """Take the answer to a lane's batch."""
        if isinstance(answer, LinkLost):
            return  # up() sends the batch again, or give_up() ends the wait
        size = lane.taken()
        batch, lane.batch = lane.batch, []
        if isinstance(answer, hiredis.ReplyError) and is_of_server(answer):
            lane.queue.extendleft(reversed(batch))  # it was not applied, and is part of a later batch
            if self._link is not None:
                self._link.retire(str(answer))
        else:
            self._shared.add(-size)
            self._settle(batch, answer)
        if lane.queue:
            self._ready.append(lane)
            self.schedule()
        elif self._lanes.get(lane.topic) is lane:
            del self._lanes[lane.topic]

    def _settle(self, batch: list[_Item], answer: Any) -> None:
        try:
            places = _places(answer, batch)
        except _UNREADABLE:
            said = answer if isinstance(answer, Exception) else f"{answer!r:.100}, which tells no places"
            for item in batch:
                item.fail(TopicsError(f"Redis answers: {said}"))
            return
        for index, item in enumerate(batch):
            item.settle(places[index])


def _places(answer: bytes, batch: list[_Item]) -> list[Place | None]:
    """Return the places of a batch's messages. The answer is the epoch, the offset of the first message, and the index
    and position of each message whose key was used before."""
    epoch, first, *known = answer.decode().split(" ")
    offset = int(first)
    earlier = None
    if known:
        earlier = {int(at): parse(position) for at, position in zip(known[::2], known[1::2], strict=True)}
    places: list[Place | None] = []
    for index, item in enumerate(batch):
        if earlier is not None and index in earlier:
            places.append(earlier[index])
        else:
            places.append(place_of(epoch, offset, item.check))
            offset += 1
    return places
