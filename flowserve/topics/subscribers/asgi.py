"""Subscribing a WebSocket of another server, or of a test client: its messages go through ASGI's send()."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from flowserve.errors import ClientDisconnected
from flowserve.logs.loggers import logger
from flowserve.topics.counts import TopicCounts
from flowserve.topics.delivery.members import Member
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.hub import Hub
from flowserve.topics.message import Envelope, Gap, Kind, Message, gap_wire
from flowserve.topics.names import ChangesName
from flowserve.topics.subscribers.session import Policy
from flowserve.websocket.constants import CloseCode

NOT_ACCEPTED = "accept the WebSocket before it is subscribed to topics, or excluded"

_by_websocket: WeakKeyDictionary[Any, WeakSet[ASGISubscriber]] = WeakKeyDictionary()
"""Those that a call of the application has, or that have subscriptions. They refer to their WebSockets."""


class ASGISubscriber(QueueSubscriber):
    """A `Subscriber` that awaits `websocket.send()` for each message, in a task that ends when there is none."""

    def __init__(self, websocket: Any, hub: Hub, envelope: Envelope | None, policy: Policy | None) -> None:
        super().__init__(hub.settings.max_pending, policy == "drop", policy == "conflate")
        self._websocket = websocket
        self.envelope = envelope
        self.policy = policy
        self._hub = hub
        self._reason = ""  # for which the WebSocket is closed
        self._is_sending = False
        self._caller: asyncio.Task[Any] | None = None  # the application's, while there are subscriptions

    def used(self) -> None:
        self._caller = asyncio.current_task()
        if self._caller is not None:  # where it ends, so does the WebSocket
            self._caller.add_done_callback(self._on_caller_done)

    def unused(self) -> None:
        if self._caller is not None:
            self._caller.remove_done_callback(self._on_caller_done)
            self._caller = None

    def forget(self, member: Member) -> None:
        """Also drop what waits of the topic, as nothing of it is to be sent behind what the application sends next."""
        name = member.topic
        super().forget(member)
        kept = [each for each in self._items if _name_of(each) != name]
        self._items = deque(kept)
        self._size = sum(each.cost for each in kept if isinstance(each, Message))
        self._wake_putters()

    def _on_caller_done(self, _: object) -> None:
        self.end()

    def deliver(self, message: Message, counts: TopicCounts) -> bool:
        taken = super().deliver(message, counts)
        if not taken and self.policy == "close":
            self._reason = "too slow"
            self.close()
        return taken or bool(self._reason)

    def fail(self) -> None:
        self._reason = "messages were lost"
        self.close()

    def end(self) -> None:
        """End all of its subscriptions; send nothing more."""
        self._items.clear()
        self._reason = ""
        self.close()
        self._hub.ended(self)

    @property
    def owner(self) -> object:
        return self._websocket

    def _wake_getters(self) -> None:
        if not self._is_sending and (self._items or self._reason):
            self._is_sending = True
            self._hub.spawn(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._items and (item := await self.get()) is not None:
                if isinstance(item, Gap) or item.kind != Kind.END or self.envelope is not None:
                    event = self._event(item)
                    if event is not None:
                        await self._websocket.send(event)
                    elif not (self.drops or self.conflates):
                        self.fail()
                        break
            if self._reason:
                await self._close_websocket()
        except Exception as error:
            self._on_failed(error)
        finally:
            self._is_sending = False
            if self.closed:
                self.end()

    def _on_failed(self, error: Exception) -> None:
        """End, as it can't be sent to: other servers and frameworks raise of all kinds once the client has left."""
        logger.debug("A subscribed WebSocket takes no more: %s", error)
        self.end()

    def _event(self, item: Message | Gap) -> dict[str, Any] | None:
        """Return what is sent; None if the envelope can't tell that messages are missing."""
        wire = None if isinstance(item, Gap) else item.wire(self.envelope)
        if wire is None:
            wire = gap_wire(self.envelope, item.topic, item.position)
        return None if wire is None else {"type": "websocket.send", "text" if wire.text else "bytes": wire.message}

    async def _close_websocket(self) -> None:
        """Close the WebSocket. Starlette takes that for the application's own doing, and would have its next
        receive_text() raise RuntimeError: it is told that the WebSocket is connected, so that the application gets the
        disconnect."""
        state = getattr(self._websocket, "application_state", None)
        closing = {"type": "websocket.close", "code": int(CloseCode.TRY_AGAIN_LATER), "reason": self._reason}
        sending = self._hub.spawn(self._send_close(closing))
        await asyncio.sleep(0)  # it has begun, and nobody else has run since
        if state is not None:
            self._websocket.application_state = state
        await sending

    async def _send_close(self, event: dict[str, Any]) -> None:
        try:
            await self._websocket.send(event)
        except Exception as error:
            self._on_failed(error)


def _name_of(item: Message | Gap) -> str:
    """Return the name by which its subscription is known."""
    is_presence = isinstance(item, Message) and item.kind == Kind.PRESENCE
    return ChangesName.of(item.topic) if is_presence else item.topic


def asgi_subscriber_of(websocket: Any, hub: Hub, envelope: Envelope | None, policy: Policy | None) -> ASGISubscriber:
    """Return the subscriber to a WebSocket, which is made if there is none. Raises TypeError for one without send(),
    RuntimeError before it is accepted, ClientDisconnected if it has ended."""
    if not callable(getattr(websocket, "send", None)) or hasattr(websocket, "base_send"):  # the latter of Channels
        raise TypeError("without flowserve as the server, subscribe() takes a WebSocket of Starlette or FastAPI")
    states = {getattr(getattr(websocket, side, None), "name", "") for side in ("client_state", "application_state")}
    if "CONNECTING" in states:
        raise RuntimeError(NOT_ACCEPTED)
    if states & {"DISCONNECTED", "RESPONSE"}:  # the latter: it was refused
        raise ClientDisconnected("the WebSocket is closed")
    subscribers = _by_websocket.setdefault(websocket, WeakSet())
    for known in subscribers:
        if known.envelope == envelope and known.policy == policy and not known.closed:
            return known
    subscriber = ASGISubscriber(websocket, hub, envelope, policy)
    subscribers.add(subscriber)
    return subscriber
