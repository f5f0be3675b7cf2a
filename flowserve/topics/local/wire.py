"""The protocol between the workers of one supervisor and its broker: frames over a UNIX domain socket.

A frame is its length without these four bytes, its type, a number that an answer repeats, and fields, each with its
length. All integers are big-endian. A field that is a text is UTF-8, one that is a Place three of them.

The first frame of a worker is HELLO with its version of the protocol, which the broker answers with its own. They
differ where a new version of flowserve was installed over the one that runs: the workers are new then, the supervisor
is not. HELLO is the same in all versions; nothing else is said between two that differ.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from functools import lru_cache

from flowserve.topics.backplane import Reading
from flowserve.topics.message import Kind, Message, kind_of
from flowserve.topics.position import NOWHERE, Place, place_of
from flowserve.topics.settings import Retention

_HEAD = struct.Struct("!IBI")
_LENGTH = struct.Struct("!I")
_MESSAGE = struct.Struct("!BQd")  # kind, offset, time
_RETENTION = struct.Struct("!QQd")
_HEAD_SIZE, _LENGTH_SIZE = _HEAD.size, _LENGTH.size
_KNOWN = 512
_LENGTHS = [_LENGTH.pack(length) for length in range(_KNOWN)]
"""Short lengths as they stand before a field: packing them takes longer."""

VERSION = b"2"
"""Another one with each change of what frames are or say."""

_KINDS = tuple(b"%d" % kind for kind in Kind)
_KEYLESS = b"\0"
_KEYED = b"\1"
"""Precedes a key, so that an empty one differs from none."""


class FrameType(IntEnum):
    """What a frame is. To the broker: PUBLISH, SUBSCRIBE, UNSUBSCRIBE, READ, and WILL, which is what the broker is to
    publish when the connection ends; HELLO goes both ways; the others come from the broker."""

    HELLO = 0
    PUBLISH = 1
    SUBSCRIBE = 2
    UNSUBSCRIBE = 3
    READ = 4
    PUBLISHED = 5
    SUBSCRIBED = 6
    READING = 7
    MESSAGE = 8
    RESTORED = 9
    WILL = 10


class Frame:
    """A frame that was received."""

    __slots__ = ("fields", "number", "type")

    def __init__(self, type: int, number: int, fields: list[bytes]) -> None:
        self.type = type
        self.number = number
        self.fields = fields


def encode(type: FrameType, number: int, fields: Sequence[bytes]) -> bytes:
    """Return a frame."""
    return frame_of(type, number, _body(fields))


def frame_of(type: FrameType, number: int, body: bytes) -> bytes:
    """Return a frame, given its fields as they stand in it."""
    return _HEAD.pack(_HEAD_SIZE - _LENGTH_SIZE + len(body), type, number) + body


def _body(fields: Sequence[bytes], rest: bytes = b"") -> bytes:
    """Return fields as they stand in a frame; `rest` are those behind them."""
    parts: list[bytes] = []
    for field in fields:
        length = len(field)
        parts += (_LENGTHS[length] if length < _KNOWN else _LENGTH.pack(length), field)
    parts.append(rest)
    return b"".join(parts)


class FrameReader:
    """Takes frames out of a stream of bytes."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Add bytes, and yield the frames that are complete. Take all of them."""
        buffer: bytes | bytearray = data
        if self._data:
            self._data += data
            buffer = self._data
        at, there = 0, len(buffer)
        while there - at >= _HEAD_SIZE:
            size, type, number = _HEAD.unpack_from(buffer, at)
            end = at + _LENGTH_SIZE + size
            if there < end:
                break
            yield Frame(type, number, _fields(bytes(buffer[at + _HEAD_SIZE : end])))
            at = end
        if buffer is self._data:
            del self._data[:at]
        else:
            self._data += data[at:]


def _fields(body: bytes) -> list[bytes]:
    fields = []
    at, end = 0, len(body)
    while at < end:
        size = _LENGTH.unpack_from(body, at)[0]
        at += _LENGTH_SIZE
        fields.append(body[at : at + size])
        at += size
    return fields


def place_fields(place: Place) -> list[bytes]:
    """Return the fields of a place."""
    return [place.epoch.encode(), b"%d" % place.offset, place.check.encode()]


def place_in(fields: Sequence[bytes]) -> Place:
    """Return the place in three fields."""
    epoch, offset, check = fields
    return place_of(epoch.decode(), int(offset), check.decode())


def places_of(fields: Sequence[bytes]) -> list[Place]:
    """Return the places in fields."""
    return [place_in(fields[at : at + 3]) for at in range(0, len(fields), 3)]


def publish_body(topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention) -> bytes:
    """Return the fields of PUBLISH, and of WILL, as they stand in a frame."""
    if key is None and not origin:  # as it is, mostly
        return _body((topic.encode(), data), _plain_rest(kind, retention))
    return _body((topic.encode(), data), _rest(kind, key, origin, retention))


def _rest(kind: Kind, key: str | None, origin: str, retention: Retention) -> bytes:
    shown_key = _KEYLESS if key is None else _KEYED + key.encode()
    return _body((_KINDS[kind], shown_key, origin.encode(), _RETENTION.pack(*retention)))


@lru_cache
def _plain_rest(kind: Kind, retention: Retention) -> bytes:
    return _rest(kind, None, "", retention)


def publish_of(fields: Sequence[bytes]) -> tuple[str, bytes, Kind, str | None, str, Retention]:
    """Return the arguments of `Backplane.publish()`."""
    topic, data, kind, key, origin, limits = fields
    shown_key = None if key == _KEYLESS else key[1:].decode()
    return topic.decode(), data, kind_of(int(kind)), shown_key, origin.decode(), Retention(*_RETENTION.unpack(limits))


def message_fields(message: Message) -> list[bytes]:
    """Return the fields of MESSAGE."""
    place = message.place
    assert place is not None
    numbers = _MESSAGE.pack(message.kind, place.offset, message.published_at)
    return [
        message.topic.encode(),
        message.data,
        numbers,
        place.epoch.encode(),
        place.check.encode(),
        message.origin.encode(),
    ]


def message_of(fields: Sequence[bytes]) -> Message:
    """Return the message of MESSAGE."""
    topic, data, numbers, epoch, check, origin = fields
    kind, offset, published_at = _MESSAGE.unpack(numbers)
    place = Place(epoch.decode(), offset, check.decode())
    return Message(topic.decode(), data, kind_of(kind), place, origin.decode(), published_at)


def reading_fields(reading: Reading) -> list[bytes]:
    """Return the fields of READING."""
    fields = [b"%d" % reading.complete, *place_fields(reading.head), *place_fields(reading.start or NOWHERE)]
    for message in reading.messages:
        fields += message_fields(message)
    return fields


def reading_of(fields: Sequence[bytes]) -> Reading:
    """Return the reading of READING."""
    messages = [message_of(fields[at : at + 6]) for at in range(7, len(fields), 6)]
    head, start = places_of(fields[1:7])
    return Reading(fields[0] == b"1", messages, head, None if start == NOWHERE else start)
