"""The wire state machine (RFC 6455 sections 5 to 7): literal bytes in, messages, state and bytes out."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.helpers import MASK, close_payload, frame, masked

from flowserve.websocket.budget import Budget
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role, State
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate

SERVER, CLIENT = Role.SERVER, Role.CLIENT
KIB = 1024
PONG_MARK = 64 * KIB
"""Bytes of output that wait: beyond it only the newest pong counts (RFC 6455 section 5.5.3)."""

Message = str | bytes


def connection(
    role: Role = SERVER, max_size: int = 1 << 20, max_frames: int = 1000, deflate: bool = False
) -> Connection:
    if not deflate:
        return Connection(role, max_size, max_frames)
    agreed = DeflateParameters(True, True, 15, 15)
    return Connection(role, max_size, max_frames, PerMessageDeflate(DeflateSettings(threshold=1), agreed, role))


def fed(*data: bytes, **options: int) -> Connection:
    """A server's connection that has been fed."""
    peer = connection(**options)
    for piece in data:
        peer.feed(piece)
    return peer


def messages(conn: Connection) -> list[Message]:
    """Take all that waits."""
    return [conn.take() for _ in range(conn.waiting)]


def output(conn: Connection) -> bytes:
    return b"".join(conn.take_output())


def answer(conn: Connection) -> bytes:
    """What is sent when the owner has come to the end."""
    conn.answer_end()
    return output(conn)


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(bounds)]


def closes(wire: bytes) -> tuple[int, str]:
    """The code and reason of a server's close frame, which `wire` must be."""
    assert wire[0] == 0x88
    assert wire[1] == len(wire) - 2 <= 125
    return int.from_bytes(wire[2:4], "big"), wire[4:].decode()


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


# Rules of the stream of frames


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"\x80\x80\0\0\0\0", "continuation frame without"),
        (b"\x00\x80\0\0\0\0", "continuation frame without"),
        (frame(1, b"whole") + frame(0, b"more"), "continuation frame without"),
        (frame(1, b"a", fin=False) + frame(0, b"b") + frame(0, b"c"), "continuation frame without"),
        (frame(1, b"a", fin=False) + frame(1, b"b"), "new message before"),
        (frame(2, b"a", fin=False) + frame(1, b"b", fin=False), "new message before"),
        (b"\xc1\x80\0\0\0\0", "reserved bits"),
        (b"\x83\x80\0\0\0\0", "reserved opcode 3"),
        (b"\x81\x02hi", "not masked"),
        (b"\x09\x80\0\0\0\0", "fragmented control frame"),
        (b"\x89\xfe\x00\x7e\0\0\0\0", "longer than 125 bytes"),
        (b"\x82\xfe\x00\x01\0\0\0\0x", "shortest form"),
        (b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", "first bit"),
    ],
)
def test_errors_become_a_close_frame_with_1002(wire: bytes, words: str) -> None:
    for chunks in ([wire], byte_by_byte(wire)):
        conn = fed(*chunks)
        assert conn.ended
        assert conn.state == State.OPEN  # until the answer is due
        assert conn.close_code == 1002
        assert words in conn.close_reason
        assert closes(answer(conn)) == (1002, conn.close_reason)
        assert conn.state == State.CLOSING
        assert not conn.peer_closed


def test_a_client_refuses_masked_frames() -> None:
    conn = connection(CLIENT)
    conn.feed(frame(1, b"x"))
    assert (conn.close_code, conn.close_reason) == (1002, "frame masked by a server")
    wire = answer(conn)
    assert wire[:2] == bytes((0x88, 0x80 | 2 + len(conn.close_reason)))
    assert masked(wire[6:], wire[2:6]) == b"\x03\xea" + conn.close_reason.encode()


def test_one_error_has_one_answer() -> None:
    conn = fed(b"\xf1\x80\0\0\0\0" * 3, frame(1, b"ignored"), frame(9, b"ignored"), b"\xff" * 50)
    assert messages(conn) == []
    assert closes(answer(conn))[0] == 1002
    assert answer(conn) == b""


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
    conn = connection(max_size=1 << 40)
    tracemalloc.start()
    try:
        conn.feed(frame(2, length=1 << 39))
        conn.feed(frame(9)[:1])
        conn.feed(bytes(100))
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


# Ends keep their place in line


def test_messages_before_an_error_are_taken_first() -> None:
    conn = fed(frame(1, b"one") + frame(2, b"two") + b"\xf1\x80\0\0\0\0" + frame(1, b"never"))
    assert conn.ended
    assert conn.waiting == 2
    assert output(conn) == b""
    assert conn.take() == "one"
    conn.send_text("answer to one")
    assert conn.take() == b"two"
    conn.send_text("answer to two")
    wire = answer(conn)
    assert wire.startswith(b"\x81\x0danswer to one\x81\x0danswer to two\x88")
    assert closes(wire[30:]) == (1002, "reserved bits set")


def test_a_close_behind_messages_is_answered_behind_their_answers() -> None:
    conn = fed(frame(1, b"one"), frame(8, b"\x03\xe8bye"))
    assert (conn.ended, conn.peer_closed, conn.state) == (True, True, State.OPEN)
    assert (conn.close_code, conn.close_reason) == (1000, "bye")
    assert output(conn) == b""
    assert messages(conn) == ["one"]
    conn.send_text("ok")
    assert answer(conn) == b"\x81\x02ok\x88\x05\x03\xe8bye"
    assert conn.state == State.CLOSED


def test_a_close_of_ones_own_stands_before_the_answer() -> None:
    """close() while the peer's end is still in line: it is the answer, and what the peer said stays."""
    conn = fed(frame(1, b"one"), frame(8, b"\x0f\xa1bye"))
    conn.close(1011, "app failed")
    assert output(conn) == b"\x88\x0c\x03\xf3app failed"
    assert (conn.close_code, conn.close_reason) == (4001, "bye")
    assert conn.state == State.CLOSED
    assert answer(conn) == b""


