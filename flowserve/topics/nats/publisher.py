# cython: language_level=3, annotation_typing=False, binding=False
"""Publishing to JetStream: batches, each of which is stored once, behind the one that its publisher knows.

All messages of a topic that are published while one of its batches is on its way form the next batch; one with a key is
a batch of its own. So there is one batch of a topic at most of which it can be unknown whether it was stored. Then the
batch behind the one that was expected says which: it is this one or another, and in the latter case this one can't be
stored any more, even if it arrives late.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.backplane import unknown_whether_published
from flowserve.topics.message import Kind
from flowserve.topics.nats.attempt import Attempt, Item
from flowserve.topics.nats.batch import (
    HEAD_SIZE,
    Tail,
    encode_record,
)
from flowserve.topics.nats.link import Answered, Unavailable
from flowserve.topics.nats.log import Log, kept_age
from flowserve.topics.position import Place, new_check
from flowserve.topics.remote.errors import LinkLost
from flowserve.topics.settings import Retention

_MAX_BATCH = 256
"""Messages."""
_MAX_BATCH_SIZE = 1 << 18
"""Bytes, beyond which a batch gets no further message."""
_MAX_PENDING = 64 << 20
"""Bytes of messages that wait for NATS."""
_KNOWN_TAILS = 4096
"""Topics of which the end of the log is remembered."""
_HEADERS = 1024
"""Bytes of a message's payload that are left to NATS."""


class _Lane:
    """The messages of one topic that are being published. Called, it takes the outcome of an attempt's beginning."""

    __slots__ = ("publisher", "queue", "retention", "topic")

    def __init__(self, publisher: Publisher, topic: str) -> None:
        self.publisher = publisher
        self.topic = topic
        self.queue: deque[Item] = deque()
        self.retention: Retention  # as the last call of publish() wants it

    def __call__(self, attempt: Attempt, settled: bool) -> None:
        self.publisher.began(self, attempt, settled)


