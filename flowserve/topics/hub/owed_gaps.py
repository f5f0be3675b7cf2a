"""Gaps that a process owes: those of topics in which messages reached it alone, while the backplane was away.

Theory of operation. Who is subscribed elsewhere has missed these messages, and nothing would show it, as they have no
place. So a marker is published in each of these topics once the backplane is back: a message of Kind.GAP, with a place
as any other. Whoever comes by it, live or in the history, is told of a gap there; so are the subscribers of this
process, as others may have published on their own, too. It precedes what this process publishes in the topic next, and
has a key, so that it is published once, however often that has to be tried. As long as it can't have been published
yet, what else is delivered in this process alone needs no other one, through however many outages.

A supervisor is told what each of its workers owes. What one owed that has ended, another one owes then, with the same
key: the marker may be on its way already, as in a connection to a backplane that stands still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import count
from typing import Any

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.backplane import Backplane
from flowserve.topics.message import Kind
from flowserve.topics.settings import Retention

_INTERVAL = 0.25
"""Seconds between looks whether the backplane is back."""
_AT_ONCE = 256
"""Markers that are published at once."""
_LAST = 1.0
"""Seconds that `close()` takes at most."""


Report = Callable[[str, "Retention | None", str], None]
"""Takes a topic whose gap is owed, what is kept of it, None once the gap is told, and the key of the marker."""


class _Owed:
    """A gap of one topic."""

    __slots__ = ("attempts", "key", "retention")

    def __init__(self, key: str, retention: Retention, attempts: int) -> None:
        self.key = key
        self.retention = retention
        self.attempts = attempts  # to publish the marker, but for those that are known to have failed


class OwedGaps:
    """Those of one hub."""

    def __init__(
        self, backplane: Backplane, name: str, most: int, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        """`name` is that of the hub, unlike all others; `most` how many topics are remembered; `spawn()` runs a task
        of the hub."""
        self._backplane = backplane
        self._name = name
        self._most = most
        self._spawn = spawn
        self._owed: dict[str, _Owed] = {}
        self._numbers = count(1)
        self._waiting = False  # for the backplane
        self._report: Report | None = None

    def __contains__(self, topic: str) -> bool:
        return topic in self._owed

    def admits(self, topic: str) -> bool:
        """Whether the gap of a topic can be remembered."""
        return topic in self._owed or len(self._owed) < self._most

    def add(self, topic: str, retention: Retention, key: str | None = None) -> None:
        """Note that a message with this retention was delivered in one process alone: this one; or one that ended, of
        whose marker `key` is the key."""
        owed = self._owed.get(topic)
        if owed is not None and not owed.attempts:  # the marker is yet to come, behind this message
            if owed.retention != retention:
                owed.retention = retention
                self._tell_supervisor(topic, owed)
            return
        if key is None or owed is not None:  # what this process owes itself would be told by a key of its own alone
            owed = _Owed(f"{self._name}.{next(self._numbers)}", retention, 0)
        else:
            owed = _Owed(key, retention, 1)
        self._owed[topic] = owed
        self._tell_supervisor(topic, owed)
        if not self._waiting:
            self._waiting = True
            self._spawn(self._wait())

    async def tell(self, topic: str) -> None:
        """Publish the marker of a topic; if that fails, the gap stays owed."""
        owed = self._owed.get(topic)
        if owed is None:
            return
        owed.attempts += 1
        try:
            place = await self._backplane.publish(topic, b"", Kind.GAP, owed.key, "", owed.retention)
        except TopicsError as error:
            logger.debug("Topics: the gap in the topic %r can't be told yet: %s", topic, error)
            return
        if place is None:
            owed.attempts -= 1
        elif self._owed.get(topic) is owed:  # else there is another gap since
            del self._owed[topic]
            self._tell_supervisor(topic, owed, told=True)

    def report_to(self, report: Report | None) -> None:
        """Have a supervisor told what is owed, now and from now on; None: not any more."""
        self._report = report
        for topic, owed in self._owed.items():
            self._tell_supervisor(topic, owed)

    def _tell_supervisor(self, topic: str, owed: _Owed, told: bool = False) -> None:
        if self._report is not None:
            self._report(topic, None if told else owed.retention, owed.key)

    async def _wait(self) -> None:
        try:
            while self._owed:
                await asyncio.sleep(_INTERVAL)
                await self._tell_all()
        finally:
            self._waiting = False

    async def _tell_all(self) -> None:
        topics = list(self._owed)
        for start in range(0, len(topics), _AT_ONCE):
            if not self._backplane.connected:
                return
            await asyncio.gather(*(self.tell(topic) for topic in topics[start : start + _AT_ONCE]))

    async def close(self) -> None:
        """Publish what is still owed, if that is possible now. The log says if nobody will."""
        if self._owed:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._tell_all(), _LAST)
        if self._owed and self._report is None:
            log_untold(len(self._owed))


def log_untold(topics: int) -> None:
    """Log that the gaps of so many topics are told by nobody."""
    logger.warning(
        "Topics: what one process alone has got in %d topics while the others could not be reached is missing there,"
        " and nobody is told",
        topics,
    )
