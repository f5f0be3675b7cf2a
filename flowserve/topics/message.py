"""A published message."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from flowserve.logs.loggers import logger
from flowserve.session.shared_message import SharedMessage
from flowserve.topics.position import Place, Position

OVERHEAD = 256
"""Bytes of memory for a message beside its payload."""

_MAX_FORMS = 16
"""Envelopes whose forms are kept with a message: an application may make a new function for each WebSocket."""

Envelope = Callable[["Message"], "str | bytes"]
"""Makes of a message what is written to a client."""


class Kind(IntEnum):
    """What a message holds."""

    BINARY = 0
    TEXT = 1
    JSON = 2
    END = 3
    """Nothing: the topic is a stream, which ends here."""
    PRESENCE = 4
    """Who is in the topic, as JSON: see the parameter `presence` of `subscribe()`."""
    GAP = 5
    """Nothing: messages are missing here, of which subscribers are told instead of getting this one."""


_KINDS = tuple(Kind)


def kind_of(number: int) -> Kind:
    """Return the kind that a number means in a backplane; GAP for one of a later version, whose message can't be
    understood here."""
    return _KINDS[number] if number < len(_KINDS) else Kind.GAP


class Message:
    """A message as it was published, with its place in the topic.

    `data` is its payload, in UTF-8 unless `kind` is BINARY; an END and a GAP have none. `place` is None for a message
    that reached only this machine.
    """

    __slots__ = ("data", "kind", "origin", "place", "plain", "published_at", "topic", "wrapped")

    def __init__(
        self, topic: str, data: bytes, kind: Kind, place: Place | None, origin: str = "", published_at: float = 0.0
    ) -> None:
        """`origin` names one call of publish() in one process, "" for none; `published_at` is in seconds since the
        epoch."""
        self.topic = topic
        self.data = data
        self.kind = kind
        self.place = place
        self.origin = origin
        self.published_at = published_at
        self.plain: SharedMessage | None = None  # its wire form, and those by envelope; made once, when first needed
        self.wrapped: dict[Envelope, SharedMessage | None] | None = None

    @property
    def position(self) -> Position:
        """Its position, empty if it reached only this machine, or tells of presence."""
        return Position() if self.place is None or self.kind == Kind.PRESENCE else self.place.position()

    @property
    def text(self) -> str:
        """The payload as text. Raises UnicodeDecodeError for binary data that is none."""
        return self.data.decode()

    def json(self) -> Any:
        """Return the payload, decoded from JSON. Raises ValueError if it is none."""
        return json.loads(self.data)

    def wire(self, envelope: Envelope | None) -> SharedMessage | None:
        """Return what is written to WebSockets that want it in `envelope`; None: as it was published. The result is
        None if the envelope, which is the application's, has failed; that is logged once."""
        if envelope is None:
            if self.plain is None:
                self.plain = SharedMessage(self.data, self.kind != Kind.BINARY)
            return self.plain
        if self.wrapped is None:
            self.wrapped = {}
        if envelope not in self.wrapped:
            if len(self.wrapped) >= _MAX_FORMS:
                self.wrapped.clear()
            self.wrapped[envelope] = self._wrap(envelope)
        return self.wrapped[envelope]

    def _wrap(self, envelope: Envelope) -> SharedMessage | None:
        try:
            return _written(envelope(self))
        except Exception:
            what = " to tell who is there" if self.kind == Kind.PRESENCE else "; its subscribers are told of a gap"
            logger.exception("The envelope of the topic %r failed%s", self.topic, what)
            return None

    @property
    def cost(self) -> int:
        """Bytes that it takes in memory, roughly: short messages are not for nothing."""
        return len(self.data) + OVERHEAD

    def __repr__(self) -> str:
        return f"<Message {self.topic!r} {self.position or 'local'} {self.kind.name} of {len(self.data)} bytes>"


_failed: tuple[int, str, Position] | None = None
"""The last gap that could not be told: of which envelope, and where."""


def gap_wire(envelope: Envelope | None, topic: str, position: Position) -> SharedMessage | None:
    """Return what tells WebSockets that messages are missing before or at `position`. None if the envelope can't tell,
    or has failed; that is logged once for a gap."""
    global _failed
    try:
        tell = getattr(envelope, "gap", None)
        return None if tell is None else _written(tell(topic, position))
    except Exception:
        failed = (hash(envelope), topic, position)
        if failed != _failed:  # else it was to tell another of its subscribers
            _failed = failed
            logger.exception("The envelope of the topic %r failed to tell a gap", topic)
        return None


def _written(made: object) -> SharedMessage:
    """Return the form on the wire of what an envelope has made. Raises TypeError or ValueError if there is none."""
    if isinstance(made, str):
        return SharedMessage(made.encode(), True)
    if not isinstance(made, (bytes, bytearray, memoryview)):
        raise TypeError(f"the envelope has returned {type(made).__name__}; it returns str or bytes")
    return SharedMessage(bytes(made), False)


class Gap:
    """Stands where messages of a topic are missing."""

    __slots__ = ("head", "topic")

    def __init__(self, topic: str, head: Place | None) -> None:
        """The next message comes after `head`, if that is known."""
        self.topic = topic
        self.head = head

    @property
    def position(self) -> Position:
        """That of the head, empty if it is not known."""
        return Position() if self.head is None else self.head.position()
