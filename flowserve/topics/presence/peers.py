"""Other processes, and what they have said."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flowserve.topics.presence.entries import Entry
from flowserve.topics.presence.protocol import Statement

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
