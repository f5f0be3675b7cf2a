"""Receiving, and backpressure on reading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from support.helpers import frame
from support.sessions import (
    KIB,
    MIB,
    PEERS_CLOSE,
    PEERS_CLOSE_ANSWERED,
    ClockLoop,
    Make,
    Wire,
    close_frame,
    codec,
    receive,
    start,
)

from flowserve.session.session import Session
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role, State

# Receiving


def test_messages_are_taken_in_order(loop: ClockLoop, make: Make) -> None:
    session, wire = make()
    assert not session.ready()
    for i in range(0, 10, 2):
        session.data_received(frame(1, b"%d" % i) + frame(2, b"%d" % (i + 1)))
    taken = [loop.run_until_complete(receive(session)) for _ in range(10)]
    assert taken == ["0", b"1", "2", b"3", "4", b"5", "6", b"7", "8", b"9"]
    assert not session.ready()
    assert wire.asked == []


def test_a_message_wakes_whoever_waits(loop: ClockLoop, make: Make) -> None:
    session, _ = make()
    waiting = start(loop, receive(session))
    assert not waiting.done()
    session.data_received(frame(1, b"half", fin=False))
    session.data_received(frame(9, b"ping"))
    loop.turn()
    assert not waiting.done()
    session.data_received(frame(0, b" whole"))
    loop.turn()
    assert waiting.result() == "half whole"


def test_several_may_wait(loop: ClockLoop, make: Make) -> None:
    session, _ = make()
    waiting = [start(loop, receive(session)) for _ in range(3)]
    session.data_received(frame(1, b"a"))
    loop.turn()
    assert [task.done() for task in waiting].count(True) == 1
    session.data_received(frame(1, b"b") + frame(1, b"c"))
    loop.turn()
    assert sorted(task.result() for task in waiting) == ["a", "b", "c"]


def test_a_cancelled_wait_loses_nothing(loop: ClockLoop, make: Make) -> None:
    session, _ = make()
    waiting = start(loop, receive(session))
    waiting.cancel()
    loop.turn()
    session.data_received(frame(1, b"a"))
    assert loop.run_until_complete(receive(session)) == "a"


def test_a_wait_that_is_cancelled_as_the_message_comes_loses_nothing(loop: ClockLoop, make: Make) -> None:
    session, _ = make()
    for order in ("message first", "cancel first"):
        waiting = start(loop, receive(session))
        if order == "cancel first":
            waiting.cancel()
        session.data_received(frame(1, order.encode()))
        waiting.cancel()
        loop.turn()
        assert waiting.cancelled()
        assert loop.run_until_complete(receive(session)) == order


def test_a_timeout_around_receive_loses_nothing(loop: ClockLoop, make: Make) -> None:
    session, _ = make()
    for i in range(5):
        waiting = start(loop, asyncio.wait_for(receive(session), 1))
        loop.walk(2)
        with pytest.raises(asyncio.TimeoutError):
            waiting.result()
        session.data_received(frame(1, b"%d" % i) + frame(1, b"and more"))
        assert loop.run_until_complete(receive(session)) == str(i)
        assert loop.run_until_complete(receive(session)) == "and more"


# Backpressure on reading


def test_reading_stops_above_the_most_messages_and_goes_on_at_half(make: Make) -> None:
    session, wire = make(ws_max_queue=4)
    session.data_received(frame(1, b"x") * 4)
    assert wire.asked == []
    session.data_received(frame(1, b"x"))
    assert wire.asked == ["pause"]
    for _ in range(2):
        session.take()
    assert wire.asked == ["pause"]
    session.take()  # 2 are left
    assert wire.asked == ["pause", "resume"]
    session.take()
    session.take()
    session.data_received(frame(1, b"x") * 5)
    assert wire.asked == ["pause", "resume", "pause"]


def test_what_was_on_the_way_when_reading_stopped_is_decoded_before_more_is_read(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_max_queue=4)
    session.data_received(frame(1, b"x") * 5)
    session.data_received(frame(1, b"y"))
    assert (session.waiting, wire.asked) == (5, ["pause"])
    for _ in range(2):
        session.take()
    loop.turn()
    assert (session.waiting, wire.asked) == (3, ["pause"])
    session.take()
    loop.turn()
    assert (session.waiting, wire.asked) == (3, ["pause"])
    session.take()
    assert (session.waiting, wire.asked) == (2, ["pause", "resume"])
    assert [session.take(), session.take()] == ["x", "y"]


def test_one_read_fills_the_queue_and_no_more(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_max_queue=4)
    session.data_received(b"".join(frame(1, b"%d" % i) for i in range(1000)) + frame(9, b"!") + PEERS_CLOSE)
    assert session.waiting == 5
    assert session.connection.held
    for i in range(1000):
        turn_until(loop, session.ready)  # at once, but for the time that an iteration may take
        assert session.take() == str(i)
        assert session.waiting <= 5
    turn_until(loop, session.ready)
    assert session.waiting == 0
    assert wire.sent() == b"\x8a\x01!" + PEERS_CLOSE_ANSWERED
    assert session.close_code == 1000


def test_a_compressed_message_is_not_inflated_before_there_is_room(loop: ClockLoop, make: Make) -> None:
    session, wire = make(deflate=codec())
    bomb = frame(2, codec().compress(bytes(MIB)), rsv=4)
    session.data_received(bomb * 50)
    turn_until(loop, lambda: session.waiting == 1)
    for _ in range(20):
        loop.turn()
    assert (session.waiting, session.connection.waiting_size) == (1, MIB)
    for _ in range(50):
        turn_until(loop, session.ready)
        assert session.take() == bytes(MIB)
    assert not session.ready()
    assert wire.asked[-1] == "resume"


def test_inflation_lets_others_have_their_turn(loop: ClockLoop, make: Make) -> None:
    session, _ = make(deflate=codec())
    session.data_received(frame(1, codec().compress(b"x" * 10 * MIB), rsv=4))
    turns = turn_until(loop, session.ready)
    assert turns >= 3
    assert session.take() == "x" * 10 * MIB


def test_sessions_inflate_in_turns(loop: ClockLoop, make: Make) -> None:
    """All in one event loop share what it may do in one iteration; but a small message does not wait for large ones."""
    session, _ = make(deflate=codec())
    context = session.context
    sessions = [session]
    for _ in range(9):
        connection = Connection(Role.SERVER, 1 << 24, 100, codec())
        sessions.append(Session(connection, Wire(loop), context))
    bomb = frame(1, codec().compress(b"x" * 10 * MIB), rsv=4)
    for each in sessions[1:]:
        each.data_received(bomb)
    session.data_received(frame(1, codec().compress(b"x" * 1000), rsv=4))
    assert session.take() == "x" * 1000
    turns = turn_until(loop, lambda: all(each.ready() for each in sessions[1:]))
    assert turns >= 25
    assert {each.take() for each in sessions[1:]} == {"x" * 10 * MIB}


def test_the_rest_is_decoded_while_nobody_asks(loop: ClockLoop, make: Make) -> None:
    """Whoever has taken the messages may work for long: a ping behind them is answered meanwhile."""
    session, wire = make(ws_max_queue=1)
    session.data_received(frame(1, b"x") * 3 + frame(9, b"!"))
    session.take()
    session.take()
    assert wire.sent() == b""
    loop.turn()
    assert wire.sent() == b"\x8a\x01!"


def test_what_was_read_before_the_loss_can_be_taken(loop: ClockLoop, make: Make) -> None:
    session, _ = make(ws_max_queue=1, deflate=codec())
    bomb = frame(2, codec().compress(bytes(3 * MIB)), rsv=4)
    session.data_received(frame(1, b"x") * 5 + bomb + PEERS_CLOSE)
    session.connection_lost(None)
    taken = []
    while True:
        turn_until(loop, session.ready)
        if not session.waiting:
            break
        taken.append(session.take())
    assert taken == ["x"] * 5 + [bytes(3 * MIB)]
    assert session.close_code == 1000


def test_a_close_of_this_end_while_much_is_not_decoded(loop: ClockLoop, make: Make) -> None:
    """The peer's close frame is found behind what nobody takes any more."""
    session, wire = make(ws_max_queue=1, deflate=codec())
    bomb = frame(2, codec().compress(bytes(3 * MIB)), rsv=4)
    session.data_received(frame(1, b"x") * 5 + bomb + PEERS_CLOSE)
    session.close(1000)
    turn_until(loop, lambda: session.connection.state == State.CLOSED)
    assert wire.asked[-1] == "close"


