"""What a process has yet to tell others of presence."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flowserve.topics.presence.limits import Limits
from flowserve.topics.presence.protocol import Packet, PacketBuilder
from flowserve.topics.presence.roster import Roster


class Outgoing:
    """Collects it, so that a storm of changes costs one message an interval."""

    def __init__(self, name: str, limits: Limits, roster: Roster, subscribers: Callable[[str], int]) -> None:
        """`subscribers` returns how many a topic has."""
        self.number = 0
        """Of the last message that said something."""
        self.resets = False
        """Whether all that is followed is to be said."""
        self.watch: set[str] = set()
        self.unwatch: set[str] = set()
        self.asks: set[str] = set()
        self.answers: dict[str, int] = {}
        self._name = name
        self._limits = limits
        self._roster = roster
        self._subscribers = subscribers
        self._changed: dict[str, set[str]] = {}
        self._whole: set[str] = set()
        self._counted: dict[str, int] = {}

    @property
    def prompt(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self.resets or self.watch or self.asks or self.answers)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to say."""
        return not (self.prompt or self.unwatch or self._changed or self._whole)

    def changed(self, topic: str, ids: Iterable[str]) -> None:
        """Have changes of members told."""
        self._changed.setdefault(topic, set()).update(ids)

    def whole(self, topics: Iterable[str]) -> None:
        """Have all of topics told."""
        self._whole.update(topics)

    def count(self, topics: Iterable[str]) -> None:
        """Have the numbers of subscribers told that are others than the last time."""
        for topic in topics:
            if self._counted.get(topic) != self._subscribers(topic):
                self.changed(topic, ())

    def forget(self, topic: str) -> None:
        """Tell nothing of a topic any more."""
        self._changed.pop(topic, None)
        self._whole.discard(topic)
        self._counted.pop(topic, None)

    def heartbeat(self) -> Packet:
        """Return what says nothing."""
        return Packet(sender=self._name, number=self.number)

    def take(self, watches: Iterable[str]) -> list[Packet]:
        """Return what there is to say, which is said with that. `watches` are all topics that are followed."""
        builder = PacketBuilder(self._limits.message)
        builder.watch(watches if self.resets else self.watch, self.resets)
        builder.unwatch(() if self.resets else self.unwatch)
        for topic in self._whole | self._changed.keys():
            whole = topic in self._whole
            ids = self._changed.get(topic, ())
            entries = (
                self._roster.entries(topic, self._limits.listed)
                if whole
                else ((id, self._roster.entry(topic, id)) for id in ids)
            )
            self._counted[topic] = subscribers = self._subscribers(topic)
            builder.state(topic, subscribers, self._roster.connections(topic), entries, whole)
        builder.last.asks, builder.last.answers = sorted(self.asks), self.answers
        for packet in builder.packets:
            self.number += 1
            packet.sender, packet.number = self._name, self.number
        self.resets, self.watch, self.unwatch, self.asks, self.answers = False, set(), set(), set(), {}
        self._changed, self._whole = {}, set()
        return builder.packets
