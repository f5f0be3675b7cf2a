"""Messages out of frames: fragments, UTF-8, limits and compression (RFC 6455 sections 5.4 to 5.6 and 8.1)."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.connections import CLIENT, KIB, answer, byte_by_byte, closes, connection, fed, messages, output
from support.helpers import frame, masked

from flowserve.websocket.constants import State

# Messages


def test_text_and_binary() -> None:
    conn = fed(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", b"\x82\x82\0\0\0\0\xff\x00")
    assert (conn.waiting, conn.waiting_size) == (2, 7)
    assert messages(conn) == ["Hello", b"\xff\x00"]
    assert (conn.waiting, conn.waiting_size) == (0, 0)
    assert (conn.messages_in, conn.bytes_in) == (2, 7)
    assert conn.state == State.OPEN
    assert not conn.ended
    assert output(conn) == b""


def test_a_client_reads_frames_without_mask() -> None:
    conn = connection(CLIENT)
    conn.feed(b"\x81\x05Hello\x01\x03Hel\x80\x02lo")
    assert messages(conn) == ["Hello", "Hello"]


def test_empty_messages_are_messages() -> None:
    assert messages(fed(frame(1), frame(2), frame(1, fin=False), frame(0, fin=False), frame(0))) == ["", b"", ""]


def test_messages_are_taken_in_order_while_others_come() -> None:
    conn = connection()
    taken = []
    for i in range(100):
        conn.feed(frame(1, b"%d" % (2 * i)) + frame(1, b"%d" % (2 * i + 1)))
        taken.append(conn.take())
        if i % 7 == 3:
            taken.append(conn.take())
    assert [*taken, *messages(conn)] == [str(i) for i in range(200)]


def test_taking_from_nothing() -> None:
    conn = fed(frame(1, b"x"))
    conn.take()
    with pytest.raises(IndexError):
        conn.take()
    conn.feed(frame(1, b"y"))
    assert messages(conn) == ["y"]


def test_control_frames_between_fragments() -> None:
    conn = fed(frame(1, b"Hel", fin=False), frame(9, b"in between"), frame(10, b"unasked"), frame(0, b"lo"))
    assert messages(conn) == ["Hello"]
    assert output(conn) == b"\x8a\x0ain between"
    assert conn.pong_received == b"unasked"


def test_characters_may_be_cut_anywhere() -> None:
    text = "κόσμε 𝄞 €"
    fragments = byte_by_byte(text.encode())
    wire = b"".join(
        frame(1 if i == 0 else 0, fragment, fin=i == len(fragments) - 1) for i, fragment in enumerate(fragments)
    )
    for chunks in ([wire], byte_by_byte(wire), byte_by_byte(frame(1, text.encode()))):
        assert messages(fed(*chunks)) == [text]


def test_only_messages_are_counted() -> None:
    """A text that is refused is none, whether it came in one chunk or not."""
    wire = frame(1, b"good") + frame(2, b"ab", fin=False) + frame(0, b"c") + frame(1, b"bad \xff")
    for chunks in ([wire], byte_by_byte(wire)):
        conn = fed(*chunks)
        assert (conn.messages_in, conn.bytes_in) == (2, 7)


@pytest.mark.parametrize("left", [0, 1, 10, 100])
def test_the_order_holds_however_many_are_left_each_time(left: int) -> None:
    conn = connection()
    came, taken = 0, []
    for _ in range(50):
        for _ in range(30):
            conn.feed(frame(1, b"%d" % came))
            came += 1
        taken += [conn.take() for _ in range(max(0, conn.waiting - left))]
    taken += messages(conn)
    assert taken == [str(number) for number in range(came)]
    assert (conn.waiting, conn.waiting_size) == (0, 0)
    with pytest.raises(IndexError):
        conn.take()


def test_waiting_size_counts_what_take_gives() -> None:
    """Characters of text, bytes of binary messages."""
    conn = fed(frame(1, "€€".encode()), frame(2, b"123"))
    assert (conn.waiting_size, conn.bytes_in) == (5, 9)
    conn.take()
    assert conn.waiting_size == 3


# UTF-8


WELL_FORMED_SO_FAR = re.compile(
    rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*"
    rb"(?:|[\xc2-\xf4]|\xe0[\xa0-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]|\xed[\x80-\x9f]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]?|[\xf1-\xf3][\x80-\xbf]{1,2}|\xf4[\x80-\x8f][\x80-\xbf]?)"
)
"""RFC 3629 section 4, up to and including the beginning of a character."""


def first_wrong_byte(data: bytes) -> int | None:
    return next((i for i in range(len(data)) if not WELL_FORMED_SO_FAR.fullmatch(data[: i + 1])), None)


def check_fails_fast(data: bytes) -> None:
    """`data` as the beginning of a text message is refused at its first wrong byte, and no sooner."""
    wrong = first_wrong_byte(data)
    key = b"\x11\x22\x33\x44"
    in_one_frame = [frame(1, b"", length=1000, mask=key), *byte_by_byte(masked(data, key))]
    in_fragments = [frame(1, b"", fin=False), *(frame(0, octet, fin=False) for octet in byte_by_byte(data))]
    for header, *octets in (in_one_frame, in_fragments):
        conn = fed(header)
        for at, octet in enumerate(octets):
            conn.feed(octet)
            assert conn.ended == (wrong is not None and at >= wrong), (data, at)
        if wrong is not None:
            assert closes(answer(conn)) == (1007, "text is not UTF-8")


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b"\x80", 0),
        (b"\xbf", 0),
        (b"\xc0", 0),  # only overlong forms begin like this
        (b"\xc1", 0),
        (b"\xf5", 0),  # beyond U+10FFFF
        (b"\xff", 0),
        (b"ab\xc3\x28", 3),
        (b"\xe0\x80", 1),  # overlong
        (b"\xe0\x9f", 1),
        (b"\xed\xa0", 1),  # a surrogate
        (b"\xed\xbf", 1),
        (b"\xf0\x80", 1),  # overlong
        (b"\xf0\x8f", 1),
        (b"\xf4\x90", 1),  # beyond U+10FFFF
        (b"\xe2\x28", 1),
        (b"\xe2\x82\x28", 2),
        (b"\xf0\x90\x28", 2),
        (b"\xf0\x90\x8c\x28", 3),
        # Autobahn 6.4.1 to 6.4.4
        (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65\x64\x69\x74\x65\x64", 12),
    ],
)
def test_utf8_fails_fast_at_the_exact_byte(data: bytes, at: int) -> None:
    assert first_wrong_byte(data) == at
    check_fails_fast(data)


crucial = st.sampled_from(b"a\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xdf\xe0\xe2\xed\xef\xf0\xf1\xf3\xf4\xf5")


@given(st.lists(crucial, max_size=8).map(bytes) | st.binary(max_size=6))
@settings(max_examples=200, deadline=None)
def test_utf8_fails_neither_late_nor_early(data: bytes) -> None:
    check_fails_fast(data)


@pytest.mark.parametrize("data", [b"\xce", b"ok\xe2\x82", b"\xf0\x90\x8c"])
def test_text_must_not_end_inside_a_character(data: bytes) -> None:
    for wire in (
        frame(1, data),
        frame(1, data, fin=False) + frame(0),
        frame(1, data[:1], fin=False) + frame(0, data[1:]),
    ):
        for chunks in ([wire], byte_by_byte(wire)):
            assert closes(answer(fed(*chunks))) == (1007, "text is not UTF-8")


def test_each_text_message_begins_anew() -> None:
    """No part of a character is carried over, and binary messages are not looked at."""
    conn = fed(frame(2, b"\xce", fin=False), frame(0, b"\xff"), frame(1, b"\xce", fin=False), frame(0, b"\xba"))
    assert messages(conn) == [b"\xce\xff", "κ"]
    conn.feed(frame(1, b"\xba"))
    assert conn.close_code == 1007


# Limits


def test_a_message_of_just_the_limit() -> None:
    conn = fed(frame(2, bytes(1000)), frame(2, bytes(400), fin=False), frame(0, bytes(600)), max_size=1000)
    assert [len(message) for message in messages(conn)] == [1000, 1000]
    assert not conn.ended


@pytest.mark.parametrize("opcode", [1, 2])
@pytest.mark.parametrize("size", [1001, 65536, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 62, (1 << 63) - 1])
def test_a_message_over_the_limit_is_refused_at_its_header(opcode: int, size: int) -> None:
    header = frame(opcode, length=size)
    for chunks in ([header], byte_by_byte(header)):
        conn = fed(*chunks, max_size=1000)
        assert closes(answer(conn)) == (1009, "message over the limit of 1000 bytes")
        assert conn.in_bad_frame


def test_a_whole_message_over_the_limit() -> None:
    conn = fed(frame(1, b"fits") + frame(2, bytes(1001)), max_size=1000)
    assert messages(conn) == ["fits"]
    assert conn.close_code == 1009
    assert not conn.in_bad_frame


def test_fragments_over_the_limit_are_refused_at_the_header_of_the_first_too_many() -> None:
    conn = fed(frame(2, bytes(400), fin=False), frame(0, bytes(600), fin=False), max_size=1000)
    assert not conn.ended
    conn.feed(frame(0, length=1))
    assert conn.close_code == 1009
    conn = fed(frame(2, bytes(1000), fin=False), frame(0, length=(1 << 63) - 1), max_size=1000)
    assert conn.close_code == 1009


def test_empty_fragments_at_the_limit_of_bytes() -> None:
    conn = fed(frame(2, bytes(1000), fin=False), frame(0, fin=False), frame(0), max_size=1000)
    assert messages(conn) == [bytes(1000)]


def test_the_limit_counts_bytes_not_characters() -> None:
    assert messages(fed(frame(1, "€€€".encode()), max_size=9)) == ["€€€"]
    assert fed(frame(1, "€€€".encode()), max_size=8).close_code == 1009


@pytest.mark.parametrize("size", [0, 1, 10, 1001])
def test_the_first_error_is_told_however_much_has_come(size: int) -> None:
    """A continuation of nothing is one even if it is too long as well, in one chunk as byte by byte."""
    wire = frame(0, bytes(size))
    codes = {fed(*chunks, max_size=1000).close_code for chunks in ([wire], byte_by_byte(wire))}
    assert codes == {1002}


def test_a_header_allocates_nothing() -> None:
    def with_headers():
        conn = connection(max_size=1 << 40)
        conn.feed(frame(2, length=1 << 39))
        conn.feed(frame(9)[:1])
        conn.feed(bytes(100))
        return conn

    with_headers()  # what measures coverage has its memory from here
    tracemalloc.start()
    try:
        conn = with_headers()
        assert tracemalloc.get_traced_memory()[1] < 16 * KIB
    finally:
        tracemalloc.stop()
    assert not conn.ended


def test_frames_of_a_message_are_limited() -> None:
    def wire(count: int) -> bytes:
        return b"".join(
            frame(1 if i == 0 else 0, b"", fin=i == count - 1) + frame(9, b"does not count") for i in range(count)
        )

    assert messages(fed(wire(5), wire(5), max_frames=5)) == ["", ""]
    for chunks in ([wire(6)], byte_by_byte(wire(6))):
        conn = fed(*chunks, max_frames=5)
        assert closes(answer(conn)[5 * 16 :]) == (1009, "message of more than 5 frames")


# Compressed messages (RFC 7692 section 6)


HELLO = b"\xf2\x48\xcd\xc9\xc9\x07\x00"
"""RFC 7692 section 7.2.3.1."""


def test_compressed_messages() -> None:
    wire = b"".join(
        [
            frame(1, HELLO, rsv=4),
            frame(1, HELLO[:3], rsv=4, fin=False) + frame(9, b"!") + frame(0, HELLO[3:]),
            frame(1, b"plain") + frame(2, HELLO),
        ]
    )
    for chunks in ([wire], byte_by_byte(wire)):
        conn = connection(deflate=True)
        for chunk in chunks:
            conn.feed(chunk)
        assert messages(conn) == ["Hello", "Hello", "plain", HELLO]
        assert output(conn) == b"\x8a\x01!"


def test_rsv1_on_a_continuation_is_an_error() -> None:
    conn = connection(deflate=True)
    conn.feed(frame(1, HELLO[:3], rsv=4, fin=False) + frame(0, HELLO[3:], rsv=4))
    assert (conn.close_code, conn.close_reason) == (1002, "reserved bits set")


def test_the_limit_counts_what_comes_out() -> None:
    bomb = connection(CLIENT, deflate=True)
    bomb.send_binary(bytes(100_000))
    wire = output(bomb)
    assert len(wire) < 1000
    for limit, code in ((100_000, 1006), (99_999, 1009)):
        for chunks in ([wire], byte_by_byte(wire)):
            conn = connection(deflate=True, max_size=limit)
            for chunk in chunks:
                conn.feed(chunk)
            assert conn.close_code == code
            assert conn.ended is (code == 1009)
            assert conn.waiting == (code == 1006)


def test_compressed_text_must_be_utf8() -> None:
    client = connection(CLIENT, deflate=True)
    client.send_binary(b"\xff" * 1000)
    wire = output(client)
    conn = connection(deflate=True)
    conn.feed(bytes((wire[0] & 0xF0 | 1,)) + wire[1:])
    assert closes(answer(conn)) == (1007, "text is not UTF-8")
