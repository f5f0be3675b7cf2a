"""What is known of members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A member of a topic, as one process knows it or several do together. Times are in seconds since the epoch."""

    info: str
    """JSON."""
    since: float
    updated: float
    """When the info was given: the latest one counts."""
    connections: int


def merged(entries: Iterable[Entry]) -> Entry | None:
    """Return what entries of the same member say together; None if there are none."""
    found: Entry | None = None
    for each in entries:
        if found is None:
            found = each
        else:
            newest = each if each.updated > found.updated else found
            since = min(found.since, each.since)
            found = Entry(newest.info, since, newest.updated, found.connections + each.connections)
    return found


@dataclass(frozen=True, slots=True)
class PresenceMember:
    """A member of a topic: one or several connections that were subscribed with the same `member`."""

    id: str
    info: Any
    """What its latest subscription gave as info."""
    since: float
    """When the first of its connections came, in seconds since the epoch."""
    connections: int
    """How many there are."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Who is in a topic. It can be iterated over, and has a length."""

    members: tuple[PresenceMember, ...]
    """Those who came first are first."""
    complete: bool
    """Whether these are all: False if there are more than can be listed, or not all processes could be asked."""
    connections: int
    """All connections of members, those included that are not listed."""

    def __iter__(self) -> Iterator[PresenceMember]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, id: object) -> bool:
        return any(each.id == id for each in self.members)
