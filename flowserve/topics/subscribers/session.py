"""A WebSocket as a subscriber: published messages are written by its session, without waking the application."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Literal
from weakref import WeakValueDictionary

from flowserve.errors import ClientDisconnected
from flowserve.topics.counts import TopicCounts
from flowserve.topics.delivery.members import Subscriber
from flowserve.topics.message import Envelope, Kind, Message, gap_wire
from flowserve.topics.position import Place, Position
from flowserve.websocket.constants import CloseCode, State

if TYPE_CHECKING:
    from flowserve.session.monitor import Monitor
    from flowserve.session.session import Session
    from flowserve.topics.hub.hub import Hub

_OPEN = int(State.OPEN)
_POLL = 0.01  # seconds between looks at what nobody tells of

Policy = Literal["wait", "close", "drop", "conflate"]


class SessionSubscriber(Subscriber):
    """A `Subscriber`, and the session's Monitor, which passes everything on to the one before."""

    __slots__ = ("__weakref__", "_hub", "envelope", "monitor", "policy", "session")
    session: Session

    def __init__(self, session: Session, envelope: Envelope | None, policy: Policy | None, hub: Hub) -> None:
        """`hub` is told when the connection is lost."""
        self.session = session
        self.envelope = envelope
        self.policy = policy  # that was asked for
        self.first = None
        self._hub = hub
        self.monitor: Monitor | None = None  # the one before
        _unused[self._key] = self

    # What follows from other attributes is no attribute: there is one of these for each connection.

    @property
    def owner(self) -> object:
        return self.session

    def count(self) -> int:
        return sum(len(each.members) for each in subscribers(self.session))

    @property
    def drops(self) -> bool:
        return self._policy == "drop"

    @property
    def conflates(self) -> bool:
        return self._policy == "conflate"

    @property
    def _policy(self) -> str:
        return self.policy or self.session.context.config.ws_slow_consumer

    @property
    def _max_pending(self) -> int:
        config = self.session.context.config
        most = self._hub.settings.max_pending if self._policy == "wait" else config.ws_slow_consumer_mark
        if config.ws_slow_consumer == "drop":  # from half of the mark on, the session may drop what it is given
            return min(most, max(config.ws_slow_consumer_mark // 2 - 1, 0))
        return most

    @property
    def closed(self) -> bool:
        return self.session.lost or self.session.connection.state != _OPEN

    def deliver(self, message: Message, counts: TopicCounts) -> bool:
        session = self.session
        if session.lost or session.connection.state != _OPEN or (message.kind == Kind.END and self.envelope is None):
            return True  # it ends, and gets nothing more; or there is nothing to write
        if not self._accepts(session):
            return False
        wire = message.wire(self.envelope)
        assert wire is not None  # the topic makes a gap of that
        with suppress(ClientDisconnected):
            wire.send_to(session)
            counts.delivered += 1
        return True

    def _accepts(self, session: Session) -> bool:
        if session.connection.fragmenting or session.busy:
            return False
        if session.connection.output_size + session.stream.buffered() <= self._max_pending:
            return True
        if self._policy == "close":
            self._close(session.context.config.ws_slow_consumer_code, "too slow")
            return True
        return False

    def tell_gap(self, topic: str, head: Place | None, counts: TopicCounts) -> bool:
        session = self.session
        if self.closed:
            return True
        if hasattr(self.envelope, "gap") and (session.connection.fragmenting or session.busy):
            return False
        wire = gap_wire(self.envelope, topic, Position() if head is None else head.position())
        if wire is not None:
            with suppress(ClientDisconnected):
                wire.send_to(session)
        elif not (self.drops or self.conflates):
            self.fail()
        counts.gaps += 1
        return True

    def fail(self) -> None:
        self._close(int(CloseCode.TRY_AGAIN_LATER), "messages were lost")

    def _close(self, code: int, reason: str) -> None:
        self.session.connection.discard_output()
        self.session.close(code, reason)

    async def writable(self) -> None:
        session = self.session
        while not self.closed:
            if session.busy:
                await session.join()
            elif session.connection.fragmenting:
                await asyncio.sleep(_POLL)
            elif session.stream.write_paused:
                await session.stream.drain()
            elif not self._accepts(session):  # what is queued is written at the end of this iteration
                await asyncio.sleep(_POLL if session.stream.buffered() else 0)
            else:
                return
        raise ClientDisconnected("the WebSocket is closed")

    # As the session's Monitor, while it has subscriptions. All in a row are passed at once: there may be many.

    def used(self) -> None:
        if _unused.pop(self._key, None) is not None:
            self.monitor, self.session.monitor = self.session.monitor, self

    def unused(self) -> None:
        after: SessionSubscriber | None = None
        for each in subscribers(self.session):
            if each is self:
                if after is None:
                    self.session.monitor = self.monitor
                else:
                    after.monitor = self.monitor
                self.monitor = None
                _unused[self._key] = self
                return
            after = each

    @property
    def _key(self) -> _Key:
        return (id(self.session), self.envelope, self.policy)

    @property
    def _before(self) -> Monitor | None:
        """The first one before that is no subscriber."""
        monitor = self.monitor
        while isinstance(monitor, SessionSubscriber):
            monitor = monitor.monitor
        return monitor

    def _on_data(self) -> None:
        if (monitor := self._before) is not None:
            monitor._on_data()

    def _on_ping(self, payload: bytes) -> None:
        if (monitor := self._before) is not None:
            monitor._on_ping(payload)

    def _on_pong(self, payload: bytes) -> None:
        if (monitor := self._before) is not None:
            monitor._on_pong(payload)

    def _on_lost(self, exc: Exception | None) -> None:
        monitor: Monitor | None = self
        while isinstance(monitor, SessionSubscriber):
            lost, monitor = monitor, monitor.monitor
            lost.monitor = None
            lost._hub.ended(lost)
        if monitor is not None:
            monitor._on_lost(exc)


_Key = tuple[int, Envelope | None, Policy | None]

_unused: WeakValueDictionary[_Key, SessionSubscriber] = WeakValueDictionary()
"""Those without a subscription, for as long as a call of the application has them."""


def subscribers(session: Session) -> Iterator[SessionSubscriber]:
    """Yield those of a session that have subscriptions."""
    monitor = session.monitor
    while isinstance(monitor, SessionSubscriber):
        yield monitor
        monitor = monitor.monitor


def session_subscriber_of(
    session: Session, hub: Hub, envelope: Envelope | None, policy: Policy | None
) -> SessionSubscriber:
    """Return the subscriber for a session, which is made if there is none with this envelope and policy."""
    for known in subscribers(session):
        if known.envelope == envelope and known.policy == policy:  # methods are equal, but not identical
            return known
    unused = _unused.get((id(session), envelope, policy))
    return unused or SessionSubscriber(session, envelope, policy, hub)
