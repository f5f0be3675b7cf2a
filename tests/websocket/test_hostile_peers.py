"""Whatever a peer sends: nothing is raised, and time and memory are in proportion to it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.connections import KIB, PONG_MARK, byte_by_byte, connection, fed, held_after, messages, ping_flood, split
from support.frame_streams import controls, ends, messages_in_fragments
from support.helpers import frame

from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import State

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