def test_a_close_inside_a_fragmented_message_is_no_error() -> None:
    """Autobahn 7.1.5: control frames may stand between fragments (RFC 6455 section 5.4)."""
    conn = fed(frame(1, b"half", fin=False), frame(8, b"\x03\xe8"))
    assert (conn.close_code, conn.waiting) == (1000, 0)
    assert answer(conn) == b"\x88\x02\x03\xe8"


def test_nothing_counts_behind_a_close_frame() -> None:
    for tail in (frame(1, b"late"), frame(9, b"late"), frame(8, b"\x03\xe9"), b"\xff" * 20):
        for chunks in ([frame(8, b"\x03\xe8") + tail], [frame(8, b"\x03\xe8"), *byte_by_byte(tail)]):
            conn = fed(*chunks)
            assert (conn.waiting, conn.messages_in, conn.close_code) == (0, 0, 1000)
            assert answer(conn) == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize("late", [False, True], ids=["in line", "after the answer"])
@pytest.mark.parametrize(
    "bad",
    [
        b"\xf1\x82\0\0\0\0xy",
        b"\x83\x80\0\0\0\0",
        b"\x81\x02hi",
        frame(1, b"\xff" + b"y" * 300),
        b"\x08\x82\0\0\0\0\x03\xe8" + frame(1, b"x"),
        b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126),
        frame(0, b"continues nothing"),
    ],
)
def test_a_close_frame_is_found_behind_a_bad_frame(bad: bytes, late: bool) -> None:
    close = frame(8, b"\x03\xe8")
    for chunks in ([bad + close], byte_by_byte(bad + close), [bad, close]):
        conn = connection()
        wire = b""
        for chunk in chunks:
            if conn.ended and late:
                wire += answer(conn)
            conn.feed(chunk)
        wire += answer(conn)
        assert closes(wire) == (conn.close_code, conn.close_reason)
        assert conn.close_code in (1002, 1007)
        assert conn.peer_closed
        assert conn.state == State.CLOSED


@pytest.mark.parametrize(
    ("close", "payload"),
    [
        (frame(8, close_payload(1001, "bye")), close_payload(1001, "bye")),
        (frame(8, b""), b""),
        (frame(8, b"\x03"), b"\x03"),
        (frame(8, b"y" * 125), b"y" * 125),
        (frame(8, b"y" * 126), b""),  # longer than any control frame
        (frame(8, close_payload(1001, "bye"))[:-1], None),  # it has not come
    ],
)
@pytest.mark.parametrize("bad", [b"", b"\x83\x80\0\0\0\0"])
def test_what_a_close_frame_behind_an_error_says(bad: bytes, close: bytes, payload: bytes | None) -> None:
    """The same, whatever segments it comes in."""
    bad = bad or frame(0, b"continues nothing")
    for cut in range(len(bad + close)):
        conn = fed((bad + close)[:cut], (bad + close)[cut:])
        assert (conn.peer_close, conn.peer_closed) == (payload, payload is not None)
    assert fed(*byte_by_byte(bad + close)).peer_close == payload


def test_where_a_bad_frame_ends_is_known_or_not() -> None:
    header = frame(1, b"", length=100)
    conn = fed(header, masked(b"ok"))
    assert not conn.in_bad_frame
    conn.feed(b"\xff")
    assert conn.ended
    assert conn.in_bad_frame
    conn.feed(bytes(97))
    assert not conn.in_bad_frame
    assert not fed(frame(1, b"\xff")).in_bad_frame
    assert not fed(frame(1, b"\xff") + frame(8)[:4]).in_bad_frame


# Close frames of the peer


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_legal_close_codes(code: int) -> None:
    """RFC 6455 section 7.4 and its registry. The answer repeats the code (section 5.5.1), and the reason."""
    conn = fed(frame(8, close_payload(code, "because")))
    assert (conn.close_code, conn.close_reason, conn.peer_closed) == (code, "because", True)
    assert answer(conn) == b"\x88\x09" + code.to_bytes(2, "big") + b"because"
    assert conn.state == State.CLOSED


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65535])
def test_illegal_close_codes(code: int) -> None:
    conn = fed(frame(8, code.to_bytes(2, "big")))
    assert conn.close_code == 1002
    assert closes(answer(conn))[0] == 1002
    assert conn.state == State.CLOSED  # it was a close frame


def test_a_close_frame_without_a_code() -> None:
    conn = fed(b"\x88\x80\x01\x02\x03\x04")
    assert (conn.close_code, conn.close_reason) == (1005, "")
    assert answer(conn) == b"\x88\x00"
    assert conn.state == State.CLOSED


def test_a_close_frame_of_one_byte() -> None:
    conn = fed(frame(8, b"\x03"))
    assert closes(answer(conn))[0] == 1002
    assert conn.state == State.CLOSED


@pytest.mark.parametrize("reason", [b"\xff", b"ok\xce", b"\xed\xa0\x80"])
def test_a_close_reason_that_is_not_utf8(reason: bytes) -> None:
    conn = fed(frame(8, b"\x03\xe8" + reason))
    assert closes(answer(conn)) == (1007, "close reason is not UTF-8")
    assert conn.state == State.CLOSED


def test_the_longest_close_reason() -> None:
    conn = fed(frame(8, b"\x03\xe8" + "€".encode() * 41))
    assert (conn.close_code, conn.close_reason) == (1000, "€" * 41)


# Closing from this end


