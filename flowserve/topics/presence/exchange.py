"""Follows who is there, in this process and in the others.

Theory of operation. Each process is the authority for its own connections (`roster`), and tells the others of them in
one topic that no user can reach (`CONTROL`), of those topics alone that somebody follows: a process follows a topic
while it is asked for it, or has subscribers to its changes, and says so. The others answer with all that they have of
the topic, and then tell at most once an interval what has changed; a process that follows or is followed, and has
nothing to say, sends a heartbeat. One that is not heard of for `Limits.expiry` is dropped, with its members; where the
backplane notices the end of a process, it tells the others for it.

Messages are numbered (`protocol`): where one is missing, its sender is asked for all anew. After the backplane was
lost, all are. Nothing is published, but once when the first member joins, until somebody asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Protocol

from flowserve.errors import TopicsError
from flowserve.topics.backplane import Backplane
from flowserve.topics.message import Kind, Message
from flowserve.topics.names import CONTROL
from flowserve.topics.position import Place
from flowserve.topics.presence.limits import Limits
from flowserve.topics.presence.outgoing import Outgoing
from flowserve.topics.presence.peers import Note, Peer, Peers, Replica
from flowserve.topics.presence.protocol import ALL, Packet, decode, encode
from flowserve.topics.presence.roster import Roster
from flowserve.topics.settings import Retention

_RETENTION = Retention(0, 0, 60.0)
_LAST_WORD = 0.5
"""Seconds that the last message may take."""


class ExchangeHost(Protocol):
    """What an exchange asks of its hub."""

    async def open(self) -> None:
        """Open the backplane, unless it is."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run in a task of its own, and return that."""

    def subscribers(self, topic: str) -> int:
        """Return how many a topic that is followed has in this process."""


class Watch:
    """A topic that is followed."""

    __slots__ = ("begun_at", "number", "used_at")

    def __init__(self, now: float) -> None:
        self.begun_at = self.used_at = now
        self.number: int | None = None  # of the message that said so, once it was made


