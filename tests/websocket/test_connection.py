"""Errors and the closing handshake (RFC 6455 sections 5 and 7): literal bytes in, state and bytes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.connections import CLIENT, SERVER, answer, byte_by_byte, closes, connection, fed, messages, output
from support.helpers import close_payload, frame, masked

from flowserve.websocket.constants import State

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