def test_this_end_closes_first() -> None:
    conn = connection()
    conn.close(1000, "done")
    assert output(conn) == b"\x88\x06\x03\xe8done"
    assert (conn.state, conn.ended, conn.peer_closed) == (State.CLOSING, False, False)
    assert (conn.close_code, conn.close_reason) == (1000, "done")
    conn.feed(frame(8, b"\x0f\xa1mine"))
    assert (conn.state, conn.ended, conn.peer_closed) == (State.CLOSED, True, True)
    assert (conn.close_code, conn.close_reason) == (1000, "done")
    assert answer(conn) == b""


def test_both_close_at_once() -> None:
    """Each gets the other's close frame as its answer: no third one goes out."""
    server, client = connection(SERVER), connection(CLIENT)
    server.close(1001)
    client.close(4000, "me too")
    from_server, from_client = output(server), output(client)
    server.feed(from_client)
    client.feed(from_server)
    assert server.state == client.state == State.CLOSED
    assert answer(server) == answer(client) == b""
    assert (server.close_code, client.close_code) == (1001, 4000)


def test_messages_on_the_way_when_this_end_closes_have_no_reader() -> None:
    conn = connection()
    conn.close(1000)
    conn.feed(frame(1, b"late") + frame(2, b"half", fin=False) + frame(0, b"whole"))
    assert conn.waiting == 0
    assert conn.messages_in == 2
    conn.feed(frame(8, b"\x03\xe8"))
    assert conn.state == State.CLOSED


def test_messages_that_came_before_this_end_closed_can_still_be_taken() -> None:
    conn = fed(frame(1, b"early"))
    conn.close(1000)
    assert messages(conn) == ["early"]


@pytest.mark.parametrize("wire", [b"\xf1\x80\0\0\0\0", frame(1, b"\xff"), frame(2, bytes(1001))])
def test_an_error_while_closing_has_no_second_close_frame(wire: bytes) -> None:
    conn = connection(max_size=1000)
    conn.close(1000)
    assert output(conn) == b"\x88\x02\x03\xe8"
    conn.feed(wire)
    assert conn.ended
    assert (conn.state, conn.close_code) == (State.CLOSING, 1000)
    assert answer(conn) == b""
    conn.feed(frame(8, b"\x03\xe8"))
    assert conn.state == State.CLOSED


def test_a_bad_close_frame_while_closing_is_a_close_frame() -> None:
    conn = connection()
    conn.close(1000)
    output(conn)
    conn.feed(frame(8, b"\x03"))
    assert conn.state == State.CLOSED
    assert answer(conn) == b""


def test_close_says_nothing_twice() -> None:
    conn = connection()
    conn.close(1000, "first")
    conn.close(1011, "second")
    assert output(conn) == b"\x88\x07\x03\xe8first"
    assert (conn.close_code, conn.close_reason) == (1000, "first")


def test_close_with_1005_sends_no_code() -> None:
    conn = connection()
    conn.close(1005)
    assert output(conn) == b"\x88\x00"


def test_an_end_that_nobody_announced_is_1006() -> None:
    assert connection().close_code == 1006


@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("é" * 100, "é" * 61),
        ("€" * 42, "€" * 41),
        ("x" + "€" * 41, "x" + "€" * 40),
        ("𝄞" * 31, "𝄞" * 30),
        ("xxx" + "𝄞" * 31, "xxx" + "𝄞" * 30),
        ("xxxx" + "𝄞" * 31, "xxxx" + "𝄞" * 29),
    ],
)
def test_a_long_reason_is_cut_between_characters(reason: str, cut: str) -> None:
    conn = connection()
    conn.close(1000, reason)
    assert closes(output(conn)) == (1000, cut)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=140))
def test_any_reason_fits(reason: str) -> None:
    conn = connection()
    conn.close(4000, reason)
    code, sent = closes(output(conn))
    assert code == 4000
    assert reason.startswith(sent)
    assert sent == reason or len(reason[: len(sent) + 1].encode()) > 123


# What waits, and what is done at once


def test_no_more_is_decoded_than_may_wait() -> None:
    conn = connection()
    conn.max_waiting = 2
    conn.feed(b"".join(frame(1, b"%d" % i) for i in range(5)) + frame(9, b"!") + frame(1, b"x")[:3])
    assert (conn.waiting, conn.held, conn.is_full(), output(conn)) == (3, True, True, b"")
    assert messages(conn) == ["0", "1", "2"]
    conn.feed(b"")
    assert (conn.waiting, conn.held, output(conn)) == (2, False, b"\x8a\x01!")
    conn.feed(frame(1, b"x")[3:])
    assert messages(conn) == ["3", "4", "x"]


def test_no_more_bytes_are_decoded_than_may_wait() -> None:
    conn = connection(deflate=True)
    conn.max_waiting = 100
    client = connection(CLIENT, deflate=True)
    for _ in range(9):
        client.send_binary(bytes(50_000))
    conn.feed(output(client))
    assert (conn.waiting, conn.waiting_size, conn.held) == (2, 100_000, True)


def test_text_in_pieces_waits_as_the_bytes_that_came() -> None:
    """As a str a single wide character makes it four times as long."""
    text = "x" * 2000 + "\U0001f600"
    conn = fed(frame(1, text.encode()[:2002], fin=False), frame(0, text.encode()[2002:]))
    assert (conn.waiting, conn.waiting_size) == (1, 2004)
    assert messages(conn) == [text]
    assert (conn.waiting, conn.waiting_size) == (0, 0)


def test_what_is_held_waits_for_the_end_of_the_connection_too() -> None:
    """An error behind more messages than may wait is found when there is room for them."""
    conn = connection()
    conn.max_waiting = 1
    conn.feed(frame(1, b"a") * 3 + frame(3) + frame(8, close_payload(1001)))
    assert (conn.ended, conn.held) == (False, True)
    assert messages(conn) == ["a", "a"]
    conn.feed(b"")
    assert (conn.ended, conn.close_code, conn.peer_closed, conn.held) == (True, 1002, True, False)


