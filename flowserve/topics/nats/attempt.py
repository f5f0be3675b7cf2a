# cython: language_level=3, annotation_typing=False, binding=False
"""Storing one batch of messages, which may take several requests."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from flowserve.errors import TopicsError
from flowserve.topics.backplane import unknown_whether_published
from flowserve.topics.nats.batch import NewBatch, Tail, encode_batch, token
from flowserve.topics.nats.link import Unavailable
from flowserve.topics.nats.log import Conflict, Duplicate, Log, Outcome, kept_age
from flowserve.topics.position import Place
from flowserve.topics.remote.errors import LinkLost
from flowserve.topics.remote.reconnector import GRACE
from flowserve.topics.settings import Retention

_RETRY_INTERVAL = 0.1
"""Seconds between attempts while JetStream can't work."""


class AttemptHost(Protocol):
    """What an attempt asks of its publisher."""

    async def tail(self, log: Log, topic: str) -> Tail | None:
        """Return the end of a topic's log, which may be out of date; None for one that is empty."""

    def learn(self, topic: str, tail: Tail) -> None:
        """Remember the end of a topic's log."""

    def note_silence(self, error: LinkLost) -> None:
        """Log that JetStream does not answer."""

    def doubt(self, topic: str, seq: int) -> None:
        """Forget the end of a topic's log, unless it is that with the sequence number `seq`."""

    def purge(self, log: Log, topic: str, seq: int) -> None:
        """Remove what is not needed any more, in the background."""


class Item:
    """A message that is being published. `result` is its place, None if it was not published."""

    __slots__ = ("check", "key", "record", "result", "size")

    def __init__(
        self, record: bytes, check: str, size: int, key: str | None, result: asyncio.Future[Place | None]
    ) -> None:
        """`size` is the bytes of its data."""
        self.record = record
        self.check = check
        self.size = size
        self.key = key
        self.result = result

    def settle(self, place: Place | None) -> None:
        if not self.result.done():
            self.result.set_result(place)

    def fail(self, error: TopicsError) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class Attempt:
    """The attempts to store one batch."""

    def __init__(self, publisher: AttemptHost, topic: str, retention: Retention, batch: list[Item]) -> None:
        self._publisher = publisher
        self._topic = topic
        self._retention = retention
        self.batch = batch
        self._records: list[bytes] = []
        self.size = 0  # bytes of the records
        for item in batch:
            self._records.append(item.record)
            self.size += len(item.record)
        key = batch[0].key
        self._id = None if key is None else _message_id(topic, key)
        self._unknown: int | None = None  # behind which sequence number it may be stored, without an answer
        self._log: Log  # from `begin()` on, as the next ones
        self._begun: NewBatch
        self._behind: int  # the sequence number of the batch before it
        self._done: Callable[[Attempt, bool], object]

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
        for item in self.batch:
            item.settle(None)

    def _fail(self, error: TopicsError) -> None:
        for item in self.batch:
            item.fail(error)

    async def _store(self, log: Log) -> bool:
        """Try once; return whether that was it."""
        if self._unknown is not None and await self._look_for(log, self._unknown):
            return True
        publisher, topic = self._publisher, self._topic
        await log.raise_age(kept_age(self._retention))
        tail = await publisher.tail(log, topic)
        batch = encode_batch(tail, self._records, self._retention)
        expected = tail.seq if tail else 0
        try:
            stored = await log.store(topic, batch.data, expected, self._id)
        except Conflict as conflict:
            publisher.doubt(topic, conflict.seq)
            return False
        except LinkLost:
            self._is_unknown(expected)
            raise
        if isinstance(stored, Duplicate):
            await self._settle_duplicate(log, stored.seq)
        else:
            self._stored(log, stored, batch)
        return True

    def begin(self, log: Log, tail: Tail, done: Callable[[Attempt, bool], object]) -> None:
        """Try once, behind the end of the log that is known, without a task. `done` is called with this and whether
        that was it; if not, `run()` goes on."""
        batch = self._begun = encode_batch(tail, self._records, self._retention)
        self._log = log
        self._behind = tail.seq
        self._done = done
        log.begin_store(self._topic, batch.data, tail.seq, self._id, self)

    def __call__(self, outcome: Outcome) -> None:
        """Take what has become of `begin()`."""
        done = self._done
        if isinstance(outcome, int):
            self._stored(self._log, outcome, self._begun)
            done(self, True)
            return
        if isinstance(outcome, Conflict):
            self._publisher.doubt(self._topic, outcome.seq)
        elif isinstance(outcome, LinkLost):
            self._is_unknown(self._behind)
        done(self, False)

    def _is_unknown(self, expected: int) -> None:
        """Note that it may be stored behind the sequence number `expected`."""
        self._unknown = expected
        self._publisher.doubt(self._topic, -1)

    def _stored(self, log: Log, seq: int, batch: NewBatch) -> None:
        size, checks = 0, []
        for item in self.batch:
            size += item.size
            checks.append(item.check)
        tail, places = batch.stored(seq, checks, size)
        self._settle(tail, places)
        if batch.obsolete:
            self._publisher.purge(log, self._topic, batch.obsolete)

    async def _look_for(self, log: Log, expected: int) -> bool:
        """Find out whether the batch is stored behind the sequence number `expected`."""
        found = await log.next(self._topic, expected + 1)
        if found is not None and found.begins_with(self._records):
            self._settle(found.tail, [message.place for message in found.messages(self._topic)])
            return True
        last = await log.last(self._topic) if found is None else found
        seq = 0 if last is None else last.seq
        if self._id is None and seq != expected and (found is None or found.expected != expected):
            self._fail(unknown_whether_published("NATS"))  # the log was purged meanwhile
            return True
        self._unknown = None
        return False

    def _settle(self, tail: Tail, places: Sequence[Place | None]) -> None:
        self._publisher.learn(self._topic, tail)
        assert len(self.batch) == len(places)
        for index, item in enumerate(self.batch):
            item.settle(places[index])

    async def _settle_duplicate(self, log: Log, seq: int) -> None:
        earlier = await log.at(seq)
        place = earlier.tail.place if earlier is not None else Place("", seq, "")  # it is not kept any more
        for item in self.batch:
            item.settle(place)


def _message_id(topic: str, key: str) -> str:
    """Return what JetStream knows a message with a key by."""
    return f"{token(topic)}.{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"
