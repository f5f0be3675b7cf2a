"""The functions of `flowserve.topics`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, get_args

from flowserve.topics.api.listener import messages
from flowserve.topics.delivery.members import Subscriber
from flowserve.topics.envelopes import envelope_of
from flowserve.topics.hub.current import current_source, hub_here, in_hub
from flowserve.topics.hub.hub import Hub
from flowserve.topics.message import Envelope, Message
from flowserve.topics.names import ChangesName, checked_type
from flowserve.topics.payload import UNSET, json_of, payload_of
from flowserve.topics.position import Position
from flowserve.topics.presence.entries import Presence
from flowserve.topics.presence.membership import Membership, membership_of
from flowserve.topics.subscribers.lookup import owner_of, subscriber_of
from flowserve.topics.subscribers.session import Policy

Since = str | Mapping[str, str] | None
_POLICIES = (None, *get_args(Policy))


async def publish(
    topic: str,
    text: str | None = None,
    *,
    data: bytes | bytearray | memoryview | None = None,
    json: Any = UNSET,
    key: str | None = None,
    exclude: Any = None,
) -> Position:
    """Publish a message to all that are subscribed to a topic, on all workers and machines.

    The message is one of `text`, `data` (a binary message) and `json` (any value, sent as its JSON text). With a `key`,
    the call can be repeated: a message whose key was used in this topic before is not published again. `exclude` is a
    WebSocket, as for `subscribe()`, that is not to get it, though it is subscribed.

    Returns the message's position. It is empty, and so false, if only this machine was reached, which is never so with
    a `key`. Raises TopicsError if it was not published, as other machines can't be reached, or nobody knows whether it
    was: the text says which. Raises TopicsError, too, for a name, a message or a key that is too long, TypeError for
    anything but one message, ValueError for what UTF-8 or JSON can't hold.
    """
    payload, kind = payload_of(text, data, json)
    owner = None if exclude is None else owner_of(exclude)

    hub = hub_here()
    if hub is not None:  # without a coroutine more: most publish in the server's event loop
        return await hub.publish(topic, payload, kind, key, owner)
    return await in_hub(lambda hub: hub.publish(topic, payload, kind, key, owner))


class Subscription:
    """A WebSocket's subscription to topics. `async with` ends it; so does the end of the WebSocket."""

    def __init__(
        self,
        hub: Hub,
        subscriber: Subscriber,
        position: dict[str, Position],
        recovered: dict[str, bool],
        begun: Sequence[str],
    ) -> None:
        """`begun` are the topics to which the WebSocket was not subscribed before."""
        self._hub = hub
        self._subscriber = subscriber
        self._begun = begun
        self.position = position
        """By topic: all messages after this position are delivered, until the subscription ends."""
        self.recovered = recovered
        """By topic: whether all messages since the position that was asked for were delivered, and no gap was told."""

    async def unsubscribe(self, *topics: str) -> None:
        """End it for these topics, or for all that it began: what the WebSocket was subscribed to before goes on."""

        async def work(hub: Hub) -> None:
            names = [*topics, *map(ChangesName.of, topics)]
            self._hub.unsubscribe(self._subscriber, names or self._begun)

        await in_hub(work)

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.unsubscribe()


