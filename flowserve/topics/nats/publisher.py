"""Publishing to JetStream: batches, each of which is stored once, behind the one that its publisher knows.

All messages of a topic that are published while one of its batches is on its way form the next batch; one with a key is
a batch of its own. So there is one batch of a topic at most of which it can be unknown whether it was stored. Then the
batch behind the one that was expected says which: it is this one or another, and in the latter case this one can't be
stored any more, even if it arrives late.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.backplane import unknown_whether_published
from flowserve.topics.message import Kind
from flowserve.topics.nats.batch import (
    HEAD_SIZE,
    Batch,
    Tail,
    encode_batch,
    encode_record,
    new_record_check,
    token,
)
from flowserve.topics.nats.link import Answered, Unavailable
from flowserve.topics.nats.log import Conflict, Log, Stored, kept_age
from flowserve.topics.position import Place
from flowserve.topics.remote.errors import LinkLost
from flowserve.topics.remote.reconnector import GRACE
from flowserve.topics.settings import Retention

_MAX_BATCH = 256
"""Messages."""
_MAX_BATCH_SIZE = 1 << 18
"""Bytes, beyond which a batch gets no further message."""
_MAX_PENDING = 64 << 20
"""Bytes of messages that wait for NATS."""
_KNOWN_TAILS = 4096
"""Topics of which the end of the log is remembered."""
_RETRY_INTERVAL = 0.1
"""Seconds between attempts while JetStream can't work."""
_HEADERS = 1024
"""Bytes of a message's payload that are left to NATS."""


class _Item:
    """A message that is being published. `result` is its place, None if it was not published."""

    __slots__ = ("key", "record", "result")

    def __init__(self, record: bytes, key: str | None, result: asyncio.Future[Place | None]) -> None:
        self.record = record
        self.key = key
        self.result = result

    def settle(self, place: Place | None) -> None:
        if not self.result.done():
            self.result.set_result(place)

    def fail(self, error: TopicsError) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class _Lane:
    """The messages of one topic that are being published."""

    __slots__ = ("queue", "retention", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.queue: deque[_Item] = deque()
        self.retention: Retention  # as the last call of publish() wants it


class Publisher:
    """Publishes the messages of one event loop."""

    def __init__(self, connected: Callable[[], Awaitable[Log]]) -> None:
        """`connected()` returns the stream on the connection that there is, or the next one. Raises TopicsError."""
        self._connected = connected
        self._lanes: dict[str, _Lane] = {}
        self._tails: OrderedDict[str, Tail] = OrderedDict()  # as they were on this connection
        self._size = 0  # bytes in all lanes
        self._given_up = False
        self._overflowing = False
        self._silent = False  # JetStream does not answer, which was logged
        self._max_payload = 1 << 20
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    async def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Place | None:
        """See `Backplane.publish()`."""
        record = encode_record(data, kind, origin, new_record_check())
        if len(record) + HEAD_SIZE + _HEADERS > self._max_payload:
            raise TopicsError(
                f"the message has {len(data)} bytes, more than NATS takes: raise max_payload, which is "
                f"{self._max_payload}, in its configuration, or lower --topics-max-size"
            )
        if self._given_up or self._overflows(len(record)):
            return None
        lane = self._lanes.get(topic)
        if lane is None:
            lane = self._lanes[topic] = _Lane(topic)
            self._spawn(self._run(lane))
        lane.retention = retention
        result: asyncio.Future[Place | None] = self._loop.create_future()
        lane.queue.append(_Item(record, key, result))
        self._size += len(record)
        return await result

    def _overflows(self, size: int) -> bool:
        if self._size + size <= _MAX_PENDING:
            self._overflowing = False
            return False
        if not self._overflowing:
            self._overflowing = True
            logger.warning("Topics: NATS is too slow: messages are not published until it has taken those before")
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, timeout: float) -> None:
        """Wait until everything is answered, at most `timeout` seconds, and end what is not."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    async def close(self) -> None:
        """End."""
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Connections

    def up(self, log: Log) -> None:
        """Go on with a new connection."""
        self._given_up = False
        self._max_payload = log.link.max_payload
        self._tails.clear()

    def down(self) -> None:
        """Wait for the next connection: what was known of logs may be rolled back."""
        self._tails.clear()

    def give_up(self) -> None:
        """Until there is a connection, nothing is published; those that wait see it by themselves."""
        self._given_up = True

    def note(self, topic: str, tail: Tail) -> None:
        """Take the end of a topic's log that has come on the connection."""
        known = self._tails.get(topic)
        if known is not None and tail.seq > known.seq:
            self._tails[topic] = tail

    # A topic

    async def _run(self, lane: _Lane) -> None:
        """Publish what is in a lane, batch by batch."""
        await asyncio.sleep(0)  # all that is published in this event loop iteration
        batch: list[_Item] = []
        try:
            while lane.queue:
                batch = self._fill(lane)
                if batch:
                    await _Attempt(self, lane.topic, lane.retention, batch).run(self._connected)
                self._size -= sum([len(item.record) for item in batch])
                batch = []
        except Exception:  # a defect, or what is not JetStream
            logger.exception("Topics: publishing to the topic %r in NATS failed", lane.topic)
        finally:
            del self._lanes[lane.topic]
            left = [*batch, *lane.queue]  # nothing, unless it has failed, or was cancelled
            self._size -= sum([len(item.record) for item in left])
            for item in batch:
                item.fail(unknown_whether_published("NATS"))
            for item in left:
                item.settle(None)

    def _fill(self, lane: _Lane) -> list[_Item]:
        """Return the next batch."""
        queue, batch, size = lane.queue, list[_Item](), 0
        limit = min(_MAX_BATCH_SIZE, self._max_payload - HEAD_SIZE - _HEADERS)
        while queue and len(batch) < _MAX_BATCH:
            item = queue[0]
            if item.result.done():  # its caller was cancelled
                self._size -= len(queue.popleft().record)
                continue
            size += len(item.record)
            alone = item.key is not None or size > limit
            if batch and alone:
                break
            batch.append(queue.popleft())
            if alone:
                break
        return batch

    # As what an attempt asks

    async def tail(self, log: Log, topic: str) -> Tail | None:
        """Return the end of a topic's log, which may be out of date; None for one that is empty."""
        tail = self._tails.get(topic)
        if tail is None:
            batch = await log.last(topic)
            if batch is None:
                return None
            tail = batch.tail
            self.learn(topic, tail)
        return tail

    def learn(self, topic: str, tail: Tail) -> None:
        """Remember the end of a topic's log, which JetStream has told."""
        self._silent = False
        self._tails[topic] = tail
        self._tails.move_to_end(topic)
        if len(self._tails) > _KNOWN_TAILS:
            self._tails.popitem(last=False)

    def note_silence(self, error: LinkLost) -> None:
        """Log that JetStream does not answer, once for all messages that wait."""
        if not self._silent:
            self._silent = True
            logger.warning("Topics: %s", error)

    def doubt(self, topic: str, seq: int) -> None:
        """Forget the end of a topic's log, unless it is that with the sequence number `seq`."""
        tail = self._tails.get(topic)
        if tail is not None and tail.seq != seq:
            del self._tails[topic]

    def purge(self, log: Log, topic: str, seq: int) -> None:
        """Remove what is not needed any more, in the background."""
        self._spawn(self._purge(log, topic, seq))

    async def _purge(self, log: Log, topic: str, seq: int) -> None:
        try:
            await log.purge(topic, seq)
        except (LinkLost, Unavailable):
            pass  # the next purge covers it
        except Answered as error:
            logger.warning("Topics: the log of the topic %r can't be purged: %s", topic, error)


