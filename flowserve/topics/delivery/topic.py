"""A topic in one process: who is subscribed, and how those who are behind catch up.

Theory of operation. The backplane passes on the messages of a topic in order. A subscription is a Member:

- live: each message is delivered as it comes.
- behind: the subscriber takes no more for now, or resumes from an earlier place. Messages are held for it, as
  references; when they are more than `max_pending` bytes, they are left to the history. `catch_up()` ends the state.

If a message does not follow the one before, or the backplane was lost, the topic itself is behind: `_repair()` reads
the history before anything else is delivered. Of what comes meanwhile, more than `max_pending` bytes are left to the
history, too. What the history does not have is a gap, of which each member is told; so is a message of the kind GAP,
live or from the history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol

from flowserve.errors import ClientDisconnected, TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.backplane import Reading
from flowserve.topics.counts import TopicCounts
from flowserve.topics.delivery.backlog import Backlog, begins_with_gap, last_markers
from flowserve.topics.delivery.members import Group, Member, Subscriber
from flowserve.topics.delivery.reads import SharedReads
from flowserve.topics.message import Envelope, Gap, Kind, Message
from flowserve.topics.position import BEGINNING, KEPT, Place
from flowserve.topics.settings import Settings

_RETRY_INTERVAL = 0.25
"""Seconds between attempts to read a history that can't be reached."""
_ATTEMPTS = 3
"""Attempts to read it while messages come from the same backplane; then they are passed on behind a gap."""


class TopicHost(Protocol):
    """What a topic asks of its hub."""

    settings: Settings
    excluded: dict[str, object]
    """By the origin of a message that is to come: the owner of subscribers that are not to get it."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run in a task of its own, and return that."""

    async def read(self, topic: str, after: Place) -> Reading:
        """See `Backplane.read()`."""


