"""Changes of a topic's presence, as messages for those who are subscribed to them.

Theory of operation. What has changed is told at most once an interval, as one message: who has come, or has another
info ("joins"), and who has left ("leaves"). Whoever begins, or falls so far behind that nothing more is held for it, is
told all members instead ("members"), as if that were what a history has. So a client that replaces what it knows by the
latter and changes it by the former is always right, and no gaps are told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

from flowserve.topics.backplane import Reading
from flowserve.topics.counts import TopicCounts
from flowserve.topics.delivery.backlog import Backlog
from flowserve.topics.delivery.members import Member
from flowserve.topics.delivery.topic import Topic, TopicHost
from flowserve.topics.message import Gap, Kind, Message
from flowserve.topics.position import Place, new_epoch
from flowserve.topics.presence.entries import Entry

_SHORT = 16 << 10
"""Bytes of a message that costs little to make."""

Listing = Callable[[], tuple[list[tuple[str, Entry]], bool]]
"""Returns all members of a topic that can be listed, and whether these are all."""


class Changes:
    """The changes of one topic."""

    def __init__(self, topic: str, most: int, listing: Listing) -> None:
        """A message has `most` bytes, or those of one member."""
        self.place = Place(new_epoch(), 0, "")
        self.before: dict[str, Entry | None] = {}
        """Members that have changed since the last message, as they were then."""
        self._topic = topic
        self._most = most
        self._listing = listing
        self._all: Message | None = None

    def take(self, now: Callable[[str], Entry | None]) -> Iterator[Message]:
        """Yield the messages that tell what has changed until now, once. `now` returns a member as it is."""
        before, self.before = self.before, {}
        parts: list[tuple[str, str]] = []
        for id, old in before.items():
            new = now(id)
            if new is None:
                if old is not None:
                    parts.append(("leaves", json.dumps(id)))
            elif old is None or old.info != new.info:
                parts.append(("joins", _shown(id, new)))
        for chunk in _chunks(parts, self._most):
            lists = {name: ",".join(part for kind, part in chunk if kind == name) for name in ("joins", "leaves")}
            yield self._next(f'{{"joins":[{lists["joins"]}],"leaves":[{lists["leaves"]}]}}')

    def _next(self, data: str) -> Message:
        self._all = None
        self.place = self.place._replace(offset=self.place.offset + 1)
        return Message(self._topic, data.encode(), Kind.PRESENCE, self.place)

    def all(self) -> Message:
        """Return the message that tells all members. A long one is made once an interval, and not for each of those
        who come in a storm: what has changed since then is told next."""
        if self._all is None or (self.before and len(self._all.data) < _SHORT):
            entries, complete = self._listing()
            parts = [("members", _shown(id, entry)) for id, entry in entries]
            first = next(_chunks(parts, self._most), [])
            complete = complete and len(first) == len(parts)
            members = ",".join(part for _, part in first)
            data = f'{{"members":[{members}],"complete":{json.dumps(complete)}}}'
            self._all = Message(self._topic, data.encode(), Kind.PRESENCE, self.place)
        return self._all


def _shown(id: str, entry: Entry) -> str:
    return f'{{"id":{json.dumps(id)},"info":{entry.info},"since":{entry.since:.3f}}}'


def _chunks(parts: Iterable[tuple[str, str]], most: int) -> Iterator[list[tuple[str, str]]]:
    chunk: list[tuple[str, str]] = []
    size = 100
    for part in parts:
        length = len(part[1].encode()) + 1
        if chunk and size + length > most:
            yield chunk
            chunk, size = [], 100
        chunk.append(part)
        size += length
    if chunk:
        yield chunk


class ChangesTopic(Topic):
    """Delivers the changes of a topic's presence. What is not held for a slow subscriber is no gap."""

    __slots__ = ("_all_members",)

    def __init__(self, name: str, host: TopicHost, all_members: Callable[[], Message]) -> None:
        """`all_members` returns the message that tells them."""
        super().__init__(name, host, TopicCounts())
        self._all_members = all_members

    async def _reading(self, after: Place) -> Reading | None:
        message = self._all_members()
        assert message.place is not None
        return Reading(True, (message,), message.place, after)

    def _fall_behind(self, member: Member, message: Message) -> None:
        backlog = Backlog(self.place)  # nothing is dropped, whatever the subscriber's policy
        backlog.hold(message, self._host.settings.max_pending)
        self._leave_behind(member, backlog)

    def _give(self, member: Member, item: Message | Gap) -> bool:
        envelope = member.subscriber.envelope
        if isinstance(item, Gap) or (envelope is not None and item.wire(envelope) is None):
            return True  # the envelope has failed, which is logged
        return super()._give(member, item)