class _Attempt:
    """The attempts to store one batch."""

    def __init__(self, publisher: Publisher, topic: str, retention: Retention, batch: list[_Item]) -> None:
        self._publisher = publisher
        self._topic = topic
        self._retention = retention
        self._batch = batch
        self._records = [item.record for item in batch]
        key = batch[0].key
        self._id = None if key is None else _message_id(topic, key)
        self._unknown: int | None = None  # behind which sequence number it may be stored, without an answer

    async def run(self, connected: Callable[[], Awaitable[Log]]) -> None:
        """Settle all items."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GRACE
        while True:
            try:
                log = await connected()
            except TopicsError:
                self._give_up()
                break
            try:
                if await self._store(log):
                    break
            except LinkLost as error:
                if not log.link.is_lost and loop.time() > deadline:
                    self._publisher.note_silence(error)
                    self._give_up()
                    break
            except Unavailable:
                if loop.time() > deadline:
                    self._give_up()
                    break
                await asyncio.sleep(_RETRY_INTERVAL)
            except TopicsError as error:
                self._fail(error)
                break

    def _give_up(self) -> None:
        if self._unknown is not None:
            self._fail(unknown_whether_published("NATS"))
        for item in self._batch:
            item.settle(None)

    def _fail(self, error: TopicsError) -> None:
        for item in self._batch:
            item.fail(error)

    async def _store(self, log: Log) -> bool:
        """Try once; return whether that was it."""
        if self._unknown is not None and await self._look_for(log, self._unknown):
            return True
        publisher, topic = self._publisher, self._topic
        await log.raise_age(kept_age(self._retention))
        tail = await publisher.tail(log, topic)
        data, obsolete = encode_batch(tail, self._records, self._retention)
        expected = tail.seq if tail else 0
        try:
            stored = await log.store(topic, data, expected, self._id)
        except Conflict as conflict:
            publisher.doubt(topic, conflict.seq)
            return False
        except LinkLost:
            self._unknown = expected
            publisher.doubt(topic, -1)
            raise
        if stored.duplicate:
            await self._settle_duplicate(log, stored)
            return True
        self._settle(Batch(stored.seq, data), log)
        if obsolete:
            publisher.purge(log, topic, obsolete)
        return True

    async def _look_for(self, log: Log, expected: int) -> bool:
        """Find out whether the batch is stored behind the sequence number `expected`."""
        found = await log.next(self._topic, expected + 1)
        if found is not None and found.begins_with(self._records):
            self._settle(found, log)
            return True
        last = await log.last(self._topic) if found is None else found
        seq = 0 if last is None else last.seq
        if self._id is None and seq != expected and (found is None or found.expected != expected):
            self._fail(unknown_whether_published("NATS"))  # the log was purged meanwhile
            return True
        self._unknown = None
        return False

    def _settle(self, batch: Batch, log: Log) -> None:
        self._publisher.learn(self._topic, batch.tail)
        for item, message in zip(self._batch, batch.messages(self._topic), strict=True):
            item.settle(message.place)

    async def _settle_duplicate(self, log: Log, stored: Stored) -> None:
        earlier = await log.at(stored.seq)
        place = earlier.tail.place if earlier is not None else Place("", stored.seq, "")  # it is not kept any more
        for item in self._batch:
            item.settle(place)


def _message_id(topic: str, key: str) -> str:
    """Return what JetStream knows a message with a key by."""
    return f"{token(topic)}.{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"
