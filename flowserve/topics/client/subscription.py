"""One subscription of a client: what was received, and where it goes on."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from flowserve.topics.position import Position


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a topic."""

    topic: str
    position: Position
    """Empty, and so false, if it reached only the server's machine."""
    data: Any
    """str for a text message, bytes for a binary one, or else any value that JSON has."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Stands where messages of a topic are missing."""

    topic: str
    position: Position
    """Those that follow come after this one; empty if it is not known."""


@dataclass(frozen=True, slots=True)
class Member:
    """Who is in a topic."""

    id: str
    info: Any
    """Any JSON value."""
    since: float
    """Seconds since the epoch."""


class SubscriptionHost(Protocol):
    """What a subscription asks of its client."""

    def _begin(self, subscription: Subscription) -> None:
        """Subscribe, from where it is."""

    def _pause(self, subscription: Subscription) -> None:
        """Unsubscribe; it begins again from its last position."""

    def _leave(self, subscription: Subscription) -> None:
        """Unsubscribe, and forget it."""


class Subscription:
    """Iterates over what a topic delivers: Message, or Gap where some are missing. It ends with the client, and at the
    end of a stream, which raises TopicsError if the stream is not complete; it raises RequestRefused if the server
    does. `position` is that of the last item, to be kept as `since`."""

    def __init__(self, host: SubscriptionHost, topic: str, since: str | None, max_queue: int, presence: bool) -> None:
        self.topic = topic
        self.position: str | None = since
        self.present: dict[str, Member] = {}
        """Who is there by id, as the server has told last; nobody if it was not asked for."""
        self._host = host
        self._max_queue = max_queue
        self._presence = presence
        self._since = since  # that of the last one that was received
        self._items: deque[Message | Gap] = deque()
        self._paused = False  # unsubscribed until the queue is empty
        self._renewed = False  # a grant was asked for, and nothing has come since
        self._ended = False
        self._error: Exception | None = None
        self._arrival = asyncio.Event()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Message | Gap:
        while not self._items:
            if self._ended:
                error, self._error = self._error, None
                raise error or StopAsyncIteration
            if self._paused:
                self._paused = False
                self._host._begin(self)
            self._arrival.clear()
            await self._arrival.wait()
        item = self._items.popleft()
        self.position = item.position or self.position
        return item

    async def aclose(self) -> None:
        """End it: nothing more is received. What was can still be iterated over."""
        if not self._ended:
            self._host._leave(self)
            self._end(None)

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()

    def _put(self, item: Message | Gap) -> None:
        self._since = item.position or self._since
        self._renewed = False
        self._items.append(item)
        self._arrival.set()
        if len(self._items) >= self._max_queue:
            self._paused = True
            self._host._pause(self)

    def _meet(self, told: dict[str, Any]) -> None:
        """Take what the server tells of presence."""
        if "members" in told:
            self.present = {}
        for each in (*told.get("members", ()), *told.get("joins", ())):
            self.present[each["id"]] = Member(each["id"], each["info"], each["since"])
        for id in told.get("leaves", ()):
            self.present.pop(id, None)

    def _end(self, error: Exception | None) -> None:
        if not self._ended:
            self._ended, self._error = True, error
            self._arrival.set()
