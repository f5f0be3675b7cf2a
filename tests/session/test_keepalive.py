"""Pings and timeouts, under a clock that the test moves."""

from __future__ import annotations

import pytest
from support.helpers import frame
from support.sessions import TICK, ClockLoop, Make, close_frame, receive, start

from flowserve.errors import ClientDisconnected

# Keepalive


def test_a_ping_after_each_interval(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_ping_interval=20.0, ws_ping_timeout=5.0)
    last = loop.now
    for number in range(1, 5):
        while not wire.writes:
            loop.walk(TICK)
        assert wire.sent() == b"\x89\x04" + number.to_bytes(4, "big")
        assert last + 20 - 1e-6 <= loop.now <= last + 20 + 3 * TICK
        last = loop.now
        loop.walk(1)
        session.data_received(frame(10, number.to_bytes(4, "big")))


def test_latency(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_ping_interval=20.0)
    assert session.latency == 0
    for number, seconds in enumerate((0.004, 0.25, 1.5), 1):
        while not wire.writes:
            loop.walk(TICK)
        wire.sent()
        loop.jump(seconds)
        session.data_received(frame(10, number.to_bytes(4, "big")))
        assert session.latency == pytest.approx(seconds, abs=1e-6)
    loop.jump(2)
    for unasked in (b"", b"unasked", b"\0\0\0\1"):
        session.data_received(frame(10, unasked))
    assert session.latency == pytest.approx(1.5, abs=1e-6)


def test_no_pings(loop: ClockLoop, make: Make) -> None:
    _, wire = make(ws_ping_interval="off")
    loop.walk(100)
    assert wire.writes == wire.asked == []


@pytest.mark.parametrize(("interval", "timeout"), [(20.0, 20.0), (20.0, 5.0), (5.0, 20.0), (1.0, 0.2)])
def test_a_silent_peer_is_dead_after_interval_and_timeout(
    loop: ClockLoop, make: Make, interval: float, timeout: float
) -> None:
    session, wire = make(ws_ping_interval=interval, ws_ping_timeout=timeout, ws_close_timeout=3.0)
    waiting = start(loop, receive(session))
    loop.walk(interval + timeout - 0.01)
    assert all(write[:2] == b"\x89\x04" for write in wire.writes)
    loop.walk(0.5)
    assert close_frame(wire.writes[-1]) == (1011, "keepalive ping timeout")
    assert waiting.result() is None
    assert session.close_code == 1011
    loop.walk(3.1)
    assert wire.asked == ["abort"]


def test_pings_without_a_timeout_declare_nobody_dead(loop: ClockLoop, make: Make) -> None:
    _, wire = make(ws_ping_interval=5.0, ws_ping_timeout="off")
    loop.walk(101)
    assert [write[:2] for write in wire.writes] == [b"\x89\x04"] * 20


@pytest.mark.parametrize(
    "sign",
    [
        frame(10, b"\0\0\0\1"),
        frame(10, b"another"),
        frame(9, b"its own"),
        frame(1, b"a message"),
        frame(2, b"half of one", fin=False),
        frame(2, length=1000)[:3],
    ],
)
def test_any_byte_is_a_sign_of_life(loop: ClockLoop, make: Make, sign: bytes) -> None:
    session, wire = make(ws_ping_interval=20.0, ws_ping_timeout=5.0)
    loop.walk(22)
    assert wire.sent() == b"\x89\x04\0\0\0\1"
    session.data_received(sign)
    wire.sent()
    loop.walk(17.5)
    assert wire.writes == []
    loop.walk(1)
    assert wire.sent() == b"\x89\x04\0\0\0\2"


def test_a_peer_that_takes_what_is_sent_is_alive(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_ping_interval=20.0, ws_ping_timeout=5.0)
    session.pause_writing()
    loop.walk(24)
    session.resume_writing()
    wire.sent()
    loop.walk(6)
    assert wire.writes == []


def test_nobody_is_dead_for_a_pong_that_was_left_unread(loop: ClockLoop, make: Make) -> None:
    """The queue is full for minutes, as the application is slow: the pong lies in the socket."""
    session, wire = make(ws_max_queue=1, ws_ping_interval=20.0, ws_ping_timeout=5.0)
    session.data_received(frame(1, b"x") * 2)
    assert wire.asked == ["pause"]
    loop.walk(190)
    assert wire.asked == ["pause"]
    assert all(write[:2] == b"\x89\x04" for write in wire.writes)
    session.take()
    session.take()
    assert wire.asked == ["pause", "resume"]
    loop.turn()
    session.data_received(frame(10, b"\0\0\0\1"))
    loop.walk(14)
    assert all(write[:2] == b"\x89\x04" for write in wire.writes)


def test_a_silent_peer_is_dead_soon_after_reading_goes_on(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_max_queue=1, ws_ping_interval=20.0, ws_ping_timeout=5.0)
    session.data_received(frame(1, b"x") * 2)
    loop.walk(100)
    session.take()
    session.take()
    loop.walk(26)
    assert close_frame(wire.writes[-1]) == (1011, "keepalive ping timeout")


def test_nobody_is_dead_because_the_event_loop_was_held_up(loop: ClockLoop, make: Make) -> None:
    """What lies in the socket is read first, though the timer comes before it."""
    session, wire = make(ws_ping_interval=20.0, ws_ping_timeout=5.0)
    loop.walk(20.1)
    assert wire.sent() == b"\x89\x04\0\0\0\1"
    loop.jump(60)
    session.data_received(frame(10, b"\0\0\0\1"))
    loop.walk(10)
    assert all(write[:2] == b"\x89\x04" for write in wire.writes)


