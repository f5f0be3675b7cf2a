# cython: language_level=3, annotation_typing=False, binding=False
"""Who is subscribed to a topic.

Compiled for the memory that a subscription takes: there may be many more of them than connections.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from flowserve.session.fan_out import fan_out
from flowserve.session.session import Session
from flowserve.topics.counts import TopicCounts
from flowserve.topics.delivery.backlog import Backlog
from flowserve.topics.message import Envelope, Kind, Message
from flowserve.topics.position import Place


class Subscriber(ABC):
    """A connection, or another receiver of messages, which may be subscribed to several topics."""

    __slots__ = ("first",)

    session: Session | None
    """The session to which messages can be sent at once; None if there is none."""
    envelope: Envelope | None
    """What messages are sent in."""
    first: Member | None
    """Its subscriptions: each has the `next` one."""

    @property
    def members(self) -> list[Member]:
        """Its subscriptions."""
        members, member = [], self.first
        while member is not None:
            members.append(member)
            member = member.next
        return members

    def count(self) -> int:
        """Return how many subscriptions its owner has."""
        return len(self.members)

    def member(self, topic: str) -> Member | None:
        """Return its subscription to a topic, None if there is none."""
        member = self.first
        while member is not None and member.topic != topic:
            member = member.next
        return member

    def forget(self, member: Member) -> None:
        """Have one subscription less."""
        if self.first is member:
            self.first = member.next
        else:
            before = next(each for each in self.members if each.next is member)
            before.next = member.next
        if self.first is None:
            self.unused()

    def used(self) -> None:
        """Called before it has its first subscription."""
        return

    def unused(self) -> None:
        """Called when it has no subscription left. It may get others later."""
        return

    @property
    @abstractmethod
    def owner(self) -> object:
        """Whose connection it is: `publish(exclude=...)` compares it."""

    @property
    @abstractmethod
    def drops(self) -> bool:
        """Whether messages are dropped while it is slow, instead of being held or read from the history later."""

    @property
    @abstractmethod
    def conflates(self) -> bool:
        """Whether only the newest message is held while it is slow."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it takes nothing more."""

    @abstractmethod
    def deliver(self, message: Message, counts: TopicCounts) -> bool:
        """Take a message, and count that, or return False if that is not possible now."""

    @abstractmethod
    def tell_gap(self, topic: str, head: Place | None, counts: TopicCounts) -> bool:
        """Note, and count, that messages are missing; the next one comes after `head`, if that is known. Return False
        if that is not possible now."""

    @abstractmethod
    def fail(self) -> None:
        """Be closed, as `deliver()` or `tell_gap()` has raised, so that messages are missing."""

    @abstractmethod
    async def writable(self) -> None:
        """Wait until `deliver()` is possible. Raises ClientDisconnected if it never is again."""


class Member:
    """A subscription to one topic: live while `backlog` is None. Most are, so what is only of the others is in the
    group."""

    __slots__ = ("complete", "group", "index", "next", "subscriber")

    def __init__(self, subscriber: Subscriber, group: Group, index: int) -> None:
        """It is the subscriber's first one from now on."""
        if subscriber.first is None:
            subscriber.used()
        self.subscriber = subscriber
        self.group: Group | None = group  # None when it has ended
        self.index = index  # in the lists of the group
        self.complete = True  # it was told of no gap
        self.next = subscriber.first  # of the same subscriber
        subscriber.first = self

    @property
    def topic(self) -> str:
        """The name of the topic, empty when it has ended."""
        return "" if self.group is None else self.group.topic

    @property
    def backlog(self) -> Backlog | None:
        """What it is to get before it is live."""
        return None if self.group is None else self.group.backlogs.get(self)

    def fall_behind(self, backlog: Backlog) -> None:
        """Be behind from now on."""
        if self.group is not None:
            self.group.backlogs[self] = backlog
            self.group.sessions[self.index] = None

    def catch_up(self) -> None:
        """Be live again."""
        if self.group is not None:
            del self.group.backlogs[self]
            self.group.sessions[self.index] = self.subscriber.session


class Group:
    """The members of a topic with one envelope, in no order. `sessions` has those of live members that have one."""

    __slots__ = ("backlogs", "envelope", "members", "sessions", "topic")

    def __init__(self, topic: str, envelope: Envelope | None) -> None:
        self.topic = topic
        self.envelope = envelope
        self.members: list[Member] = []
        self.sessions: list[Session | None] = []
        self.backlogs: dict[Member, Backlog] = {}

    def add(self, subscriber: Subscriber, backlog: Backlog | None) -> Member:
        """Add a member, and return it."""
        member = Member(subscriber, self, len(self.members))
        self.members.append(member)
        self.sessions.append(subscriber.session)
        if backlog is not None:
            member.fall_behind(backlog)
        return member

    def remove(self, member: Member) -> None:
        """Remove a member; the last one takes its place."""
        index = member.index
        last, session = self.members.pop(), self.sessions.pop()
        if last is not member:
            self.members[index] = last
            self.sessions[index] = session
            last.index = index
        self.backlogs.pop(member, None)
        member.group = None

    def deliver(self, message: Message, excluded: object) -> list[Member]:
        """Send a message to all sessions, and return the members who have to be dealt with one by one."""
        members, sessions, kind = self.members, self.sessions, message.kind
        if kind == Kind.END or kind == Kind.GAP or (wire := message.wire(self.envelope)) is None:
            return members.copy()
        if excluded is None:
            return [members[other] for other in fan_out(sessions, wire)]
        without = [None if session is excluded else session for session in sessions]  # it may have several policies
        return [members[other] for other in fan_out(without, wire)]
