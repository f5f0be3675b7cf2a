"""Large payloads, which may be put where they will stay."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.connections import (
    CLIENT,
    KIB,
    SERVER,
    Message,
    answer,
    closes,
    connection,
    fed,
    held_after,
    messages,
    output,
    read_into,
    split,
)
from support.frame_streams import controls, ends, messages_in_fragments, outcome
from support.helpers import MASK, close_payload, frame

from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role

STORE_MARK = 64 * KIB
"""Bytes that are missing of a frame: from here on its payload has a store, where it is all of its message."""


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
