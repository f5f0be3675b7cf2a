"""What is sent: frames, pongs (RFC 6455 sections 5.5.2 and 5.5.3), and as much of them as a stream takes."""

from __future__ import annotations

import pytest
from support.connections import CLIENT, PONG_MARK, SERVER, Message, connection, fed, messages, output, ping_flood
from support.helpers import frame, masked

from flowserve.websocket.constants import Role

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
    conn.discard_output()
    assert conn.output_size == 0
    conn.close(1013, "too slow")
    assert conn.output_size == 12
    assert output(conn) == b"\x88\x0a\x03\xf5too slow"