def test_a_close_of_this_end_passes_over_what_is_held() -> None:
    conn = connection()
    conn.max_waiting = 1
    conn.feed(frame(1, b"a") * 3 + frame(8, close_payload(1001)))
    conn.close(1000)
    conn.feed(b"")
    assert (conn.state, conn.waiting, conn.held) == (State.CLOSED, 2, False)


def test_inflation_stops_at_what_may_be_done_at_once() -> None:
    conn = connection(deflate=True)
    conn.share(Small(100_000))
    client = connection(CLIENT, deflate=True)
    client.send_binary(bytes(1 << 20))
    conn.feed(output(client))
    parts = 0
    while conn.held:
        assert 0 < conn.part_size <= 110_000 * (parts + 1)
        conn.feed(b"")
        parts += 1
    assert parts > 8
    assert messages(conn) == [bytes(1 << 20)]


@pytest.mark.parametrize("piece", [frame(9), frame(1), frame(0, fin=False), frame(10, b"x" * 125)])
def test_frames_cost_as_well(piece: bytes) -> None:
    """However short they are, a read full of them does not hold up the event loop for long."""
    conn = connection(max_frames=1 << 20)
    conn.share(Small(1 << 20))
    conn.feed(frame(1, fin=False) + frame(9) if piece == frame(0, fin=False) else b"")
    conn.feed(piece * 20_000)
    assert conn.held
    calls = 1
    while conn.held:
        conn.feed(b"")
        calls += 1
    assert 5 <= calls <= 20


def test_compressed_bytes_that_give_nothing_are_asked_the_time_for() -> None:
    """A block of nothing takes longer than the bytes that another one gives."""

    class Asked(Small):
        times = 0

        def used_up(self) -> bool:
            self.times += 1
            return self.times % 4 == 0

    conn = connection(deflate=True)
    budget = Asked(1 << 20)
    conn.share(budget)
    conn.feed(frame(2, b"\x00\x00\x00\xff\xff" * 8000 + b"\x00", rsv=4))
    calls = 1
    while conn.held:
        conn.feed(b"")
        calls += 1
    assert messages(conn) == [b""]
    assert budget.times >= 40_000 // 4096
    assert calls == budget.times // 4 + 1


def test_no_more_is_decoded_where_too_much_was() -> None:
    budget = Late(1 << 20)
    conns = [connection() for _ in range(200)]
    for conn in conns:
        conn.share(budget)
        conn.feed(frame(9) * 200)
    assert sum(conn.held for conn in conns) > 100
    nothing = connection()
    nothing.share(budget)
    nothing.feed(frame(1, b"a"))
    assert (nothing.held, nothing.waiting) == (True, 0)
    budget.left = 1 << 20
    nothing.feed(b"")
    assert (nothing.held, messages(nothing)) == (False, ["a"])


def test_a_large_payload_that_lands_costs_as_well() -> None:
    conn = connection(max_size=8 << 20)
    conn.share(Late(1 << 20))
    wire = frame(2, bytes(8 << 20))
    conn.feed(wire[:100_000])
    read_into(conn, wire[100_000:200_000])
    assert not conn.held
    for at in range(200_000, 4_000_000, 100_000):
        read_into(conn, wire[at : at + 100_000])
    assert conn.held
    conn.feed(b"")
    assert not conn.held


def test_a_budget_is_had_back_when_half_is_used() -> None:
    budget = Budget(1_000_000)
    conns = [connection(), connection()]
    for conn in conns:
        conn.share(budget)
    conns[0].feed(frame(9) * 1000)
    assert budget.left == 1_000_000 - 256_000
    conns[1].feed(frame(9) * 1000)
    assert budget.left == 1_000_000


# Pings and pongs


def test_a_ping_is_answered_with_its_payload() -> None:
    assert output(fed(frame(9))) == b"\x8a\x00"
    assert output(fed(frame(9, b"x" * 125))) == b"\x8a\x7d" + b"x" * 125
    conn = connection(CLIENT)
    conn.feed(b"\x89\x02hi")
    wire = output(conn)
    assert wire[:2] == b"\x8a\x82"
    assert masked(wire[6:], wire[2:6]) == b"hi"


def test_a_ping_of_ones_own() -> None:
    conn = connection()
    conn.ping(b"\0\0\0\1")
    assert output(conn) == b"\x89\x04\0\0\0\1"
    conn.feed(frame(10, b"\0\0\0\1"))
    assert conn.pong_received == b"\0\0\0\1"
    assert output(conn) == b""


def pongs(wire: bytes) -> list[int]:
    """The numbers in pongs of 4 bytes each."""
    assert len(wire) % 6 == 0
    found = [wire[at : at + 6] for at in range(0, len(wire), 6)]
    assert all(pong[:2] == b"\x8a\x04" for pong in found)
    return [int.from_bytes(pong[2:], "big") for pong in found]


def ping_flood(count: int) -> bytes:
    return b"".join(frame(9, i.to_bytes(4, "big")) for i in range(count))


def test_all_pings_are_answered_below_the_mark() -> None:
    few = PONG_MARK // 6
    assert pongs(output(fed(ping_flood(few)))) == list(range(few))


