"""What carries messages between workers and machines: the interface of a backplane."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol

from flowserve.errors import TopicsError
from flowserve.topics.message import Kind, Message
from flowserve.topics.position import Place
from flowserve.topics.settings import Retention


class Reading(NamedTuple):
    """What a backplane has of a topic after some place."""

    complete: bool
    """Whether nothing is missing between that place and the messages."""
    messages: Sequence[Message]
    """In order, without holes."""
    head: Place
    """The place of the last message that was published, or of the topic's beginning."""
    start: Place | None
    """The place after which the messages begin; None if it is not known."""


class Receiver(Protocol):
    """Whoever a backplane passes messages to. Its methods do not raise."""

    def received(self, message: Message) -> None:
        """Take a message of a topic that is subscribed to. Those of a topic come in order, but some may be missing, or
        come again."""

    def restored(self, heads: dict[str, Place]) -> None:
        """Note that messages may have been missed, and what the heads of all subscribed topics are now."""


class Backplane(Protocol):
    """Carries messages, gives each its place, and keeps some of them."""

    @property
    def reconnects(self) -> int:
        """How often a connection was made after one was lost, or could not be made at first."""

    @property
    def connected(self) -> bool | None:
        """Whether messages reach other processes; None if they never do."""

    async def open(self, receiver: Receiver) -> None:
        """Begin to pass messages to `receiver`, in the running event loop."""

    async def close(self) -> None:
        """Stop, after what is being published, for a short time at most. Called whether `open()` has returned, raised
        or was cancelled."""

    def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Awaitable[Place | None]:
        """Publish a message. To be awaited at once: the result is its place; None if it was not published, and never
        will be, as the other machines could not be reached. Raises TopicsError if nobody knows whether they were.

        With a `key` that was used in this topic before, publish nothing, and return the place of the earlier message.
        `retention` is what is kept of the topic from now on, this message included.
        """

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        """Subscribe to topics, and return the head of each: every later message will be passed to the receiver. If it
        raises, it has subscribed to none."""

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """End subscriptions."""

    async def read(self, topic: str, after: Place) -> Reading:
        """Return the messages of a topic after a place, which may be BEGINNING, as far as they are kept."""


class NotPublished(TopicsError):
    """A message was not published, and never will be by that call, as the other machines could not be reached."""

    def __init__(self, key: str | None) -> None:
        again = "" if key is None else " with the same key"
        super().__init__(
            "the message was not published, as the backplane can't be reached or is too slow; it can be published"
            f" again{again}"
        )


def unknown_whether_published(where: str) -> TopicsError:
    """Return what `publish()` raises if the connection is lost between a message and its answer. `where` names the
    other end."""
    return TopicsError(
        f"{where} was lost while the message was on its way, so that it is unknown whether it was published; with the"
        " same key it can be published again safely"
    )
