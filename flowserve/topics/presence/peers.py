"""Other processes, and what they have said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from flowserve.topics.presence.entries import Entry
from flowserve.topics.presence.limits import Limits
from flowserve.topics.presence.outgoing import Outgoing
from flowserve.topics.presence.protocol import Packet, Statement

Note = Callable[[str, Iterable[str]], None]
"""Is told of a topic and members who are about to change."""


class Replica:
    """What one process says of one topic."""

    __slots__ = ("connections", "entries", "shown", "stated", "subscribers")

    def __init__(self) -> None:
        self.subscribers = 0
        self.connections = 0
        self.entries: dict[str, Entry] = {}
        self.shown = 0  # connections of those in `entries`
        self.stated: set[str] | None = None  # who was in the statements since one that began

    def take(self, topic: str, statement: Statement, room: int, note: Note) -> None:
        """Take a statement, and at most `room` members more."""
        self.subscribers, self.connections = statement.subscribers, statement.connections
        if statement.begins:
            self.stated = set()
        for id, entry in statement.entries.items():
            if self.stated is not None:
                self.stated.add(id)
            if entry is None:
                self._drop(topic, id, note)
            elif id in self.entries or room > 0:
                room -= id not in self.entries
                note(topic, (id,))
                self._put(id, entry)
        if statement.ends and self.stated is not None:
            for id in self.entries.keys() - self.stated:
                self._drop(topic, id, note)
            self.stated = None

    def _drop(self, topic: str, id: str, note: Note) -> None:
        if id in self.entries:
            note(topic, (id,))
            self.shown -= self.entries.pop(id).connections

    def _put(self, id: str, entry: Entry) -> None:
        before = self.entries.get(id)
        self.shown += entry.connections - (0 if before is None else before.connections)
        self.entries[id] = entry


class Peer:
    """Another process."""

    __slots__ = ("answered", "asked", "asked_at", "heard_at", "lagging", "number", "topics", "watches")

    def __init__(self, number: int, now: float) -> None:
        self.number = number  # of its last message
        self.heard_at = now
        self.answered = 0  # the number of the last message of this process that it has answered
        self.lagging = False  # it has said what was not heard, and is to say all again
        self.asked: int | None = None  # the number of the message in which it was asked for that
        self.asked_at = 0.0
        self.watches: set[str] = set()
        self.topics: dict[str, Replica] = {}  # of those that this process follows

    def follow(self, number: int, says_nothing: bool) -> bool:
        """Note the number of a message. Return whether it is to be taken: one that was repeated is not."""
        due = self.number if says_nothing else self.number + 1
        if number < due:
            return says_nothing
        if number > due:
            self.lag()
        self.number = number
        return True

    def lag(self) -> None:
        """Note that something was not heard."""
        self.lagging = True
        self.asked = None

    def answer(self, number: int) -> None:
        """Note that a message of this process was answered."""
        self.answered = max(self.answered, number)
        if self.asked is not None and self.answered >= self.asked:
            self.lagging = False
            self.asked = None


class Peers:
    """All that are known, by their names. An iteration yields pairs of them."""

    def __init__(self, limits: Limits, outgoing: Outgoing, note: Note) -> None:
        """What they follow is told by `outgoing`; `note` is told of members before they change."""
        self.watched: Counter[str] = Counter()
        """How many of them follow a topic; those that none does are not in it."""
        self._limits = limits
        self._outgoing = outgoing
        self._note = note
        self._by_name: dict[str, Peer] = {}
        self._held = 0  # members

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[tuple[str, Peer]]:
        return iter(self._by_name.items())

    def get(self, name: str) -> Peer | None:
        """Return one, None if it is not known."""
        return self._by_name.get(name)

    def add(self, name: str, peer: Peer) -> Peer:
        """Know one more, and return it."""
        self._by_name[name] = peer
        return peer

    def drop(self, name: str) -> bool:
        """Forget one, with its members. Return whether it was known."""
        peer = self._by_name.get(name)
        if peer is None:
            return False
        for topic, replica in peer.topics.items():
            self._note(topic, replica.entries)
            self._held -= len(replica.entries)
        del self._by_name[name]
        self._unwatch(peer, [*peer.watches])
        return True

    # What they say

    def replicas(self, topic: str) -> list[Replica]:
        """Return what they say of a topic that is followed."""
        return [replica for peer in self._by_name.values() if (replica := peer.topics.get(topic)) is not None]

    def take(self, peer: Peer, statements: Mapping[str, Statement], followed: Container[str]) -> None:
        """Take what one says of those topics that are followed."""
        for topic, statement in statements.items():
            if topic in followed:
                replica = peer.topics.setdefault(topic, Replica())
                before = len(replica.entries)
                listed = sum(len(each.entries) for each in self.replicas(topic))
                room = min(self._limits.listed - listed, self._limits.held - self._held)
                replica.take(topic, statement, room, self._note)
                self._held += len(replica.entries) - before

    def needs_all(self, peer: Peer) -> bool:
        """Return whether one is to say all again: something was not heard, or there was no room, and now there is."""
        if peer.lagging:
            return True
        room = self._limits.listed // 2
        return self._held < self._limits.held // 2 and any(
            replica.shown < replica.connections <= room and replica.stated is None for replica in peer.topics.values()
        )

    def forget(self, topic: str) -> None:
        """Forget what they say of a topic, as it is not followed any more."""
        for peer in self._by_name.values():
            replica = peer.topics.pop(topic, None)
            if replica is not None:
                self._held -= len(replica.entries)

    # What they follow

    def take_watches(self, peer: Peer, packet: Packet) -> None:
        """Take which topics one follows."""
        dropped = set(packet.unwatch)
        if packet.resets:
            dropped |= peer.watches - set(packet.watch)
            new = set(packet.watch) - peer.watches
        else:
            new = set(packet.watch)
        self._unwatch(peer, dropped)
        self.watched.update(new - peer.watches)
        peer.watches |= new
        self._outgoing.whole(new)

    def _unwatch(self, peer: Peer, topics: Iterable[str]) -> None:
        for topic in [topic for topic in topics if topic in peer.watches]:
            peer.watches.discard(topic)
            self.watched[topic] -= 1
            if not self.watched[topic]:
                del self.watched[topic]
                self._outgoing.forget(topic)
