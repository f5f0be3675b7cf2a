"""The protocol between workers and their broker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowserve.topics.backplane import Reading
from flowserve.topics.local.wire import (
    VERSION,
    FrameReader,
    FrameType,
    encode,
    frame_of,
    message_fields,
    message_of,
    place_fields,
    places_of,
    publish_body,
    publish_of,
    reading_fields,
    reading_of,
)
from flowserve.topics.message import Kind, Message
from flowserve.topics.position import Place
from flowserve.topics.settings import Retention

texts = st.text(max_size=8)
places = st.builds(Place, texts, st.integers(0, 2**64 - 1), texts)
kinds = st.sampled_from(Kind)
messages = st.builds(Message, texts, st.binary(max_size=20), kinds, places, texts, st.floats(0, 2e9))
frames = st.tuples(st.sampled_from(FrameType), st.integers(0, 2**32 - 1), st.lists(st.binary(max_size=9), max_size=5))


def told(message: Message) -> tuple[object, ...]:
    return message.topic, message.data, message.kind, message.place, message.origin, message.published_at


def test_a_frame_in_literal_bytes() -> None:
    frame = encode(FrameType.PUBLISHED, 7, [b"ab", b""])
    assert frame == b"\0\0\0\x0f" + b"\x05" + b"\0\0\0\x07" + b"\0\0\0\x02ab" + b"\0\0\0\0"


def test_the_version_stands_for_these_bytes() -> None:
    """Whoever changes them, raises VERSION: a worker and a supervisor may be of different versions of flowserve.
    PRESENCE stays in its process."""
    assert encode(FrameType.HELLO, 0, [VERSION]) == bytes.fromhex("0000000a 00 00000000 00000001 32")
    types = "HELLO PUBLISH SUBSCRIBE UNSUBSCRIBE READ PUBLISHED SUBSCRIBED READING MESSAGE RESTORED WILL"
    assert [each.name for each in FrameType] == types.split()
    assert [each.value for each in FrameType] == list(range(11))
    assert [each.name for each in Kind] == [
        "BINARY",
        "TEXT",
        "JSON",
        "END",
        "PRESENCE",
        "GAP",
    ]
    assert [each.value for each in Kind] == [0, 1, 2, 3, 4, 5]
    place = Place("e", 258, "c")
    assert place_fields(place) == [b"e", b"258", b"c"]
    limits = bytes.fromhex("0000000000000001 0000000000000002 3ff8000000000000")
    published = publish_body("t", b"data", Kind.TEXT, "k", "o", Retention(1, 2, 1.5))
    publish = encode(FrameType.PUBLISH, 0, [b"t", b"data", b"1", b"\1k", b"o", limits])
    assert frame_of(FrameType.PUBLISH, 0, published) == publish
    numbers = bytes.fromhex("01 0000000000000102 3ff8000000000000")
    message = message_fields(Message("t", b"data", Kind.TEXT, place, "o", 1.5))
    assert message == [b"t", b"data", numbers, b"e", b"c", b"o"]
    assert reading_fields(Reading(False, (), place, None)) == [b"0", b"e", b"258", b"c", b"", b"0", b""]


@given(st.lists(frames, max_size=5), st.integers(1, 40))
def test_frames_come_through_in_pieces(sent: list[tuple[FrameType, int, list[bytes]]], size: int) -> None:
    stream = b"".join(encode(*frame) for frame in sent)
    reader, got = FrameReader(), []
    for at in range(0, len(stream), size):
        got += [(frame.type, frame.number, frame.fields) for frame in reader.feed(stream[at : at + size])]
    assert got == sent


@given(st.lists(places, max_size=3))
def test_places(sent: list[Place]) -> None:
    assert places_of([field for place in sent for field in place_fields(place)]) == sent


@given(texts, st.binary(max_size=9), kinds, st.none() | texts, texts)
def test_a_publication(topic: str, data: bytes, kind: Kind, key: str | None, origin: str) -> None:
    sent = (topic, data, kind, key, origin, Retention(1, 2, 3.5))
    (frame,) = FrameReader().feed(frame_of(FrameType.PUBLISH, 7, publish_body(*sent)))
    assert publish_of(frame.fields) == sent


@given(messages)
def test_a_message(message: Message) -> None:
    assert told(message_of(message_fields(message))) == told(message)


@given(st.booleans(), st.lists(messages, max_size=4), places, st.none() | places)
def test_a_reading(complete: bool, sent: list[Message], head: Place, start: Place | None) -> None:
    got = reading_of(reading_fields(Reading(complete, sent, head, start)))
    assert (got.complete, got.head, list(map(told, got.messages))) == (complete, head, list(map(told, sent)))
    assert got.start == (start if start != Place("", 0, "") else None)
