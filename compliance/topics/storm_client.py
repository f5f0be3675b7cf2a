"""Clients of a storm: subscribers without a connection, that look at every message that they get."""

from __future__ import annotations

from collections.abc import Mapping

from flowserve.topics.counts import TopicCounts
from flowserve.topics.delivery.members import Subscriber
from flowserve.topics.message import Message
from flowserve.topics.position import Place, parse


class StormClient(Subscriber):
    """Takes everything, and knows what comes next."""

    __slots__ = ("_last", "_wrong", "delivered", "envelope", "session", "topic")

    def __init__(self, topic: str) -> None:
        self.session = None
        self.envelope = None
        self.first = None
        self.topic = topic
        self.delivered = 0
        self._last = Place("", 0, "")
        self._wrong: list[str] | None = None

    def begin(self, position: str) -> None:
        """Note from where on messages come."""
        self._last = parse(position) or self._last

    @property
    def position(self) -> str:
        """Of the last message."""
        return self._last.position()

    def lacks(self, published: Mapping[str, int]) -> bool:
        """Return whether messages are still to come, given how many were published of each topic."""
        return self._last.offset != published[self.topic]

    def verdict(self, published: Mapping[str, int]) -> list[str]:
        """Return what went wrong."""
        missing = [f"{self.topic}: lost: got {self._last} last"] if self.lacks(published) else []
        return [*(self._wrong or ()), *missing]

    def _note(self, text: str) -> None:
        self._wrong = [*(self._wrong or ()), f"{self.topic}: {text}"]

    # As a Subscriber

    @property
    def owner(self) -> object:
        return self

    @property
    def drops(self) -> bool:
        return False

    @property
    def conflates(self) -> bool:
        return False

    @property
    def closed(self) -> bool:
        return False

    def deliver(self, message: Message, counts: TopicCounts) -> bool:
        place, last = message.place, self._last
        if place is None or place.epoch != last.epoch or place.offset != last.offset + 1:
            self._note(f"{place} came after {last}")
        self._last = place or last
        self.delivered += 1
        counts.delivered += 1
        return True

    def tell_gap(self, topic: str, head: Place | None, counts: TopicCounts) -> bool:
        self._note(f"a gap after {self._last}, up to {head}")
        self._last = head or self._last
        return True

    def fail(self) -> None:
        self._note("it failed")

    async def writable(self) -> None:
        return