def test_beyond_the_mark_only_the_newest_ping_is_answered() -> None:
    few = -(-PONG_MARK // 6)
    conn = fed(ping_flood(50_000))
    assert conn.output_size <= PONG_MARK + 6
    assert pongs(output(conn)) == [*range(few), 49_999]
    assert output(conn) == b""
    conn.feed(ping_flood(2))
    assert pongs(output(conn)) == [0, 1]


def test_a_pong_behind_much_output_waits_in_the_mailbox() -> None:
    conn = connection()
    conn.send_binary(bytes(PONG_MARK))
    size = conn.output_size
    for i in range(1000):
        conn.feed(frame(9, i.to_bytes(4, "big")))
    assert conn.output_size == size
    assert pongs(output(conn)[size:]) == [999]


def test_pings_in_line_behind_an_error_or_a_close_are_not_answered() -> None:
    """RFC 6455 section 5.5.2: 'unless it already received a Close frame'; and section 7.1.7."""
    assert output(fed(b"\xf1\x80\0\0\0\0" + frame(9, b"x"))) == b""
    assert output(fed(frame(8, b"\x03\xe8") + frame(9, b"x"))) == b""


def test_a_ping_after_this_ends_close_frame_is_answered() -> None:
    """RFC 6455 section 5.5.2: a pong MUST be sent unless a close frame was received; 5.5.1 forbids data only."""
    conn = connection()
    conn.close(1000)
    output(conn)
    conn.feed(frame(9, b"still there?"))
    assert output(conn) == b"\x8a\x0cstill there?"


# Sending


def test_a_server_does_not_mask() -> None:
    conn = connection()
    conn.send_text("Hello")
    conn.send_binary(b"\x00\xff")
    conn.send_text("")
    assert conn.output_size == 7 + 4 + 2
    assert output(conn) == b"\x81\x05Hello\x82\x02\x00\xff\x81\x00"
    assert (conn.messages_out, conn.bytes_out, conn.output_size) == (3, 7, 0)


def test_a_client_masks_each_frame_anew() -> None:
    conn = connection(CLIENT)
    keys = set()
    for _ in range(20):
        conn.send_text("Hello")
        wire = output(conn)
        assert wire[:2] == b"\x81\x85"
        assert masked(wire[6:], wire[2:6]) == b"Hello"
        keys.add(wire[2:6])
    assert len(keys) > 15  # 32 random bits each (RFC 6455 section 5.3)


def test_a_lone_surrogate_is_no_text() -> None:
    conn = connection()
    with pytest.raises(UnicodeEncodeError):
        conn.send_text("\ud800")
    conn.send_text("ok")
    assert output(conn) == b"\x81\x02ok"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 32767, 32768, 65535, 65536, 200_000])