def test_an_error_in_the_middle_of_an_inflation(loop: ClockLoop, make: Make) -> None:
    session, wire = make(deflate=codec(), ws_max_size=10 * MIB)
    session.data_received(frame(2, codec().compress(bytes(11 * MIB)), rsv=4) + frame(1, b"x") + PEERS_CLOSE)
    turn_until(loop, session.ready)
    assert not session.waiting
    assert session.close_code == 1009
    assert close_frame(wire.sent())[0] == 1009
    turn_until(loop, lambda: session.connection.state == State.CLOSED)


def turn_until(loop: ClockLoop, done: Callable[[], bool]) -> int:
    """Run the event loop until it is so; return how often, which is for a few iterations each time."""
    for turns in range(1000):
        if done():
            return turns
        loop.turn(1)
    raise AssertionError("it does not come to that")


def test_reading_stops_above_the_most_bytes_and_goes_on_at_half(make: Make) -> None:
    session, wire = make()
    session.data_received(frame(2, bytes(32 * KIB)) * 2)
    assert wire.asked == []
    session.data_received(frame(2, b"x"))
    assert wire.asked == ["pause"]
    session.take()
    assert wire.asked == ["pause"]
    session.take()
    assert wire.asked == ["pause", "resume"]


def test_one_message_above_the_most_bytes(make: Make) -> None:
    """It passes; reading stops until it is taken."""
    session, wire = make()
    session.data_received(frame(2, bytes(100 * KIB)))
    assert wire.asked == ["pause"]
    assert len(session.take()) == 100 * KIB
    assert wire.asked == ["pause", "resume"]


def test_half_of_one_message_is_none(make: Make) -> None:
    session, wire = make(ws_max_queue=1)
    session.data_received(frame(1, b"x") * 2)
    assert wire.asked == ["pause"]
    session.take()
    assert wire.asked == ["pause"]
    session.take()
    assert wire.asked == ["pause", "resume"]


def test_an_unfinished_message_does_not_stop_reading(make: Make) -> None:
    """Or its rest would never come."""
    session, wire = make()
    for i in range(10):
        session.data_received(frame(2 if i == 0 else 0, bytes(30 * KIB), fin=False))
    assert wire.asked == []


def test_a_large_payload_is_to_be_read_where_it_stays(make: Make) -> None:
    session, wire = make()
    session.data_received(frame(1, b"x" * 60_000))
    assert wire.asked == []
    session.take()
    session.data_received(frame(1, length=100_000))
    assert wire.asked == ["read_into"]
