"""How much is decoded at once, and how many messages may wait."""

from __future__ import annotations

import pytest
from support.connections import CLIENT, connection, fed, messages, output, read_into
from support.frame_streams import Late, Small
from support.helpers import close_payload, frame

from flowserve.websocket.budget import Budget
from flowserve.websocket.constants import State


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
    conn.set_budget(Small(100_000))
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
    conn.set_budget(Small(1 << 20))
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
    conn.set_budget(budget)
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
        conn.set_budget(budget)
        conn.feed(frame(9) * 200)
    assert sum(conn.held for conn in conns) > 100
    nothing = connection()
    nothing.set_budget(budget)
    nothing.feed(frame(1, b"a"))
    assert (nothing.held, nothing.waiting) == (True, 0)
    budget.remaining = 1 << 20
    nothing.feed(b"")
    assert (nothing.held, messages(nothing)) == (False, ["a"])


def test_a_large_payload_that_lands_costs_as_well() -> None:
    conn = connection(max_size=8 << 20)
    conn.set_budget(Late(1 << 20))
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
        conn.set_budget(budget)
    conns[0].feed(frame(9) * 1000)
    assert budget.remaining == 1_000_000 - 256_000
    conns[1].feed(frame(9) * 1000)
    assert budget.remaining == 1_000_000