async def subscribe(
    websocket: Any,
    *topics: str,
    since: Since = None,
    envelope: Literal["json"] | Envelope | None = None,
    policy: Policy | None = None,
    member: str | None = None,
    info: Any = None,
    presence: bool = False,
) -> Subscription:
    """Have a WebSocket, which was accepted, get all messages of topics, without waking the application.

    `websocket` is one of Starlette, FastAPI or Litestar, a consumer of Channels, an ASGI scope, or a
    `flowserve.WebSocket`. `since` is a position, or one for each of some topics: what came after it is delivered first,
    in order, if it is kept in full, and nothing of it otherwise; `Subscription.recovered` says which. `topics.START`
    stands for the beginning of a topic, `topics.OLDEST` for that of what is kept. `envelope` is how a message looks on
    the wire: None for as it was published, "json" for `envelopes.JSONEnvelope`, or a function of the Message that
    returns str or bytes. `policy` says what happens while the client reads too slowly, by default what
    --ws-slow-consumer says: "wait" holds messages for it, and goes on from the history later; "close" closes it; "drop"
    drops messages; "conflate" drops all but the newest one of each topic.

    `member` is the id under which `topics.presence()` lists the connection while it is subscribed, usually that of a
    user, who may have several connections; `info` is any JSON value of at most 1 KiB to be listed with it. With
    `presence`, the client gets who is there, and at most once a second who came and left; `envelope` is not None then.

    A client that has missed messages which the history does not have, as they reached another machine alone for one,
    is told so by its envelope; without one it is closed with 1013, except with the policies "drop" and "conflate".

    A topic that the WebSocket is subscribed to already, with the same envelope and policy, goes on as it does, but for
    `member` and `info`, which can so be changed.

    Raises TopicsError beyond a limit, ClientDisconnected if the WebSocket has ended, RuntimeError if it is not
    accepted yet, TypeError for what is none.
    """
    wrap = envelope_of(envelope)
    if policy not in _POLICIES:
        raise TypeError(f"policy is None, 'wait', 'close', 'drop' or 'conflate', not {policy!r}")
    if presence and wrap is None:
        raise TypeError("presence=True needs an envelope, such as 'json', as clients could not tell it from messages")
    topics = distinct(topics)
    sinces = by_topic(since, topics)
    membership = membership_by(member, info)

    async def work(hub: Hub) -> Subscription:
        subscriber = subscriber_of(websocket, hub, wrap, policy)
        names = [*topics, *(map(ChangesName.of, topics) if presence else ())]
        begun = [name for name in names if subscriber.member(name) is None]
        position, recovered = await hub.subscribe(subscriber, topics, sinces)
        try:
            await hub.join_presence(subscriber, topics, membership, presence)
        except BaseException:
            hub.unsubscribe(subscriber, begun)
            raise
        return Subscription(hub, subscriber, position, recovered, begun)

    return await in_hub(work)


def membership_by(member: str | None, info: Any) -> Membership | None:
    """Return who a connection is to be. Raises as `membership_of()`, and ValueError for what JSON can't hold."""
    if member is not None:
        return membership_of(member, json_of(info))
    if info is not None:
        raise TypeError("info is that of a member: give its id as member")
    return None


async def presence(topic: str) -> Presence:
    """Return who is in a topic: the members with which `subscribe()` was called, on all workers and machines.

    What happens elsewhere is known after about a second. The first call for a topic asks the other processes, which
    takes some milliseconds, or as long as a second if one does not answer; `Presence.complete` tells. Raises
    TopicsError as `subscribe()`.
    """

    async def work(hub: Hub) -> Presence:
        hub.check_name(topic)
        return await hub.tracker.presence(topic)

    return await in_hub(work)


async def count(topic: str) -> int:
    """Return how many subscribers a topic has on all workers and machines: WebSockets, event streams and listeners,
    members or not. As fresh as `presence()`, and raises as that."""

    async def work(hub: Hub) -> int:
        hub.check_name(topic)
        return await hub.tracker.count(topic)

    return await in_hub(work)


def distinct(topics: tuple[str, ...]) -> tuple[str, ...]:
    """Return topics without those that are named again. Raises TypeError for none, and for what is no name."""
    if not topics:
        raise TypeError("name a topic, or several")
    return tuple(dict.fromkeys(checked_type(topic) for topic in topics))


def by_topic(since: Since, topics: tuple[str, ...]) -> Mapping[str, str]:
    """Return positions by topic. Raises TypeError for one position of several topics, and for what is none."""
    if since is None:
        return {}
    if isinstance(since, Mapping):
        return {topic: position for topic, position in since.items() if position is not None}
    if not isinstance(since, str):
        raise TypeError(f"since is a position or a mapping from topics to positions, not {type(since).__name__}")
    if len(topics) != 1:
        raise TypeError("since is a mapping from topics to positions, as there is not one topic")
    return {topics[0]: since}


def listen(*topics: str, since: Since = None, presence: bool = False) -> AsyncGenerator[Message, None]:
    """Yield the messages of topics, for the application itself. `since` as for `subscribe()`.

    With `presence`, there are messages of the kind PRESENCE too: first {"members", "complete"}, then {"joins",
    "leaves"} as what comes and goes.

    Call this in the event loop of the server. It ends when all topics are streams that have ended, and when the server
    begins to shut down. Raises MissedMessages where messages are missing; its `position` is the one to listen from
    again. Raises TopicsError as `subscribe()` does, and at the end of a stream that is not complete.
    """
    topics = distinct(topics)
    return messages(current_source(), topics, by_topic(since, topics), presence)
