"""The backlog of a subscription that is behind: what it is to get before it is live."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import zip_longest

from flowserve.topics.backplane import Reading
from flowserve.topics.message import Gap, Kind, Message
from flowserve.topics.position import Place

HOLE = Gap("", None)
"""Stands in `Backlog.held` where messages have to be read from the history. There is at most one."""


class Backlog:
    """The messages that wait for one subscription, in order. `after` is the place of the last one it got."""

    __slots__ = ("after", "conflates", "drops", "excluded", "held", "lost", "resuming", "rounds", "size")

    def __init__(self, after: Place, *, resuming: bool = False, drops: bool = False, conflates: bool = False) -> None:
        self.after = after
        self.resuming = resuming  # it wants all from `after` on, or nothing of it
        self.drops = drops  # nothing is held, and nothing read
        self.conflates = conflates  # the newest message alone is held
        self.held: deque[Message | Gap] = deque((HOLE,)) if resuming else deque()
        self.size = 0  # bytes that the messages cost
        self.rounds = 0  # times that they were too many
        self.lost = False  # messages are lost that no history has
        self.excluded: set[str] | None = None  # the origins of messages that are not for it

    @property
    def has_hole(self) -> bool:
        """Whether the history has to be read before anything else is delivered."""
        return bool(self.held) and self.held[0] is HOLE

    def hold(self, message: Message, limit: int) -> int:
        """Hold a message. If all have more than `limit` bytes, leave them to the history. Return how many are lost, as
        they are dropped, or no history has them."""
        if self.drops:
            self.lost = True
            return 1
        if self.conflates:
            if message.kind != Kind.GAP:
                return self._replace(message)
            self.add_gap(Gap(message.topic, message.place))  # behind the newest message, which stays
            return 0
        self.held.append(message)
        self.size += message.cost
        if self.size <= limit:
            return 0
        lost = sum(isinstance(each, Message) and each.place is None for each in self.held)
        self.lost = self.lost or lost > 0
        self.held.clear()
        self.held.append(HOLE)
        self.size = 0
        self.rounds += 1
        return lost

    def _replace(self, message: Message) -> int:
        """Hold a message in the place of what is held. Return how many are lost."""
        lost = sum(isinstance(each, Message) for each in self.held)
        if lost:
            last = self.held[-1]
            self.held.clear()
            self.held.append(Gap(message.topic, last.place if isinstance(last, Message) else last.head))
            self.size = 0
        self.held.append(message)
        self.size += message.cost
        return lost

    def add_gap(self, gap: Gap) -> None:
        """Note that messages are missing between those that are held, and those to come."""
        last = self.held[-1] if self.held else None
        if isinstance(last, Gap) and last is not HOLE:
            self.held.pop()  # one gap instead of two
        self.held.append(gap)

    def exclude(self, message: Message) -> None:
        """Note that a message is not for this subscription, if it is read from the history."""
        if self.excluded is None:
            self.excluded = set()
        self.excluded.add(message.origin)

    def fill(self, topic: str, reading: Reading, rounds: int, limit: int) -> None:
        """Put what was read into the hole at the beginning, which was there in the round `rounds`. Behind `limit` bytes
        the hole stays: the rest is read again, when they are delivered."""
        self.resuming = False
        excluded = self.excluded or ()
        messages = _beginning(reading.messages, limit)
        if len(messages) == len(reading.messages) and self.rounds == rounds:
            self._close_hole(reading.head)
        # else what is held came after others that were left to the history meanwhile, so that the hole stays
        wanted = last_markers([each for each in messages if each.origin not in excluded])
        self.held.extendleft(reversed(wanted))
        if messages and not wanted:
            self.after = messages[-1].place or self.after
        if not reading.complete and not begins_with_gap(wanted):
            self.held.appendleft(Gap(topic, reading.start))
        self.size = sum(each.cost for each in self.held if isinstance(each, Message))
        if not reading.messages:
            self.after = reading.head

    def give_up(self, topic: str, place: Place) -> None:
        """Leave a gap, as the history can't be read; `place` is that of the last message that came."""
        self.resuming = False
        self._close_hole(self.after)
        if not self.held:
            self.after = place
        self.held.appendleft(Gap(topic, None))

    def _close_hole(self, place: Place) -> None:
        """Remove the hole, and what a reading up to `place` has: messages, and gaps that it fills. Messages of this
        machine alone are in no history, and stay."""
        self.held.popleft()
        kept: deque[Message | Gap] = deque()
        following: Place | None = None  # of the next message that has one
        while self.held:
            item = self.held.pop()
            if isinstance(item, Message):
                following = item.place or following
            if not _is_in(place, item, following):
                kept.appendleft(item)
        self.held = kept

    def taken(self) -> None:
        """The first of what is held was delivered."""
        item = self.held.popleft()
        if isinstance(item, Message):
            self.size -= item.cost
            self.after = item.place or self.after


def last_markers(messages: Sequence[Message]) -> list[Message]:
    """Return messages without those of Kind.GAP that another one follows directly: one gap instead of several."""
    pairs = zip_longest(messages, messages[1:])
    return [each for each, after in pairs if after is None or not each.kind == after.kind == Kind.GAP]


def begins_with_gap(messages: Sequence[Message]) -> bool:
    """Return whether the first of them tells a gap itself, so that one before it would be another."""
    return bool(messages) and messages[0].kind == Kind.GAP


def _beginning(messages: Sequence[Message], limit: int) -> Sequence[Message]:
    """Return the first messages, until they have more than `limit` bytes."""
    size = 0
    for number, message in enumerate(messages, 1):
        size += message.cost
        if size > limit:
            return messages[:number]
    return messages


def _is_in(head: Place, item: Message | Gap, following: Place | None) -> bool:
    """Whether a reading up to `head` has a message, or all that is missing in a gap before the one at `following`."""
    if isinstance(item, Message):
        return item.place is not None and item.place.epoch == head.epoch and item.place.offset <= head.offset
    if item.head is not None:
        return item.head == head or (item.head.epoch == head.epoch and item.head.offset < head.offset)
    return following is None or (following.epoch == head.epoch and following.offset - 1 <= head.offset)
