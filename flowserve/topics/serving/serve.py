"""The loop for clients that subscribe by themselves; PROTOCOL.md is the specification of what they say.

Theory of operation. Requests are handled one after the other, in the order in which they came, and each is answered
before the next one is received. So no more than one waits in the loop; what a client sends beyond that waits in the
server's bounded queue, and then in the client. What is published is written by the server, as for every other
subscription: the loop is not woken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from flowserve.errors import ClientDisconnected, TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.api.functions import Subscription, membership_by, subscribe
from flowserve.topics.backplane import NotPublished
from flowserve.topics.envelopes import JSON
from flowserve.topics.hub.current import current_source, in_hub
from flowserve.topics.hub.hub import Hub
from flowserve.topics.message import Kind
from flowserve.topics.payload import check_key
from flowserve.topics.position import Position
from flowserve.topics.serving.access import Access, Action, Allow
from flowserve.topics.serving.duplex import Duplex, PeerLeft, Receive, Send, duplex_of
from flowserve.topics.serving.grants import Grant, InvalidGrant, Secret, keys_of, read_grant
from flowserve.topics.serving.protocol import (
    Refusal,
    Request,
    encode_answer,
    encode_ended,
    encode_refusal,
    parse_request,
)
from flowserve.topics.serving.rate_limit import RateLimit
from flowserve.topics.subscribers.lookup import owner_of
from flowserve.topics.subscribers.session import Policy

_MAX_GRANTS = 16
"""That one connection may have shown."""
_MAX_UNDECIDED = 100
"""Messages of one connection of which it is remembered that nobody knows whether they were published."""
_ESCAPED = 2
"""Characters of a request for each byte of a message: JSON writes some characters longer than UTF-8 does."""
_MARGIN = 32768
"""Characters of a request beside the message."""
_OTHER, _DONE = "other", "ok"
"""What requests are counted as, beside the types and the codes of errors that the protocol has."""
_LONGEST_TIMER = 3600.0
"""Seconds until the clock is looked at again, which may be set meanwhile."""


async def serve(
    websocket: Any,
    *,
    allow: Allow | None = None,
    secret: Secret | Sequence[Secret] | None = None,
    publish_rate: float | None = 10.0,
    publish_burst: int = 20,
    policy: Policy | None = None,
    member: str | None = None,
    info: Any = None,
    presence: bool = False,
    receive: Receive | None = None,
    send: Send | None = None,
) -> None:
    """Let the client of a WebSocket, which was accepted, subscribe and publish by itself, in the protocol
    `topics.SUBPROTOCOL`. Returns when the client is gone.

    `websocket` is one of Starlette, FastAPI or Litestar, a `flowserve.WebSocket`, or the scope of an ASGI application
    with its `receive` and `send`. The loop takes all messages of the client; the application may send others beside it.

    What is not allowed is denied. `allow` is a function of the topic and of "subscribe" or "publish", with or without
    `async`, that returns a bool; or a mapping from topics to "subscribe", "publish" or both; or a collection of topics
    to subscribe to. It is asked at each such request. `secret`, or each of several, makes valid the grants that
    `topics.grant()` has signed with it; one of the two has to be given.

    `publish_rate` is how many messages a second the client may publish over time, and `publish_burst` how many at once;
    None is for no limit. `policy`, `member` and `info` are as for `subscribe()`: a client is a member of the topics to
    which it is subscribed. With `presence`, it may ask to be told who else is. Other limits are those of the options of
    topics.

    Raises TypeError or ValueError for wrong arguments, TopicsError for a member or an info beyond its limit,
    RuntimeError if the WebSocket is not accepted yet, and what `allow` raises.
    """
    if allow is None and secret is None:
        raise TypeError("say what is allowed: allow=..., or secret=... for grants")
    access, keys = Access(allow), keys_of(secret)
    rate_limit = None if publish_rate is None else RateLimit(publish_rate, publish_burst)
    duplex = duplex_of(websocket, receive, send)
    owner_of(websocket)
    membership_by(member, info)
    subscribing = partial(subscribe, websocket, envelope="json", policy=policy, member=member, info=info)
    await _Conversation(duplex, subscribing, access, keys, rate_limit, presence).run()


class _Conversation:
    """What one client has asked for."""

    def __init__(
        self,
        duplex: Duplex,
        subscribe: Callable[..., Awaitable[Subscription]],
        access: Access,
        keys: Sequence[bytes],
        rate_limit: RateLimit | None,
        presence: bool,
    ) -> None:
        """`subscribe` is topics.subscribe(), but for the topic and `since`."""
        self._duplex = duplex
        self._subscribe_to = subscribe
        self._presence = presence
        self._access = access
        self._keys = keys
        self._rate_limit = rate_limit
        self._hub = current_source().hub
        self._settings = self._hub.settings
        self._subscriptions: dict[str, Subscription] = {}
        self._granted: set[str] = set()  # those of them that a grant alone allows
        self._told: set[str] = set()  # those of them with presence
        self._grants: list[Grant] = []
        self._undecided: set[tuple[str, str]] = set()  # topics and keys of messages that may have been published
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    async def run(self) -> None:
        self._hub.count_client(1)
        try:
            while True:
                await self._duplex.send(await self._answer(await self._duplex.receive()))
        except (PeerLeft, ClientDisconnected):
            pass
        finally:
            self._hub.count_client(-1)
            if self._timer is not None:
                self._timer.cancel()
            if self._ending is not None:
                self._ending.cancel()
            for subscription in self._subscriptions.values():
                await subscription.unsubscribe()

    async def _answer(self, message: str | bytes) -> str:
        request_id: int | None = None
        type, result = _OTHER, _DONE
        try:
            request = parse_request(message, _ESCAPED * self._settings.max_size + _MARGIN)
            request_id = request.id
            handler = _HANDLERS.get(request.type)
            if handler is None:
                raise Refusal("unknown_type", f"{request.type[:50]!r} is no type of a request")
            type = request.type
            answer = encode_answer(request_id, **await handler(self, request))
        except Refusal as refusal:
            result = refusal.error["code"]
            answer = encode_refusal(refusal.request_id if request_id is None else request_id, refusal)
        self._hub.count_request(type, result)
        return answer

    # Requests; the members of their answers

    async def _subscribe(self, request: Request) -> dict[str, Any]:
        topic, since, presence = await self._topic(request), request.optional_text("since"), request.flag("presence")
        if topic in self._subscriptions:
            raise Refusal("subscribed", "the connection is subscribed to this topic")
        used, most = len(self._subscriptions) + len(self._told), self._settings.max_per_connection
        if used + 1 + presence > most:
            raise Refusal("limit", f"a connection can subscribe to {most} topics at most")
        by_application = await self._check(topic, "subscribe")
        if presence and not self._presence:
            raise Refusal("forbidden", "this client may not be told who is there")
        try:
            made = await self._subscribe_to(topic, since=since, presence=presence)
        except TopicsError as error:
            raise _unavailable(error) from None
        self._subscriptions[topic] = made
        if presence:
            self._told.add(topic)
        if since is not None and not made.recovered[topic] and not made._begun:
            # the application has subscribed the WebSocket before, so that nothing of the history was delivered
            await self._duplex.send(JSON.gap(topic, Position()))
        if not by_application:
            self._granted.add(topic)
            self._watch()
        answer: dict[str, Any] = {"position": _wire(made.position[topic])}
        return answer if since is None else {**answer, "recovered": made.recovered[topic]}

    async def _unsubscribe(self, request: Request) -> dict[str, Any]:
        topic = await self._topic(request)
        subscription = self._subscriptions.pop(topic, None)
        if subscription is None:
            raise Refusal("not_subscribed", "the connection is not subscribed to this topic")
        self._granted.discard(topic)
        self._told.discard(topic)
        await subscription.unsubscribe()
        return {}

    async def _publish(self, request: Request) -> dict[str, Any]:
        wait = 0.0 if self._rate_limit is None else self._rate_limit.take()
        if wait:
            raise Refusal("rate_limited", "too many messages were published", retry_after=round(wait + 0.0005, 3))
        topic, key = await self._topic(request), request.optional_text("key")
        data, kind = request.payload()
        try:
            check_key(key)
        except (TopicsError, UnicodeEncodeError) as error:
            raise Refusal("bad_request", str(error)) from None
        if len(data) > self._settings.max_size:
            raise Refusal("too_big", f"a message has {self._settings.max_size} bytes at most")
        await self._check(topic, "publish")

        async def work(hub: Hub) -> Position:
            if key is None:
                return await hub.publish(topic, data, kind)
            return await self._publish_once(hub, topic, data, kind, key)

        try:
            answer: dict[str, Any] = {"position": _wire(await in_hub(work))}
        except TopicsError as error:
            raise _unavailable(error) from None
        return answer if self._rate_limit is None else {**answer, "remaining": self._rate_limit.remaining}

    async def _publish_once(self, hub: Hub, topic: str, data: bytes, kind: Kind, key: str) -> Position:
        """Publish a message with a key; where the other machines can't be reached, deliver it in this process alone,
        as clients give each message a key. One that may have been published already is not: it would come twice."""
        try:
            position = await hub.publish(topic, data, kind, key)
        except NotPublished:
            if (topic, key) in self._undecided or len(self._undecided) >= _MAX_UNDECIDED:
                raise
            return hub.publish_alone(topic, data, kind)
        except TopicsError:
            if len(self._undecided) < _MAX_UNDECIDED:
                self._undecided.add((topic, key))
            raise
        self._undecided.discard((topic, key))
        return position

    async def _authorize(self, request: Request) -> dict[str, Any]:
        try:
            shown = read_grant(request.text("grant"), self._keys)
        except InvalidGrant as error:
            raise Refusal("invalid_grant", str(error)) from None
        now = time.time()
        self._grants = [each for each in self._grants if each.expires > now and each != shown]
        if len(self._grants) >= _MAX_GRANTS:
            raise Refusal("limit", f"a connection can have {_MAX_GRANTS} grants at most")
        self._grants.append(shown)
        self._watch()
        return {"expires": shown.expires}

    async def _ping(self, request: Request) -> dict[str, Any]:
        return {}

    async def _topic(self, request: Request) -> str:
        topic = request.text("topic")
        try:
            self._hub.check_name(topic)
        except TopicsError as error:
            raise Refusal("bad_request", str(error)) from None
        return topic

    async def _check(self, topic: str, action: Action) -> bool:
        """Return whether the application allows an action, and not a grant alone. Raises Refusal if neither does."""
        if await self._access.allows(topic, action):
            return True
        if any(each.allows(topic, action) for each in self._grants):
            return False
        raise Refusal("forbidden", f"this client may not {action} to this topic")

    # Grants that expire

    def _watch(self) -> None:
        """Look at the subscriptions again when the first grant expires."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._granted:
            seconds = min((each.expires for each in self._grants), default=0.0) - time.time()
            delay = min(max(seconds, 0.0), _LONGEST_TIMER)
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        if self._ending is None or self._ending.done():
            self._ending = asyncio.ensure_future(self._end_expired())
        else:  # it is telling of others; nothing is delivered of them already
            self._timer = asyncio.get_running_loop().call_later(1.0, self._look)

    async def _end_expired(self) -> None:
        """End the subscriptions that no grant allows any more, and tell the client."""
        now = time.time()
        self._grants = [each for each in self._grants if each.expires > now]
        ended = [each for each in self._granted if not any(one.allows(each, "subscribe") for one in self._grants)]
        self._granted.difference_update(ended)
        self._told.difference_update(ended)
        self._watch()
        for subscription in [self._subscriptions.pop(topic) for topic in ended]:
            await subscription.unsubscribe()
        try:
            for topic in ended:
                await self._duplex.send(encode_ended(topic, "expired", "the grant for this topic has expired"))
        except (PeerLeft, ClientDisconnected):
            pass


_HANDLERS: dict[str, Callable[[_Conversation, Request], Awaitable[dict[str, Any]]]] = {
    "subscribe": _Conversation._subscribe,
    "unsubscribe": _Conversation._unsubscribe,
    "publish": _Conversation._publish,
    "authorize": _Conversation._authorize,
    "ping": _Conversation._ping,
}
"""By the types of requests: what does them, and returns the members of the answer."""


def _wire(position: Position) -> str | None:
    return position or None


def _unavailable(error: TopicsError) -> Refusal:
    logger.debug("Topics: the request of a client failed: %s", error)
    return Refusal("unavailable", "topics can't be reached now")