def test_a_peer_that_is_silent_in_both_ways_is_dead_though_the_loop_was_held_up(loop: ClockLoop, make: Make) -> None:
    _, wire = make(ws_ping_interval=20.0, ws_ping_timeout=5.0)
    loop.walk(20.1)
    loop.jump(60)
    loop.walk(1)
    assert close_frame(wire.writes[-1]) == (1011, "keepalive ping timeout")


def test_no_pings_behind_an_end(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_ping_interval=1.0, ws_close_timeout=30.0)
    session.close(1000)
    wire.sent()
    loop.walk(20)
    assert wire.writes == wire.asked == []


# Idle timeout


def test_an_idle_websocket_is_closed(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_idle_timeout=10.0, ws_ping_interval="off")
    waiting = start(loop, receive(session))
    loop.walk(9.9)
    assert wire.writes == []
    loop.walk(0.2)
    assert close_frame(wire.sent()) == (1001, "idle timeout")
    assert waiting.result() is None
    assert session.close_code == 1001


def test_messages_in_both_directions_keep_it_open(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_idle_timeout=10.0, ws_ping_interval="off")
    for i in range(6):
        loop.walk(9)
        if i % 2:
            session.send_text("out")
        else:
            session.data_received(frame(1, b"in"))
            session.take()
    loop.walk(9.8)
    assert wire.sent() == b"\x81\x03out" * 3
    loop.walk(0.4)
    assert close_frame(wire.sent()) == (1001, "idle timeout")


def test_pings_and_pongs_do_not_keep_it_open(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_idle_timeout=10.0, ws_ping_interval=1.0)
    for i in range(1, 10):
        loop.walk(1.05)
        session.data_received(frame(10, i.to_bytes(4, "big")) + frame(9, b"its own"))
    loop.walk(1)
    assert close_frame(wire.writes[-1]) == (1001, "idle timeout")


# Lifetime


def test_a_websocket_is_closed_after_its_lifetime(loop: ClockLoop, make: Make) -> None:
    """Whatever it does."""
    session, wire = make(ws_max_lifetime=10.0)
    for _ in range(19):
        loop.walk(0.5)
        session.data_received(frame(1, b"in"))
        session.take()
        session.send_text("out")
    loop.walk(0.4)
    assert wire.sent() == b"\x81\x03out" * 19
    loop.walk(0.2)
    assert close_frame(wire.sent()) == (1001, "lifetime limit reached")
    assert session.close_code == 1001


def test_the_lifetime_ends_beside_pings_and_idle_timeout(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_max_lifetime=10.0, ws_idle_timeout=60.0, ws_ping_interval=3.0)
    loop.walk(9.9)
    assert [write[:2] for write in wire.writes] == [b"\x89\x04"] * 3
    loop.walk(0.2)
    assert close_frame(wire.writes[-1]) == (1001, "lifetime limit reached")
    assert session.connection.messages_out == 0


# Send timeout


def test_a_peer_that_takes_nothing_is_ended(loop: ClockLoop, make: Make) -> None:
    """Between one and one and a half of the send timeout; nobody waits for the close frame to get through."""
    session, wire = make(ws_send_timeout=10.0, ws_ping_interval="off")
    waiting = start(loop, receive(session))
    loop.walk(7)
    session.send_text("x")
    loop.walk(9.9)
    assert wire.asked == []
    loop.walk(5.3)
    assert wire.asked == ["abort"]
    assert waiting.result() is None
    assert (session.close_code, session.close_reason) == (1013, "send timeout")
    assert close_frame(wire.sent()[3:]) == (1013, "send timeout")
    with pytest.raises(ClientDisconnected):
        session.send_text("y")


def test_the_send_timeout_of_a_full_stream(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_send_timeout=10.0, ws_ping_interval="off", ws_slow_consumer_code=1008)
    session.pause_writing()
    session.send_text("x")
    draining = start(loop, session.drain())
    loop.walk(15.3)
    assert wire.asked == ["abort"]
    assert session.close_code == 1008
    session.connection_lost(None)
    loop.turn()
    with pytest.raises(ClientDisconnected):
        draining.result()


def test_a_peer_that_takes_slowly_but_steadily_is_not_ended(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_send_timeout=10.0, ws_ping_interval="off")
    for _ in range(30):
        session.send_binary(bytes(1000))
        loop.walk(9)
        wire.acknowledged += 1
    assert wire.asked == []
    loop.walk(16)
    assert wire.asked == ["abort"]


def test_a_peer_that_has_taken_all_is_not_ended(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_send_timeout=10.0, ws_ping_interval="off")
    for _ in range(5):
        session.send_text("x")
        loop.walk(7)
        wire.acknowledged = wire.written
        loop.walk(30)
    assert wire.asked == []


def test_nobody_is_stuck_because_the_event_loop_was_held_up(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_send_timeout=10.0, ws_ping_interval="off")
    session.send_text("x")
    loop.walk(3)
    for _ in range(3):
        loop.jump(60)
    assert wire.asked == []
    wire.acknowledged = wire.written
    loop.walk(60)
    assert wire.asked == []


# All together


def test_many_sessions_over_one_timer(loop: ClockLoop, make: Make) -> None:
    pairs = [make(ws_ping_interval=2.0, ws_ping_timeout=1.0) for _ in range(300)]
    for number in range(1, 4):
        loop.walk(2.1)
        for i, (session, wire) in enumerate(pairs):
            if (i % 3 or number < 2) and wire.sent():
                session.data_received(frame(10, number.to_bytes(4, "big")))
    loop.walk(1.5)
    for i, (session, _) in enumerate(pairs):
        assert session.close_code == (1006 if i % 3 else 1011), i
