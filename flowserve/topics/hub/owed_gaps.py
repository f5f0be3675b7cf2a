"""Gaps that a process owes: those of topics in which messages reached it alone, while the backplane was away.

Theory of operation. Who is subscribed elsewhere has missed these messages, and nothing would show it, as they have no
place. So a marker is published in each of these topics once the backplane is back: a message of Kind.GAP, with a place
as any other. Whoever comes by it, live or in the history, is told of a gap there; so are the subscribers of this
process, as others may have published on their own, too. It precedes what this process publishes in the topic next, and
has a key, so that it is published once, however often that has to be tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

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


class _Owed(NamedTuple):
    """A gap of one topic."""

    key: str
    retention: Retention


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

    def __contains__(self, topic: str) -> bool:
        return topic in self._owed

    def admits(self, topic: str) -> bool:
        """Whether the gap of a topic can be remembered."""
        return topic in self._owed or len(self._owed) < self._most

    def add(self, topic: str, retention: Retention) -> None:
        """Note that a message with this retention was delivered in this process alone."""
        self._owed[topic] = _Owed(f"{self._name}.{next(self._numbers)}", retention)
        if not self._waiting:
            self._waiting = True
            self._spawn(self._wait())

    async def tell(self, topic: str) -> None:
        """Publish the marker of a topic; if that fails, the gap stays owed."""
        owed = self._owed.get(topic)
        if owed is None:
            return
        try:
            place = await self._backplane.publish(topic, b"", Kind.GAP, owed.key, "", owed.retention)
        except TopicsError as error:
            logger.debug("Topics: the gap in the topic %r can't be told yet: %s", topic, error)
            return
        if place is not None and self._owed.get(topic) is owed:  # else there is another gap since
            del self._owed[topic]

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
        """Publish what is still owed, if that is possible now."""
        if self._owed:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._tell_all(), _LAST)
        if self._owed:
            logger.warning(
                "Topics: what this process alone has got in %d topics while the others could not be reached is missing"
                " there, and nobody is told",
                len(self._owed),
            )
