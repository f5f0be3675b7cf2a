"""The members whose connections are in this process."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from flowserve.topics.presence.entries import Entry, merged


class _Joined:
    """One connection that is a member of one topic."""

    __slots__ = ("id", "info", "since", "updated")

    def __init__(self, id: str, info: str, since: float, updated: float) -> None:
        self.id = id
        self.info = info
        self.since = since
        self.updated = updated

    @property
    def entry(self) -> Entry:
        return Entry(self.info, self.since, self.updated, 1)


class _Members:
    """Those of one topic: by connection, and by their id, of which each has one or several connections."""

    __slots__ = ("by_connection", "by_id")

    def __init__(self) -> None:
        self.by_connection: dict[object, _Joined] = {}
        self.by_id: dict[str, _Joined | list[_Joined]] = {}

    def joined(self, id: str) -> list[_Joined]:
        found = self.by_id.get(id, [])
        return found if isinstance(found, list) else [found]

    def put(self, id: str, joined: list[_Joined]) -> None:
        if joined:
            self.by_id[id] = joined if len(joined) > 1 else joined[0]
        else:
            del self.by_id[id]


class Roster:
    """By topic, who is there. It is true while anybody is anywhere."""

    def __init__(self) -> None:
        self._topics: dict[str, _Members] = {}

    def __bool__(self) -> bool:
        return bool(self._topics)

    def __contains__(self, topic: object) -> bool:
        return topic in self._topics

    def id_of(self, topic: str, connection: object) -> str | None:
        """Return the id as which a connection has joined a topic."""
        members = self._topics.get(topic)
        joined = None if members is None else members.by_connection.get(connection)
        return None if joined is None else joined.id

    def join(self, topic: str, connection: object, id: str, info: str, now: float) -> None:
        """Have a connection be a member. One that is already gets another info, or becomes another member."""
        since = now
        members = self._topics.get(topic)
        if members is not None and (before := members.by_connection.get(connection)) is not None:
            since = before.since if before.id == id else now
            self.leave(topic, connection)
        members = self._topics.setdefault(topic, _Members())
        joined = members.by_connection[connection] = _Joined(id, info, since, now)
        known = members.joined(id)
        known.append(joined)
        members.put(id, known)

    def leave(self, topic: str, connection: object) -> None:
        """Have a connection that has joined a topic be no member any more."""
        members = self._topics[topic]
        gone = members.by_connection.pop(connection)
        members.put(gone.id, [each for each in members.joined(gone.id) if each is not gone])
        if not members.by_id:
            del self._topics[topic]

    def entry(self, topic: str, id: str) -> Entry | None:
        """Return what is known of a member."""
        members = self._topics.get(topic)
        return None if members is None else merged(each.entry for each in members.joined(id))

    def entries(self, topic: str, limit: int) -> Iterator[tuple[str, Entry]]:
        """Yield the members of a topic, `limit` of them at most."""
        members = self._topics.get(topic)
        for id in islice(members.by_id, limit) if members is not None else ():
            entry = self.entry(topic, id)
            if entry is not None:
                yield id, entry

    def connections(self, topic: str) -> int:
        """Return how many connections have joined a topic."""
        members = self._topics.get(topic)
        return 0 if members is None else len(members.by_connection)