class Publisher:
    """Publishes the messages of one event loop."""

    def __init__(self, connected: Callable[[], Awaitable[Log]]) -> None:
        """`connected()` returns the stream on the connection that there is, or the next one. Raises TopicsError."""
        self._connected = connected
        self._lanes: dict[str, _Lane] = {}
        self._ready: list[_Lane] = []  # that begin at the end of this event loop iteration
        self._log: Log | None = None
        self._covered: Retention | None = None  # with which that keeps batches for long enough
        self._tails: OrderedDict[str, Tail] = OrderedDict()  # as they were on this connection
        self._size = 0  # bytes in all lanes
        self._obsolete: dict[str, int] = {}  # by topic, up to which sequence number its log is to be purged
        self._purging = False
        self._idle: asyncio.Future[None] | None = None  # done when nothing is being published
        self._given_up = False
        self._overflowing = False
        self._silent = False  # JetStream does not answer, which was logged
        self._max_payload = 1 << 20
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> asyncio.Future[Place | None]:
        """See `Backplane.publish()`. Raises TopicsError for a message that NATS does not take."""
        check = new_check()
        record = encode_record(data, kind, origin, check)
        if len(record) + HEAD_SIZE + _HEADERS > self._max_payload:
            raise TopicsError(
                f"the message has {len(data)} bytes, more than NATS takes: raise max_payload, which is "
                f"{self._max_payload}, in its configuration, or lower --topics-max-size"
            )
        result: asyncio.Future[Place | None] = self._loop.create_future()
        if self._given_up or self._overflows(len(record)):
            result.set_result(None)
            return result
        lane = self._lanes.get(topic)
        if lane is None:
            lane = self._lanes[topic] = _Lane(self, topic)
            if not self._ready:
                self._loop.call_soon(self._flush)
            self._ready.append(lane)
        lane.retention = retention
        lane.queue.append(Item(record, check, len(data), key, result))
        self._size += len(record)
        return result

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
        """Wait until everything is answered, at most `timeout` seconds."""
        if self._lanes:
            self._idle = self._loop.create_future()
            await asyncio.wait([self._idle], timeout=timeout)

    def _end(self, lane: _Lane) -> None:
        """Note that nothing of a lane is left."""
        del self._lanes[lane.topic]
        if not self._lanes and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def close(self) -> None:
        """End."""
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Connections

    def up(self, log: Log) -> None:
        """Go on with a new connection."""
        self._given_up = False
        self._log = log
        self._covered = None
        self._max_payload = log.link.max_payload
        self._tails.clear()

    def down(self) -> None:
        """Wait for the next connection: what was known of logs may be rolled back."""
        self._log = None
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

    def _flush(self) -> None:
        """Begin with the lanes in which something was published in this event loop iteration."""
        ready, self._ready = self._ready, []
        log = self._usable()
        for lane in ready:
            self._next(lane, log)

    def _usable(self) -> Log | None:
        """Return the stream, if there is a connection."""
        log = self._log
        return None if log is None or log.is_lost else log

    def _next(self, lane: _Lane, log: Log | None) -> None:
        """Publish the next batch of a lane, or end it."""
        batch = self._fill(lane)
        if not batch:
            self._end(lane)
            return
        attempt = Attempt(self, lane.topic, lane.retention, batch)
        tail = self._tails.get(lane.topic)
        if log is None or tail is None or not self._covers(log, lane.retention):
            self._spawn(self._run(lane, attempt))
        else:
            attempt.begin(log, tail, lane)

    def _covers(self, log: Log, retention: Retention) -> bool:
        """Return whether the stream keeps batches for long enough."""
        if retention is not self._covered:  # else it was looked at before, as mostly
            if kept_age(retention) > log.max_age:
                return False
            self._covered = retention
        return True

    def began(self, lane: _Lane, attempt: Attempt, settled: bool) -> None:
        """The first attempt has an outcome; where that is not all, go on."""
        if settled:
            self._size -= attempt.size
            if lane.queue:
                self._next(lane, self._usable())
            else:
                self._end(lane)
        else:
            self._spawn(self._run(lane, attempt))

    async def _run(self, lane: _Lane, attempt: Attempt) -> None:
        """Publish a batch that needs more than one request, and go on with what has come meanwhile."""
        done = False
        try:
            await attempt.run(self._connected)
            done = True
        except Exception:  # a defect, or what is not JetStream
            logger.exception("Topics: publishing to the topic %r in NATS failed", lane.topic)
        finally:
            self._size -= attempt.size
            if done:
                self._next(lane, self._usable())
            else:  # it has failed, or was cancelled
                self._end(lane)
                self._size -= sum([len(item.record) for item in lane.queue])
                for item in attempt.batch:
                    item.fail(unknown_whether_published("NATS"))
                for item in (*attempt.batch, *lane.queue):
                    item.settle(None)

    def _fill(self, lane: _Lane) -> list[Item]:
        """Return the next batch."""
        queue = lane.queue
        if len(queue) == 1 and not queue[0].result.done():  # as it is, mostly
            return [queue.popleft()]
        batch, size = list[Item](), 0
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
        self._obsolete[topic] = seq
        if not self._purging:
            self._purging = True
            self._spawn(self._purge_all(log))

    async def _purge_all(self, log: Log) -> None:
        """Purge one topic after the other, and leave as much time to those who publish: meanwhile JetStream stores
        nothing, for some milliseconds where the stream has many messages."""
        try:
            while self._obsolete:
                began = self._loop.time()
                await self._purge(log, *self._obsolete.popitem())
                await asyncio.sleep(self._loop.time() - began)
        finally:
            self._purging = False

    async def _purge(self, log: Log, topic: str, seq: int) -> None:
        try:
            await log.purge(topic, seq)
        except (LinkLost, Unavailable):
            pass  # the next purge covers it
        except Answered as error:
            logger.warning("Topics: the log of the topic %r can't be purged: %s", topic, error)