class Exchange:
    """What one process and the others tell each other."""

    def __init__(
        self,
        name: str,
        backplane: Backplane,
        host: ExchangeHost,
        limits: Limits,
        roster: Roster,
        pinned: Container[str],
        note: Note,
    ) -> None:
        """`name` is that of this process, `roster` its own members. Topics in `pinned` are followed as long as they are
        in it. `note` is told of members elsewhere before they change."""
        self.sent = 0
        """Messages to other processes."""
        self.heard = 0
        """Messages of other processes."""
        self._limits = limits
        self._name = name
        self._backplane = backplane
        self._host = host
        self._roster = roster
        self._pinned = pinned
        self._outgoing = Outgoing(name, limits, roster, host.subscribers)
        self._peers = Peers(limits, self._outgoing, note)
        self._watches: dict[str, Watch] = {}  # the one that was used last is last
        self._listening = False
        self._closed = False
        self._head: Place | None = None  # of what is heard
        self._greeted = False
        self._greeted_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._sending: asyncio.Task[None] | None = None
        self._sent_at = self._checked_at = 0.0
        self._progress = asyncio.Event()

    # Following

    async def follow(self, topic: str) -> None:
        """Follow a topic, and wait until those processes that are known have said how it is, but not for long."""
        await self.listen()
        if not self._listening:
            return
        now = self._now()
        watch = self._watches.pop(topic, None)
        if watch is None:
            self._make_room()
            watch = Watch(now)
            self._outgoing.watch.add(topic)
            if not self._watches:
                self._greet()
            self._schedule()
        self._watches[topic] = watch
        watch.used_at = now
        deadline = watch.begun_at + self._limits.answer
        while not self._has_answers(watch) and self._backplane.connected and (left := deadline - self._now()) > 0:
            discovering = (self._greeted_at or 0.0) + self._limits.discovery - self._now()
            try:
                await asyncio.wait_for(self._progress.wait(), min(left, discovering) if discovering > 0 else left)
            except asyncio.TimeoutError:
                await asyncio.sleep(0)
                await asyncio.sleep(0)  # after a stalled loop, an answer may still lie unread in the socket

    def _has_answers(self, watch: Watch) -> bool:
        """Whether all that are known have said how a topic is, and all are known that may be."""
        if watch.number is None or self._greeted_at is None:
            return False
        if self._now() < self._greeted_at + self._limits.discovery:
            return False
        return all(peer.answered >= watch.number and not peer.lagging for _, peer in self._peers)

    def _make_room(self) -> None:
        if len(self._watches) >= self._limits.watches:
            unused = next((topic for topic in self._watches if topic not in self._pinned), None)
            if unused is None:
                raise TopicsError(f"the presence of at most {self._limits.watches} topics can be followed")
            self._unfollow(unused)

    def _unfollow(self, topic: str) -> None:
        del self._watches[topic]
        self._outgoing.watch.discard(topic)
        self._outgoing.unwatch.add(topic)
        self._peers.forget(topic)

    def replicas(self, topic: str) -> list[Replica]:
        """Return what the others say of a topic that is followed."""
        return self._peers.replicas(topic)

    def knows_all(self, topic: str) -> bool:
        """Whether all others have said how a topic is."""
        if not self._listening:
            return True
        watch = self._watches.get(topic)
        return watch is not None and bool(self._backplane.connected) and self._has_answers(watch)

    # Telling

    def changed(self, topic: str, ids: Iterable[str]) -> None:
        """Have members of this process told, who have changed."""
        self._greet_once()
        if topic in self._peers.watched:
            self._outgoing.changed(topic, ids)
            self._schedule()

    async def listen(self) -> None:
        """Hear the other processes, if there may be any."""
        await self._host.open()
        if not self._listening and self._backplane.connected is not None:
            self._listening = True
            try:
                (self._head,) = await self._backplane.subscribe([CONTROL])
            except BaseException:
                self._listening = False
                raise
            publish_at_end = getattr(self._backplane, "publish_at_end", None)  # not all can
            if publish_at_end is not None:
                publish_at_end(CONTROL, encode(Packet(self._name, leaves=True)), _RETENTION)

    def _greet_once(self) -> None:
        if not self._greeted and self._listening:
            self._greet()
            self._schedule()

    def _greet(self) -> None:
        """Ask who is there."""
        self._greeted = True
        self._greeted_at = None
        self._outgoing.asks.add(ALL)
        self._outgoing.resets = True

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def _is_active(self) -> bool:
        return bool(self._watches or self._peers.watched)

    def _schedule(self) -> None:
        """Have `_turn()` called when something is due."""
        now, due = self._now(), []
        if self._peers or self._is_active:
            due.append(self._checked_at + self._limits.interval)
        if not self._outgoing.empty and (self._sending is None or self._sending.done()):
            due.append(self._sent_at + self._pause)
        if not due or self._closed:
            return
        when = max(now, min(due))
        if self._timer is not None:
            if self._due_at <= when:
                return
            self._timer.cancel()
        self._due_at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._turn)

    @property
    def _pause(self) -> float:
        return self._limits.prompt if self._outgoing.prompt else self._limits.interval

    def _turn(self) -> None:
        self._timer = None
        now = self._now()
        if now >= self._checked_at + self._limits.interval and (self._peers or self._is_active):
            self._check(now)
        if self._listening and (self._sending is None or self._sending.done()):
            if not self._outgoing.empty and now >= self._sent_at + self._pause:
                self._send(self._outgoing.take(self._watches), now)
            elif self._is_active and now >= self._sent_at + self._limits.heartbeat:
                self._send([self._outgoing.heartbeat()], now)
        self._schedule()

    def _check(self, now: float) -> None:
        """See which processes are dead, which are to be asked again, and what is not asked for any more."""
        late = now - self._checked_at - self._limits.interval
        self._checked_at = now
        for name, peer in [*self._peers]:
            if self._backplane.connected is False:
                peer.heard_at = now  # nobody could be heard
            elif late > self._limits.interval:
                peer.heard_at = min(now, peer.heard_at + late)  # nobody was, while this process did something else
            if now - peer.heard_at > self._limits.expiry:
                self._drop(name)
            elif self._peers.needs_all(peer) and now >= peer.asked_at + self._limits.interval:
                self._ask(name, peer, now)
        for topic, watch in [*self._watches.items()]:
            if topic in self._pinned:
                watch.used_at = now
            elif now > watch.used_at + self._limits.lease:
                self._unfollow(topic)
        self._outgoing.count(self._peers.watched)

    def _ask(self, name: str, peer: Peer, now: float) -> None:
        peer.lag()
        peer.asked_at = now
        peer.asked = self._outgoing.number + 1
        self._outgoing.asks.add(name)
        self._outgoing.resets = True
        self._schedule()

    def _send(self, packets: list[Packet], now: float) -> None:
        self._sent_at = now
        for watch in self._watches.values():
            if watch.number is None:
                watch.number = self._outgoing.number
        self._sending = self._host.spawn(self._publish([encode(each) for each in packets]))
        self._sending.add_done_callback(lambda _: self._schedule())

    async def _publish(self, messages: list[bytes]) -> None:
        for each in messages:
            self.sent += 1
            with suppress(TopicsError):  # the number of the next one shows it
                await self._backplane.publish(CONTROL, each, Kind.BINARY, None, "", _RETENTION)
        if self._greeted_at is None:
            self._greeted_at = self._now()
        self._wake()

    async def close(self) -> None:
        """Say that this process ends, so that nobody has to find out."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._is_active and self._backplane.connected:
            packet = self._outgoing.heartbeat()
            packet.leaves = True
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._publish([encode(packet)]), _LAST_WORD)

    # Hearing

    def received(self, message: Message) -> None:
        """Take a message of another process."""
        self._head = message.place
        packet = decode(message.data)
        if packet is None or packet.sender == self._name:
            return
        self.heard += 1
        peer = self._peers.get(packet.sender)
        if packet.leaves:
            self._drop(packet.sender)
            return
        now = self._now()
        if peer is None:
            number = packet.number - (not packet.says_nothing)
            peer = self._peers.add(packet.sender, Peer(number, now))
            if number > 0:
                peer.lag()
        peer.heard_at = now
        if peer.follow(packet.number, packet.says_nothing):
            self._take(peer, packet)
        if peer.lagging and now >= peer.asked_at + self._limits.interval:
            self._ask(packet.sender, peer, now)
        self._wake()
        self._schedule()

    def _take(self, peer: Peer, packet: Packet) -> None:
        self._peers.take(peer, packet.topics, self._watches)
        self._peers.take_watches(peer, packet)
        if self._name in packet.answers:
            peer.answer(packet.answers[self._name])
        asked = self._name in packet.asks or ALL in packet.asks
        if asked:
            self._outgoing.resets = True
            self._outgoing.whole(peer.watches)
        if packet.watch or asked:
            self._outgoing.answers[packet.sender] = packet.number

    def _drop(self, name: str) -> None:
        if self._peers.drop(name):
            self._wake()

    def restored(self, head: Place) -> None:
        """Note where `CONTROL` stands: if that is not at the last message that came, some were missed."""
        if head == self._head:
            return
        self._head = head
        if self._is_active or self._peers or self._roster:
            self._greet()
            for _, peer in self._peers:
                peer.lag()
                peer.asked, peer.asked_at = self._outgoing.number + 1, self._now()
            self._schedule()

    def _wake(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()