class Topic:
    """A topic with members. `place` is that of the last message that came."""

    __slots__ = (
        "_groups",
        "_host",
        "_reads",
        "_repaired",
        "_restored",
        "_waiting",
        "_waiting_lost",
        "_waiting_size",
        "counts",
        "joining",
        "name",
        "opening",
        "place",
    )

    def __init__(self, name: str, host: TopicHost, counts: TopicCounts) -> None:
        self.name = name
        self.counts = counts
        self.place: Place  # from `begin()` on
        self.opening: asyncio.Task[None] | None = None  # the backplane's subscription, until it is confirmed
        self.joining = 0  # calls that are about to add a member
        self._groups: dict[Envelope | None, Group] = {}
        self._host = host
        self._reads = SharedReads(self._read)
        self._waiting: list[Message] | None = []  # those that came while the topic itself is behind
        self._waiting_size = 0  # bytes that they cost
        self._waiting_lost = False  # some were left out that no history has
        self._restored: Place | None = None  # the head that `restored()` was told meanwhile
        self._repaired: asyncio.Task[None] | None = None  # the task of `_repair()`, while it runs

    def begin(self, head: Place) -> None:
        """Note that the backplane passes on all messages after `head`."""
        self.place = head
        self.opening = None
        self._take_waiting()

    # Members

    @property
    def is_behind(self) -> bool:
        """Whether the topic itself has to be repaired, so that its place is not to be relied on."""
        return self._waiting is not None

    @property
    def empty(self) -> bool:
        """Whether it has no members."""
        return not self._groups

    @property
    def subscribers(self) -> int:
        """How many members it has."""
        return sum(len(group.members) for group in self._groups.values())

    def add(self, subscriber: Subscriber, backlog: Backlog | None) -> Member:
        """Begin to deliver to a subscriber, which may be behind; return its subscription."""
        envelope = subscriber.envelope
        group = self._groups.get(envelope)
        if group is None:
            group = self._groups[envelope] = Group(self.name, envelope)
        self.counts.subscribers += 1
        return group.add(subscriber, backlog)

    def remove(self, member: Member) -> None:
        """End it."""
        group = member.group
        if group is not None:
            group.remove(member)
            self.counts.subscribers -= 1
            if not group.members:
                del self._groups[group.envelope]

    # Messages

    def received(self, message: Message) -> None:
        """Deliver a message, once those before it were delivered."""
        if self._waiting is not None:  # as it is until `begin()`, too: there is no place before
            self._hold(self._waiting, message)
            return
        place, last = message.place, self.place
        if place is None or (place.offset == last.offset + 1 and place.epoch == last.epoch):
            self._deliver(message)
        elif place.epoch != last.epoch or (place.offset >= last.offset and place != last):
            self._begin_repair([message])  # a hole, or a log that was rolled back and filled with others

    def _hold(self, waiting: list[Message], message: Message) -> None:
        """Have a message wait until the topic is repaired. If all have too many bytes, keep the last one that the
        history has, before which is a hole then."""
        waiting.append(message)
        self._waiting_size += message.cost
        if self._waiting_size <= self._host.settings.max_pending:
            return
        placed = [each for each in waiting if each.place is not None]
        if lost := len(waiting) - len(placed):
            self._waiting_lost = True
            self.counts.dropped += lost * self.subscribers
        self._wait_with(placed[-1:])

    def _wait_with(self, waiting: list[Message]) -> None:
        self._waiting = waiting
        self._waiting_size = sum(each.cost for each in waiting)

    def restored(self, head: Place) -> None:
        """Note that messages may have been missed, and where the topic stands."""
        if self._waiting is not None:
            self._restored = head  # what is being read may be older
            self._wait_with([each for each in self._waiting if each.place is None])  # the head covers the others
        elif head != self.place:
            self._begin_repair([])

    def _deliver(self, message: Message) -> None:
        excluded, counts = self._host.excluded.pop(message.origin, None), self.counts
        for group in tuple(self._groups.values()):
            others = group.deliver(message, excluded)
            counts.delivered += len(group.members) - len(others)
            for member in others:
                backlog = member.backlog
                if excluded is not None and member.subscriber.owner is excluded:
                    if backlog is not None:
                        backlog.exclude(message)
                elif backlog is not None:
                    counts.dropped += backlog.hold(message, self._host.settings.max_pending)
                elif not self._give(member, message):
                    self._fall_behind(member, message)
        if message.place is not None:
            self.place = message.place

    def _fall_behind(self, member: Member, message: Message) -> None:
        subscriber = member.subscriber
        backlog = Backlog(self.place, drops=subscriber.drops, conflates=subscriber.conflates)
        self.counts.dropped += backlog.hold(message, self._host.settings.max_pending)
        self._leave_behind(member, backlog)

    def _leave_behind(self, member: Member, backlog: Backlog) -> None:
        member.fall_behind(backlog)
        self._host.spawn(self._catch_up(member, backlog))

    # Catching up

    async def _catch_up(self, member: Member, backlog: Backlog) -> None:
        try:
            await self.catch_up(member, backlog)
        except ClientDisconnected:
            pass
        except Exception:  # it would wait for ever
            logger.exception("A subscriber of the topic %r can't catch up, and is closed", self.name)
            with suppress(Exception):
                member.subscriber.fail()

    async def catch_up(self, member: Member, backlog: Backlog) -> None:
        """Deliver what a member that is behind has missed, until it is live.

        A history that can't be read is a gap. Raises ClientDisconnected if the member's connection ends.
        """
        while True:
            await member.subscriber.writable()
            while self._repaired is not None and not self._repaired.done():
                await asyncio.wait({self._repaired})
            if backlog.has_hole and member.group is not None:
                await self._read_missing(backlog)
            if member.group is None:
                return
            while backlog.held and not backlog.has_hole and self._give(member, backlog.held[0]):
                backlog.taken()
            if not backlog.held and (not backlog.lost or self._give(member, Gap(self.name, self.place))):
                member.catch_up()
                return

    def _give(self, member: Member, item: Message | Gap) -> bool:
        """Have a member take a message or a gap, or return False if that is not possible now. A message of the kind GAP
        is one, and so is one that its envelope can't hold."""
        subscriber = member.subscriber
        try:
            if isinstance(item, Message):
                if item.kind != Kind.GAP and (
                    subscriber.envelope is None or item.wire(subscriber.envelope) is not None
                ):
                    return subscriber.deliver(item, self.counts)
                item = Gap(self.name, item.place)
            if not subscriber.tell_gap(self.name, item.head, self.counts):
                return False
        except Exception:  # the others are not to miss anything for it
            logger.exception("A subscriber of the topic %r failed, and is closed", self.name)
            with suppress(Exception):
                subscriber.fail()
        member.complete = False
        return True

    async def _read_missing(self, backlog: Backlog) -> None:
        """Fill the hole before what is held from the history, unless that has to be read again, when the topic is
        repaired."""
        rounds = backlog.rounds
        reading = await self._reading(BEGINNING if backlog.after == KEPT else backlog.after)
        if reading is not None and self._absorb(reading):
            return
        if reading is not None and backlog.after == KEPT:
            reading = reading._replace(complete=True)
        if reading is None and self._is_ahead(backlog.after) and backlog.after.epoch not in (BEGINNING.epoch, ""):
            # The member has had messages that this topic has not: going on from here, it would get them again.
            await asyncio.sleep(_RETRY_INTERVAL)
            return
        if reading is None:
            backlog.give_up(self.name, self.place)
            return
        if not reading.complete and backlog.resuming:
            reading = Reading(False, (), reading.head, reading.head)  # all or nothing
        backlog.fill(self.name, reading, rounds, self._host.settings.max_pending)

    def _absorb(self, reading: Reading) -> bool:
        """Deliver to all members what a reading has that the topic has not; it will come from the backplane as well, or
        was lost on its way. Return whether the topic has to be repaired first."""
        for message in reading.messages:
            self.received(message)
        if self._is_ahead(reading.head):
            if self._waiting is None:
                self._begin_repair([])
            self._restored = self._restored or reading.head
        return self._waiting is not None

    def _is_ahead(self, head: Place) -> bool:
        return head.epoch != self.place.epoch or head.offset > self.place.offset

    async def _reading(self, after: Place) -> Reading | None:
        """Return what the history has, None if it can't be reached."""
        try:
            return await self._reads.read(after, self.place.epoch)
        except TopicsError:
            return None

    async def _read(self, after: Place) -> Reading:
        return await self._host.read(self.name, after)

    def _begin_repair(self, waiting: list[Message]) -> None:
        self._wait_with(waiting)
        self._repaired = self._host.spawn(self._repair())

    async def _repair(self) -> None:
        reading = await self._reading_to_repair()
        if reading is not None:
            messages = last_markers(reading.messages)
            if not reading.complete and not begins_with_gap(messages):
                self._tell_all_of_gap(reading.start)
            for message in messages:
                self._deliver(message)
            self.place = reading.head
        elif any(each.place is not None for each in self._waiting or ()):
            self._tell_all_of_gap(None)
            self._skip()
        # else the backplane can't be reached: what is missing is read when it is, or before the next message
        self._repaired = None
        self._take_waiting()

    async def _reading_to_repair(self) -> Reading | None:
        """Return what the history has behind the last message that came, None if it can't be read."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_RETRY_INTERVAL)
            try:
                reading = await self._reading(self.place)
            except Exception:  # a defect of the backplane; the topic goes on behind a gap
                logger.exception("The history of the topic %r can't be read", self.name)
                return None
            if reading is not None:
                return reading
        return None

    def _tell_all_of_gap(self, head: Place | None) -> None:
        for group in tuple(self._groups.values()):
            for member in tuple(group.members):
                self._tell_gap(member, head)

    def _skip(self) -> None:
        """Go on with the first message that came behind a hole."""
        waiting = self._waiting or []
        while waiting and (first := waiting.pop(0)):
            if first.place is None:
                self._deliver(first)
            elif self._is_ahead(first.place):
                self._deliver(first)
                return

    def _take_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        restored, self._restored = self._restored, None
        if self._waiting_lost:
            self._waiting_lost = False
            self._tell_all_of_gap(self.place)
        if restored is not None and restored != self.place:
            # It may be older than this place, or that of a log that was rolled back; the next read shows which.
            self._begin_repair(waiting or [])
            return
        for message in waiting or ():
            self.received(message)

    def _tell_gap(self, member: Member, head: Place | None) -> None:
        if (backlog := member.backlog) is not None:
            backlog.add_gap(Gap(self.name, head))
        elif not self._give(member, Gap(self.name, head)):
            member.complete = False  # as it will be told
            backlog = Backlog(self.place)
            backlog.add_gap(Gap(self.name, head))
            self._leave_behind(member, backlog)
