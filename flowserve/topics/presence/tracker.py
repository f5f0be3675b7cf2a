"""Who is there: the members of this process, those of others as they say, and the changes for subscribers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from functools import partial
from heapq import nsmallest
from typing import Protocol

from flowserve.topics.backplane import Backplane
from flowserve.topics.counts import TopicCounts
from flowserve.topics.message import Message
from flowserve.topics.names import ChangesName, counted_name
from flowserve.topics.position import Place
from flowserve.topics.presence.changes import Changes
from flowserve.topics.presence.entries import Entry, Presence, PresenceMember, merged
from flowserve.topics.presence.exchange import Exchange, ExchangeHost
from flowserve.topics.presence.limits import limits
from flowserve.topics.presence.roster import Roster
from flowserve.topics.settings import Settings


class TrackerHost(ExchangeHost, Protocol):
    """What a tracker asks of its hub."""

    settings: Settings

    def counts_of(self, topic: str) -> TopicCounts:
        """Return where a topic counts."""

    def deliver_changes(self, name: ChangesName, message: Message) -> None:
        """Deliver changes."""


class Tracker:
    """The presence of one hub."""

    def __init__(self, name: str, backplane: Backplane, host: TrackerHost) -> None:
        """`name` is that of this process."""
        self.roster = Roster()
        self._limits = limits
        self._backplane = backplane
        self._host = host
        self._changes: dict[str, Changes] = {}
        self._delivered_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.exchange = Exchange(name, backplane, host, limits, self.roster, self._changes, self._note)

    async def close(self) -> None:
        """Stop, and tell the others."""
        if self._timer is not None:
            self._timer.cancel()
        await self.exchange.close()

    # For the hub: subscriptions to changes look like those of a backplane

    async def subscribe(self, names: Sequence[str]) -> list[Place]:
        """As the backplane's, and to changes. Subscribes to all, or, if it raises, to none."""
        try:
            return await self._subscribe(names)
        except BaseException:
            self.unsubscribe(names)
            raise

    async def _subscribe(self, names: Sequence[str]) -> list[Place]:
        await self.exchange.listen()
        topics = [name for name in names if not isinstance(name, ChangesName)]
        heads = iter(await self._backplane.subscribe(topics) if topics else ())
        places = []
        for name in names:
            if isinstance(name, ChangesName):
                await self.exchange.follow(name.topic)
                listing = partial(self._listing, name.topic)
                changes = self._changes[name.topic] = Changes(name.topic, self._host.settings.max_size, listing)
                places.append(changes.place)
            else:
                places.append(next(heads))
        return places

    def all_members(self, name: ChangesName) -> Message:
        """Return what those are told who begin to get changes."""
        return self._changes[name.topic].all()

    def unsubscribe(self, names: Sequence[str]) -> None:
        """As the backplane's, and from changes."""
        topics = [name for name in names if not isinstance(name, ChangesName)]
        if topics:
            self._backplane.unsubscribe(topics)
        for name in names:
            if isinstance(name, ChangesName):
                self._changes.pop(name.topic, None)

    # Members of this process

    def join(self, topic: str, connection: object, id: str, info: str, now: float) -> None:
        """Have a connection be a member. `now` is in seconds since the epoch."""
        before, counts = self.roster.id_of(topic, connection), self._host.counts_of(topic)
        if before == id:
            counts.updated += 1
        else:
            counts.joined += 1
            counts.left += before is not None
        ids = {id, before or id}
        self._note(topic, ids)
        self.roster.join(topic, connection, id, info, now)
        self.exchange.changed(topic, ids)

    def leave(self, topic: str, connection: object) -> None:
        """Have a connection be a member no more, if it is one."""
        id = self.roster.id_of(topic, connection)
        if id is not None:
            self._note(topic, (id,))
            self.roster.leave(topic, connection)
            self._host.counts_of(topic).left += 1
            self.exchange.changed(topic, (id,))

    def _note(self, topic: str, ids: Iterable[str]) -> None:
        """Remember members of a topic as they are before they change, for its subscribers."""
        changes = self._changes.get(topic)
        if changes is not None:
            for id in ids:
                if id not in changes.before:
                    changes.before[id] = self._entry(topic, id)
            if changes.before and self._timer is None:
                loop = asyncio.get_running_loop()
                when = max(loop.time(), self._delivered_at + self._limits.interval)
                self._timer = loop.call_at(when, self._deliver_changes)

    # Asking

    async def presence(self, topic: str) -> Presence:
        """Return who is in a topic."""
        await self.exchange.follow(topic)
        entries, complete = self._listing(topic)
        connections = self._connections(topic)
        members = (PresenceMember(id, json.loads(each.info), each.since, each.connections) for id, each in entries)
        return Presence(tuple(members), complete, connections)

    async def count(self, topic: str) -> int:
        """Return how many subscribers a topic has."""
        name = counted_name(topic)  # so that nobody sends lists
        await self.exchange.follow(name)
        return self._host.subscribers(topic) + sum(each.subscribers for each in self.exchange.replicas(name))

    def _entry(self, topic: str, id: str) -> Entry | None:
        known = (self.roster.entry(topic, id), *(each.entries.get(id) for each in self.exchange.replicas(topic)))
        return merged(each for each in known if each is not None)

    def _connections(self, topic: str) -> int:
        elsewhere = sum(each.connections for each in self.exchange.replicas(topic))
        return self.roster.connections(topic) + elsewhere

    def _listing(self, topic: str) -> tuple[list[tuple[str, Entry]], bool]:
        """Return the members of a topic that can be listed, and whether these are all."""
        most = self._limits.listed
        found: dict[str, Entry] = dict(self.roster.entries(topic, most))
        for replica in self.exchange.replicas(topic):
            for id, entry in replica.entries.items():
                other = found.get(id)
                found[id] = entry if other is None else merged((other, entry)) or entry
        entries = nsmallest(most, found.items(), key=lambda item: item[1].since)
        listed = sum(entry.connections for _, entry in entries)
        return entries, listed == self._connections(topic) and self.exchange.knows_all(topic)

    def _deliver_changes(self) -> None:
        self._timer = None
        self._delivered_at = asyncio.get_running_loop().time()
        for topic, changes in [*self._changes.items()]:
            for message in changes.take(partial(self._entry, topic)):
                self._host.deliver_changes(ChangesName.of(topic), message)
