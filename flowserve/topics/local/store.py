"""Logs of topics in memory: offsets, history and keys."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from flowserve.topics.backplane import Reading
from flowserve.topics.message import OVERHEAD, Kind, Message
from flowserve.topics.position import BEGINNING, Place, new_check, new_epoch
from flowserve.topics.settings import MIN_KEY_AGE, Retention, Settings

_MIN_KEYS = 100
"""Keys that are remembered of a topic, even with a shorter history."""
_BUDGET = 100
"""Messages and topics that one call of `expire()` forgets at most."""
_GRAIN = 0.5
"""Seconds that a topic is left alone after it was looked at."""
_TURN, _LONGEST_TURN = 0.01, 5.0
"""Seconds between two turns of a sweep: while more is due, and at most."""
_STALE = 1000
"""Plans of logs that are no more, or were planned anew, which may be kept whatever the number of logs."""


class _Log:
    """The log of one topic."""

    __slots__ = ("due", "head", "keys", "messages", "published_at", "retention", "size", "start")

    def __init__(self, retention: Retention, start: Place) -> None:
        self.retention = retention
        self.head = self.start = start
        self.messages: deque[Message] = deque()  # those after `start`, without holes
        self.size = 0  # bytes in them
        self.keys: OrderedDict[str, Place] | None = None
        self.published_at = 0.0  # the last message, kept or not
        self.due: float | None = None  # when it is looked at for what is too old

    @property
    def expires_at(self) -> float | None:
        """When the first of what is kept is too old; None if nothing is kept."""
        if self.messages:
            return self.messages[0].published_at + self.retention.age
        return None if self.keys is None else self.published_at + max(self.retention.age, MIN_KEY_AGE)

    def drop_first(self) -> int:
        """Drop the first message; return the bytes of memory that it took."""
        message = self.messages.popleft()
        assert message.place is not None
        self.start = message.place
        self.size -= len(message.data)
        return len(message.data) + OVERHEAD


class Store:
    """The logs of all topics to which something was published.

    All others have one place, so that whoever subscribes to them, or reads them, leaves nothing behind. It changes when
    a log is forgotten, whose topic then gets that place too, with another epoch than it had.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns the seconds since the epoch."""
        self._settings = settings
        self._clock = clock
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._without_log = _new_place()
        self._memory = 0  # bytes in them, with OVERHEAD
        self._plans: list[tuple[float, str]] = []  # a heap: when which log is due

    def head(self, topic: str) -> Place:
        """Return the place of the topic's last message."""
        log = self._used(topic)
        return self._without_log if log is None else log.head

    def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> tuple[Place, Message | None]:
        """Append a message; return its place, and the message, or None if its key was used before."""
        log = self._used(topic) or self._new_log(topic)
        log.retention = retention
        if key is not None and log.keys is not None and (known := log.keys.get(key)) is not None:
            return known, None
        place = Place(log.head.epoch, log.head.offset + 1, new_check())
        log.published_at = now = self._clock()
        message = Message(topic, data, kind, place, origin, now)
        log.head = place
        log.messages.append(message)
        log.size += len(data)
        self._memory += len(data) + OVERHEAD
        self._trim(log)
        if key is not None:
            self._remember(log, key, place)
        if log.due is None or log.due > now + retention.age:
            self._plan(topic, log, now)
        if self._plans and self._plans[0][0] <= now:
            self.expire()
        if self._memory > self._settings.max_memory:
            self._make_room()
        return place, message

    def read(self, topic: str, after: Place) -> Reading:
        """Return the messages after a place; see `Backplane.read()`."""
        log = self._used(topic)
        if log is None:
            place = self._without_log
            return Reading(after in (BEGINNING, place), (), place, place)
        self._trim(log)
        if after == BEGINNING:
            return Reading(not log.start.offset, tuple(log.messages), log.head, log.start)
        skipped = after.offset - log.start.offset
        if after.epoch != log.head.epoch or not 0 <= skipped <= len(log.messages):
            return Reading(False, tuple(log.messages), log.head, log.start)
        found = log.start if not skipped else log.messages[skipped - 1].place
        if found != after:
            return Reading(False, tuple(log.messages), log.head, log.start)
        return Reading(True, [*log.messages][skipped:], log.head, after)

    def expire(self) -> float | None:
        """Forget messages and keys that are too old, a bounded number of them. Return the seconds until more is to be
        forgotten, None if nothing is kept."""
        now, left = self._clock(), _BUDGET
        while left > 0 and self._plans and self._plans[0][0] <= now:
            due, topic = heappop(self._plans)
            left -= 1
            log = self._logs.get(topic)
            if log is None or log.due != due:
                continue
            log.due = None
            oldest = now - log.retention.age
            while left > 0 and log.messages and log.messages[0].published_at < oldest:
                self._memory -= log.drop_first()
                left -= 1
            if not log.messages and (log.expires_at or now) < now:
                log.keys = None
            self._plan(topic, log, now if left <= 0 else now + _GRAIN)
        return max(0.0, self._plans[0][0] - now) if self._plans else None

    def _make_room(self) -> None:
        """Forget the messages that would be too old first, until there is room."""
        emptied = []
        while self._memory > self._settings.max_memory and self._plans:
            due, topic = heappop(self._plans)
            log = self._logs.get(topic)
            if log is None or log.due != due:
                continue
            log.due = None
            while log.messages and self._memory > self._settings.max_memory:
                self._memory -= log.drop_first()
            emptied.append((topic, log))
        now = self._clock()
        for topic, log in emptied:  # one that has but keys does not come first again, the next time
            self._plan(topic, log, now if log.messages else now + MIN_KEY_AGE)

    def _plan(self, topic: str, log: _Log, earliest: float) -> None:
        """Have a log looked at when the first of what it keeps is too old, not before `earliest`."""
        expires_at = log.expires_at
        if expires_at is None:
            return
        due = max(expires_at, earliest)
        if log.due is not None and log.due <= due:
            return
        log.due = due
        heappush(self._plans, (due, topic))
        if len(self._plans) > 2 * len(self._logs) + _STALE:
            self._plans = [(each.due, name) for name, each in self._logs.items() if each.due is not None]
            heapify(self._plans)

    def _used(self, topic: str) -> _Log | None:
        """Return the log of a topic, which is the last one to be forgotten from now on."""
        log = self._logs.get(topic)
        if log is not None:
            self._logs.move_to_end(topic)
        return log

    def _new_log(self, topic: str) -> _Log:
        log = self._logs[topic] = _Log(self._settings.retention, self._without_log)
        if len(self._logs) > self._settings.max_topics:
            _, forgotten = self._logs.popitem(last=False)
            self._memory -= forgotten.size + OVERHEAD * len(forgotten.messages)
            self._without_log = _new_place()
        return log

    def _trim(self, log: _Log) -> None:
        limits = log.retention
        oldest = self._clock() - limits.age
        messages = log.messages
        while messages and (
            len(messages) > limits.messages or log.size > limits.size or messages[0].published_at < oldest
        ):
            self._memory -= log.drop_first()

    def _remember(self, log: _Log, key: str, place: Place) -> None:
        if log.keys is None:
            log.keys = OrderedDict()
        log.keys[key] = place
        if len(log.keys) > max(_MIN_KEYS, log.retention.messages):
            log.keys.popitem(last=False)


def _new_place() -> Place:
    return Place(new_epoch(), 0, new_check())


class Sweep:
    """Has a store forget what is too old, also where nothing more is published, by a timer of the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Go on until nothing is kept. Call this in the event loop when something was published."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LONGEST_TURN, self._turn)

    def _turn(self) -> None:
        self._timer = None
        left = self._store.expire()
        if left is not None:
            delay = min(max(left, _TURN), _LONGEST_TURN)
            self._timer = asyncio.get_running_loop().call_later(delay, self._turn)

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
