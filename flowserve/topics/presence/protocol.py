"""What processes tell each other of presence: messages in JSON.

Each process numbers its messages. One whose number is not the next shows that others were lost, so that the process is
asked for all anew. What a message says of members and counts is how they are, not how they have changed, so it can be
taken in whatever came before. One that says nothing is a heartbeat, and repeats the number of the one before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flowserve.topics.payload import STRICT, has_half_characters
from flowserve.topics.presence.entries import Entry
from flowserve.topics.presence.limits import limits

_MOST = 2**53
"""Up to here numbers of JSON are exact everywhere."""

VERSION = 1
"""Of what messages are or say; those of others are not understood."""

ALL = "*"
"""In `Packet.asks`: every process."""


@dataclass(slots=True)
class Statement:
    """What a process says of a topic."""

    subscribers: int
    connections: int
    """Of members."""
    entries: dict[str, Entry | None] = field(default_factory=dict)
    """By id; None for one who is not there any more."""
    begins: bool = False
    ends: bool = False
    """Who is in none of the statements from one that begins to one that ends is not there."""


@dataclass(slots=True)
class Packet:
    """One message between processes. What is empty is left out."""

    sender: str = ""
    number: int = 0
    leaves: bool = False
    """The sender ends."""
    resets: bool = False
    """`watch` has all topics that the sender follows from now on, instead of more of them."""
    watch: list[str] = field(default_factory=list)
    unwatch: list[str] = field(default_factory=list)
    asks: list[str] = field(default_factory=list)
    """The processes that are to say again what they follow, and how the topics are that the sender follows."""
    answers: dict[str, int] = field(default_factory=dict)
    """By process: the number of its last message that is answered with this one and those before."""
    topics: dict[str, Statement] = field(default_factory=dict)

    @property
    def says_nothing(self) -> bool:
        """Whether it is a heartbeat."""
        return not (self.resets or self.watch or self.unwatch or self.asks or self.answers or self.topics)


def encode(packet: Packet) -> bytes:
    """Return a message."""
    fields: dict[str, Any] = {"version": VERSION, "sender": packet.sender, "number": packet.number}
    for name in ("leaves", "resets", "watch", "unwatch", "asks", "answers"):
        if value := getattr(packet, name):
            fields[name] = value
    if packet.topics:
        fields["topics"] = {
            topic: [each.subscribers, each.connections, each.begins, each.ends, each.entries]
            for topic, each in packet.topics.items()
        }
    return json.dumps(fields, separators=(",", ":")).encode()


def decode(data: bytes) -> Packet | None:
    """Return what a message says; None if it is not understood."""
    try:
        fields = json.loads(data)
        if fields.pop("version") != VERSION:
            return None
        topics = {topic: _statement(*said) for topic, said in fields.pop("topics", {}).items()}
        packet = Packet(topics=topics, **fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return packet if _is_sound(packet) else None


def _statement(subscribers: Any, connections: Any, begins: Any, ends: Any, entries: Any) -> Statement:
    for id in entries:
        id.encode()  # those who show it will
    found = {id: None if entry is None else _entry(*entry) for id, entry in entries.items()}
    if not (_is_count(subscribers) and _is_count(connections) and {type(begins), type(ends)} == {bool}):
        raise ValueError("this is no statement")
    return Statement(subscribers, connections, found, begins, ends)


def _entry(info: Any, since: Any, updated: Any, connections: Any) -> Entry:
    """Return what is said of a member. `info` has to be JSON, as clients get it as it is."""
    if not (type(info) is str and _is_time(since) and _is_time(updated) and _is_count(connections)):
        raise ValueError("this is no entry")
    if len(info if info.isascii() else info.encode()) > limits.info:
        raise ValueError("the info is too long")
    if STRICT.raw_decode(info)[1] != len(info):
        raise ValueError("the info is more than a JSON value")
    if has_half_characters(info):
        raise ValueError("the info can't be written in UTF-8")
    return Entry(info, since, updated, connections)


def _is_sound(packet: Packet) -> bool:
    """Whether all fields have their types, but `topics`, which were read by themselves."""
    names = (packet.watch, packet.unwatch, packet.asks, [packet.sender])
    return (
        _is_count(packet.number)
        and {type(packet.leaves), type(packet.resets)} == {bool}
        and all(isinstance(some, list) and all(isinstance(each, str) for each in some) for some in names)
        and isinstance(packet.answers, dict)
        and all(map(_is_count, packet.answers.values()))
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _MOST  # which NaN is not


class PacketBuilder:
    """Divides what is to be said into messages of `most` bytes, roughly."""

    def __init__(self, most: int) -> None:
        self.packets = [Packet()]
        self._most = most
        self._size = 0

    @property
    def last(self) -> Packet:
        """The last message."""
        return self.packets[-1]

    def watch(self, topics: Iterable[str], resets: bool) -> None:
        """Say which topics are followed."""
        self.last.resets = resets
        for topic in topics:
            self._room(len(topic)).watch.append(topic)

    def unwatch(self, topics: Iterable[str]) -> None:
        """Say which topics are not followed any more."""
        for topic in topics:
            self._room(len(topic)).unwatch.append(topic)

    def state(
        self, topic: str, subscribers: int, connections: int, entries: Iterable[tuple[str, Entry | None]], whole: bool
    ) -> None:
        """Say how a topic is; `whole` says that nobody else is there."""
        packet = self._room(len(topic))
        statement = packet.topics[topic] = Statement(subscribers, connections, begins=whole)
        for id, entry in entries:
            room = self._room(len(id) + (0 if entry is None else len(entry.info)))
            if room is not packet:
                packet = room
                statement = packet.topics[topic] = Statement(subscribers, connections)
            statement.entries[id] = entry
        statement.ends = whole

    def _room(self, size: int) -> Packet:
        """Return a message that has room for `size` characters and what stands around them."""
        size += 64
        if self._size and self._size + size > self._most:
            self.packets.append(Packet())
            self._size = 0
        self._size += size
        return self.last