@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
def test_round_trip_in_both_directions(size: int, deflate: bool) -> None:
    server, client = connection(SERVER, deflate=deflate), connection(CLIENT, deflate=deflate)
    sent: list[Message] = ["é" * (size // 2), bytes(i % 251 for i in range(size))]
    for this, other in ((server, client), (client, server)):
        this.send_text(str(sent[0]))
        this.send_binary(bytes(sent[1]))
        pieces = this.take_output()
        assert sum(map(len, pieces)) > 0
        for piece in pieces:
            other.feed(piece)
        assert messages(other) == sent
        assert other.bytes_in == this.bytes_out == sum(len(m.encode()) if isinstance(m, str) else len(m) for m in sent)


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


# One chunk equals byte by byte


class Outcome(NamedTuple):
    messages: list[Message]
    output: bytes
    state: int
    ended: bool
    peer_closed: bool
    peer_close: bytes | None
    code: int
    reason: str
    pong: bytes | None
    messages_in: int
    answer: bytes


class Small(Budget):
    """The same in each call."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def begin(self) -> None:
        self.allowance = self.most


class Late(Budget):
    """It is had back by nobody."""

    def refill(self) -> None:
        pass


def outcome(
    chunks: Iterable[bytes],
    deflate: bool = False,
    max_size: int = 2000,
    give: Callable[[Connection, bytes], None] = Connection.feed,
    allowance: int = 0,
) -> Outcome:
    """With `allowance`, no more is decoded at once, and at most two messages wait."""
    conn = connection(max_size=max_size, max_frames=8, deflate=deflate)
    if allowance:
        conn.max_waiting = 1
        conn.share(Small(allowance))
    taken: list[Message] = []
    for chunk in chunks:
        give(conn, chunk)
        while conn.held:
            assert conn.waiting <= (2 if allowance else 0)
            taken += messages(conn)
            conn.feed(b"")
    return Outcome(
        taken + messages(conn),
        output(conn),
        conn.state,
        conn.ended,
        conn.peer_closed,
        conn.peer_close,
        conn.close_code,
        conn.close_reason,
        conn.pong_received,
        conn.messages_in,
        answer(conn),
    )


keys = st.sampled_from([MASK, b"\0\0\0\0", b"\xff\x80\x01\x7f"])
controls = st.builds(
    lambda opcode, payload, key: frame(opcode, payload, mask=key),
    st.sampled_from([9, 10]),
    st.binary(max_size=125),
    keys,
)
bodies = st.tuples(st.just(1), st.text(max_size=60).map(str.encode)) | st.tuples(st.just(2), st.binary(max_size=300))


@st.composite
def messages_in_fragments(draw: st.DrawFn) -> bytes:
    """A message, perhaps in fragments with control frames between them."""
    opcode, body = draw(bodies)
    fragments = split(body, draw(st.lists(st.integers(0, 300), max_size=4))) or [b""]
    wire = b""
    for i, fragment in enumerate(fragments):
        wire += frame(opcode if i == 0 else 0, fragment, fin=i == len(fragments) - 1, mask=draw(keys))
        if draw(st.integers(0, 4)) == 0:
            wire += draw(controls)
    return wire


ends = st.sampled_from(
    [
        b"",
        frame(8, close_payload(1000, "bye")),
        frame(8),
        frame(8, b"\x03"),
        frame(8, close_payload(1005)),
        frame(8, b"\x03\xe8\xff"),
        frame(1, b"\xce\xba\xff\xff and more"),
        frame(1, b"\xce\xba", fin=False) + frame(0, b"\xf4\x90\x80"),
        frame(1, b"\xce"),
        frame(2, bytes(2001)),
        frame(2, bytes(1999), fin=False) + frame(0, b"xy"),
        frame(2, b"", fin=False) + frame(0, b"", fin=False) * 8,
        frame(1, b"text", rsv=4),
        frame(0, b"continues nothing"),
        frame(1, b"new", fin=False) + frame(2, b"message"),
        frame(3, b"reserved"),
        frame(9, bytes(126)),
        frame(9, b"", fin=False),
        frame(1, b"not masked", mask=None),
        frame(2, b"x", length_bytes=2),
        frame(2, bytes(200), length_bytes=8),
        frame(2, b"", length=1 << 63),
        frame(8, close_payload(1000, "bye"), fin=False),
        frame(8, close_payload(1000, "bye"), mask=None),
        frame(8, close_payload(1000, "bye"), rsv=4),
        frame(8, close_payload(1000, "bye"), length_bytes=2),
        frame(8, close_payload(1000) + bytes(124)),
        frame(8, close_payload(1000, "half"))[:-2],
    ]
)


@given(
    items=st.lists(messages_in_fragments() | controls, max_size=5),
    end=ends,
    tail=st.sampled_from(
        [
            b"",
            frame(1, b"behind"),
            frame(8, b"\x03\xe8"),
            frame(9) + frame(8) + frame(1, b"x"),
            b"\xff" * 9,
            frame(8, close_payload(1001, "going")) + frame(8, close_payload(1000)),
            frame(9, b"y" * 20)[:-2] + frame(8, close_payload(1001, "going")),
            frame(8, close_payload(1001, "go" * 60))[:-1],
            frame(8, close_payload(1001) + bytes(124)),
        ]
    ),
    cuts=st.lists(st.integers(0, 2**16), max_size=10),
)
@settings(max_examples=300, deadline=None)
def test_one_chunk_equals_any_others(items: list[bytes], end: bytes, tail: bytes, cuts: list[int]) -> None:
    wire = b"".join(items) + end + tail
    expected = outcome([wire])
    assert outcome(split(wire, cuts)) == expected
    assert outcome(byte_by_byte(wire)) == expected


@given(
    items=st.lists(messages_in_fragments() | controls, max_size=8),
    end=ends,
    cuts=st.lists(st.integers(0, 2**16), max_size=3),
    allowance=st.integers(1, 2000),
)
@settings(deadline=None)
def test_what_is_decoded_in_parts_equals_the_whole(
    items: list[bytes], end: bytes, cuts: list[int], allowance: int
) -> None:
    wire = b"".join(items) + end
    assert outcome(split(wire, cuts), allowance=allowance) == outcome([wire])


@given(
    fragments=st.lists(bodies, min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 2**16), max_size=10),
    broken=st.none() | st.tuples(st.integers(0, 2**16), st.integers(1, 255)),
    allowance=st.integers(1, 4000),
)
def test_one_chunk_equals_any_others_compressed(
    fragments: list[tuple[int, bytes]], cuts: list[int], broken: tuple[int, int] | None, allowance: int
) -> None:
    client = connection(CLIENT, deflate=True)
    for opcode, body in fragments:
        if opcode == 1:
            client.send_text(body.decode())
        else:
            client.send_binary(body)
    whole = bytearray(output(client))
    if broken is not None:
        whole[broken[0] % len(whole)] ^= broken[1]
    wire = bytes(whole)
    expected, cut, bytewise = (outcome(chunks, True) for chunks in ([wire], split(wire, cuts), byte_by_byte(wire)))
    assert outcome(split(wire, cuts), True, allowance=allowance) == cut
    if broken is None:
        assert expected.messages == [body.decode() if opcode == 1 else body for opcode, body in fragments]
        assert expected == cut == bytewise
    else:  # which of several errors is found first depends on how much is there to be inflated
        for each in (cut, bytewise):
            assert (each.messages, each.output, each.ended) == (expected.messages, expected.output, expected.ended)


# Large payloads, which may be put where they will stay

STORE_MARK = 64 * KIB
"""Bytes that are missing of a frame: from here on its payload has a store, where it is all of its message."""


def read_into(conn: Connection, data: bytes) -> None:
    """Give `data` to the connection as a transport does that reads into its room where there is one."""
    while data and conn.wants_buffer():
        room = conn.get_buffer()
        size = min(len(room), len(data))
        room[:size] = data[:size]
        conn.buffer_updated(size)
        del room
        conn.feed(b"")
        data = data[size:]
    if data:
        conn.feed(data)


def large(opcode: int, body: bytes, mask: bytes | None = MASK) -> list[bytes]:
    """A frame of `body` in two chunks: its header with a little of it, and the rest."""
    wire = frame(opcode, body, mask=mask)
    return [wire[:40], wire[40:]]


@pytest.mark.parametrize("role", [SERVER, CLIENT])
@pytest.mark.parametrize("size", [STORE_MARK + 40, 300_001])
@pytest.mark.parametrize("body", [b"ASCII ", "Zähne ".encode()])
def test_a_large_payload_lands(role: Role, size: int, body: bytes) -> None:
    whole = (body * size)[:size].decode(errors="ignore").encode()
    conn = connection(role)
    for opcode in (1, 2):
        for chunk in large(opcode, whole, MASK if role is SERVER else None):
            read_into(conn, chunk)
        assert not conn.wants_buffer()
    assert messages(conn) == [whole.decode(), whole]
    assert (conn.messages_in, conn.bytes_in) == (2, 2 * len(whole))


def test_what_has_a_store() -> None:
    def wants(*chunks: bytes) -> bool:
        return fed(*chunks).wants_buffer()

    assert wants(frame(2, length=STORE_MARK))
    assert not wants(frame(2, length=STORE_MARK - 1))
    assert not wants(frame(2, length=STORE_MARK, fin=False))
    assert not wants(frame(2, b"x", fin=False), frame(0, length=STORE_MARK))
    assert wants(frame(2, length=STORE_MARK), frame(8))  # a part of the payload
    assert not wants(frame(2, length=2 << 20))  # over the limit


def test_frames_behind_a_large_one() -> None:
    conn = connection()
    first, rest = large(1, b"x" * 100_000)
    read_into(conn, first)
    read_into(conn, rest + frame(9, b"ping") + frame(1, b"next") + large(1, b"y" * 100_000)[0])
    assert output(conn) == b"\x8a\x04ping"
    assert messages(conn) == ["x" * 100_000, "next"]
    assert conn.wants_buffer()
    read_into(conn, large(1, b"y" * 100_000)[1] + frame(8, close_payload(4001, "bye")))
    assert messages(conn) == ["y" * 100_000]
    assert (conn.close_code, conn.close_reason) == (4001, "bye")


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0", b"\xf4\x90", b"\xc3("])
@pytest.mark.parametrize("before", [1, 50_000, 90_000])
def test_utf8_fails_fast_in_a_store(bad: bytes, before: int) -> None:
    conn = connection()
    wire = frame(1, b"x" * before + bad + b"x" * 100_000)
    end = 14 + before + len(bad)
    read_into(conn, wire[:15])
    read_into(conn, wire[15 : end - 1])
    assert not conn.ended
    read_into(conn, wire[end - 1 : end])
    assert conn.ended
    assert not conn.wants_buffer()
    assert closes(answer(conn))[0] == 1007
    read_into(conn, wire[end:] + frame(8, b"\x03\xe8"))
    assert conn.peer_closed


def test_text_that_turns_out_not_to_be_ascii() -> None:
    body = b"x" * 80_000 + "ö".encode() + b"y" * 80_000 + "ü".encode()
    wire = frame(1, body)
    for cut in (14 + 80_000, 14 + 80_001, 14 + 80_002, len(wire) - 1):
        conn = connection()
        read_into(conn, wire[:20])
        read_into(conn, wire[20:cut])
        read_into(conn, wire[cut:])
        assert messages(conn) == [body.decode()]


@pytest.mark.parametrize("opcode", [1, 2])
@pytest.mark.parametrize("after", [1, 3, 50_000])
def test_parts_of_a_large_message(opcode: int, after: int) -> None:
    """A part that is taken takes the store away, wherever the mask stands."""
    wire = frame(opcode, b"0123456789" * 10_000)
    conn = connection()
    read_into(conn, wire[:20])
    read_into(conn, wire[20 : 20 + after])
    assert conn.part_size == 6 + after
    first = conn.take_part()
    assert not conn.wants_buffer()
    read_into(conn, wire[20 + after : 90_000])
    second = conn.take_part()
    read_into(conn, wire[90_000:])
    third = conn.take()
    expected: Message = b"0123456789" * 10_000 if opcode == 2 else "0123456789" * 10_000
    assert len(first) == 6 + after
    assert first + second + third == expected  # type: ignore[operator]


def test_nowhere_to_land() -> None:
    with pytest.raises(ValueError, match="room"):
        connection().buffer_updated(1)


def test_the_room_of_a_large_payload_is_in_proportion_to_what_came() -> None:
    def feed(conn: Connection) -> None:
        for chunk in split(frame(2, bytes(30_000), length=1 << 30), [100, 2000, 9000]):
            read_into(conn, chunk)

    assert held_after(feed, max_size=1 << 30) < 16 * 30_000


large_bodies = st.builds(
    lambda opcode, word, size: (opcode, (word * size)[:size].decode(errors="ignore").encode()),
    st.sampled_from([1, 2]),
    st.sampled_from([b"0123456789abc", "gro\xdfe W\xf6rter ".encode(), "\U0001f600".encode()]),
    st.integers(STORE_MARK, 3 * STORE_MARK),
)


@given(
    items=st.lists(
        large_bodies.map(lambda body: frame(*body)) | messages_in_fragments() | controls, min_size=1, max_size=4
    ),
    end=ends,
    cuts=st.lists(st.integers(0, 2**20), max_size=8),
)
@settings(max_examples=100, deadline=None)
def test_landing_equals_feeding(items: list[bytes], end: bytes, cuts: list[int]) -> None:
    wire = b"".join(items) + end
    expected = outcome([wire], max_size=4 * STORE_MARK)
    assert outcome(split(wire, cuts), max_size=4 * STORE_MARK) == expected
    assert outcome(split(wire, cuts), max_size=4 * STORE_MARK, give=read_into) == expected


def test_a_large_text_is_sent_as_it_is() -> None:
    text = "ASCII " * 20_000
    for role, body in ((SERVER, text), (SERVER, text + "\xfc"), (CLIENT, text)):
        conn, peer = connection(role), connection(CLIENT if role is SERVER else SERVER)
        conn.send_text(body)
        assert (conn.messages_out, conn.bytes_out) == (1, len(body.encode()))
        size = conn.output_size
        wire = output(conn)
        assert size == len(wire)
        peer.feed(wire)
        assert messages(peer) == [body]


# Whatever a peer sends


hostile = st.lists(
    st.binary(max_size=40)
    | messages_in_fragments()
    | controls
    | ends
    | st.builds(
        lambda first, second, rest: bytes((first, second)) + rest,
        st.integers(0, 255),
        st.integers(128, 255),
        st.binary(max_size=20),
    ),
    max_size=12,
).map(b"".join)


@given(data=hostile, cuts=st.lists(st.integers(0, 2**16), max_size=6), deflate=st.booleans(), end=st.booleans())
@example(data=b"\x82\xff\x7f" + b"\xff" * 7 + b"k" * 500, cuts=[20], deflate=False, end=False)
@example(data=ping_flood(2000), cuts=[1000], deflate=False, end=False)
@settings(max_examples=400, deadline=None)
def test_a_peer_raises_nothing_and_fills_nothing(data: bytes, cuts: list[int], deflate: bool, end: bool) -> None:
    conn = connection(max_size=500, max_frames=8, deflate=deflate)
    fed_so_far = 0
    for chunk in split(data, cuts):
        conn.feed(chunk)
        fed_so_far += len(chunk)
        if end:
            conn.answer_end()
        assert conn.output_size <= min(PONG_MARK + 127, fed_so_far) + 127
        assert conn.waiting <= fed_so_far // 6
        assert conn.waiting_size <= (fed_so_far if not deflate else 500 * conn.waiting)
        assert conn.close_code in (1005, 1006) or 1000 <= conn.close_code <= 4999
        assert len(conn.close_reason.encode()) <= 123
        for message in messages(conn):
            assert len(message) <= 500
    before = conn.state
    conn.answer_end()
    assert conn.state == (before if before != State.OPEN or not conn.ended else max(State.CLOSING, conn.state))


def held_after(feed: Callable[[Connection], None], **options: int) -> int:
    """Bytes that a connection holds on to when its messages and its output have been taken."""
    conn = connection(**options)
    tracemalloc.start()
    try:
        feed(conn)
        messages(conn)
        conn.take_output()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@given(data=hostile, cuts=st.lists(st.integers(0, 2**16), max_size=6))
def test_what_stays_is_bounded_by_the_limit(data: bytes, cuts: list[int]) -> None:
    def feed(conn: Connection) -> None:
        for _ in range(20):
            for chunk in split(data, cuts):
                conn.feed(chunk)

    assert held_after(feed, max_size=500, max_frames=8) < 16 * KIB


@pytest.mark.parametrize("end", [b"\xf1\x80\0\0\0\0" + frame(2, length=1 << 40), frame(8, b"\x03\xe8")])
def test_nothing_stays_behind_an_end(end: bytes) -> None:
    def feed(conn: Connection) -> None:
        conn.feed(frame(2, bytes(100_000), fin=False))
        conn.feed(end)
        for _ in range(100):
            conn.feed(bytes(10_000))

    assert held_after(feed) < 32 * KIB  # the last chunk, at most


# Cost


def allocations(conn: Connection, chunks: Iterable[bytes]) -> int:
    """The sum, over every feed, of the bytes that it had allocated at its peak: what it copied."""
    total = 0
    tracemalloc.start()
    try:
        for chunk in chunks:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            conn.feed(chunk)
            total += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return total


@pytest.mark.parametrize("opcode", [1, 2])
def test_fragments_of_one_byte_cost_in_proportion(opcode: int) -> None:
    def cost(count: int) -> int:
        conn = connection(max_frames=count + 2)
        conn.feed(frame(opcode, fin=False))
        total = allocations(conn, [frame(0, b"x", fin=False)] * count)
        conn.feed(frame(0, b"y"))
        assert len(conn.take()) == count + 1
        return total

    assert cost(16_000) < 12 * cost(2000)


@pytest.mark.parametrize("opcode", [1, 2])
def test_a_frame_in_bytes_costs_in_proportion(opcode: int) -> None:
    def cost(count: int) -> int:
        conn = connection()
        total = allocations(conn, byte_by_byte(frame(opcode, b"x" * count)))
        assert len(conn.take()) == count
        return total

    assert cost(16_000) < 12 * cost(2000)


def test_fragments_take_no_more_room_than_their_bytes() -> None:
    def feed(conn: Connection) -> None:
        conn.feed(frame(2, fin=False))
        for _ in range(20_000):
            conn.feed(frame(0, b"x", fin=False))

    assert held_after(feed, max_frames=30_000) < 2 * 20_000 + 4 * KIB


def test_many_waiting_messages_are_taken_in_proportion() -> None:
    def cost(count: int) -> int:
        conn = fed(frame(1, b"x") * count)
        total = 0
        tracemalloc.start()
        try:
            for _ in range(count):
                before = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
                conn.take()
                total += tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        return total

    assert cost(8000) < 24 * max(cost(1000), 8 * KIB)  # 64 times as much if each take moved the others


# A backlog


@pytest.mark.parametrize("role", [SERVER, CLIENT])
@pytest.mark.parametrize("least", [0, 1, 100, 102, 104, 106, 110, 120, 30_000, 40_110, 1_000_000])
def test_some_of_the_output_is_whole_frames(role: Role, least: int) -> None:
    conn = connection(role)
    sizes = [100, 40_000, 5, 100_000, 0, 14, 32_768, 3, 32_768, 200]
    for size in sizes:
        conn.send_binary(bytes(size))
    got: list[Message] = []
    while conn.output_size:
        size = conn.output_size
        piece = b"".join(conn.take_some(least))
        assert len(piece) == size - conn.output_size >= min(least, size)
        peer = connection(CLIENT if role == SERVER else SERVER)
        peer.feed(piece)
        assert len(piece) < least + 100_040
        assert not peer.ended
        got += messages(peer)
    assert [len(message) for message in got] == sizes


def test_some_of_the_output_is_one_frame_at_least() -> None:
    conn = connection()
    conn.send_binary(b"a")
    conn.send_binary(b"b")
    assert conn.take_some(0) == [b"\x82\x01a"]
    assert conn.take_some(-1) == [b"\x82\x01b"]
    assert conn.take_some(0) == []


def test_output_that_is_disowned() -> None:
    conn = connection()
    conn.send_text("gone")
    conn.feed(frame(9, b"!"))
    conn.disown_output()
    assert conn.output_size == 0
    conn.close(1013, "too slow")
    assert conn.output_size == 12
    assert output(conn) == b"\x88\x0a\x03\xf5too slow"
