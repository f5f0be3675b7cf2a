"""Sending: what is written, when, and what a full stream holds back."""

from __future__ import annotations

import time

import pytest
from support.helpers import frame
from support.sessions import KIB, PEERS_CLOSE, ClockLoop, Make, start

from flowserve.errors import ClientDisconnected
from flowserve.session.session import Session


def test_what_is_sent_has_been_written(make: Make) -> None:
    """Code that blocks the event loop after a send() must not hold it up."""
    session, wire = make()
    session.begin(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert not session.send_text("a")
    assert not session.send_binary(b"b")
    session.send_fragment(True, b"c", True, True)
    assert wire.writes == [b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"\x81\x01a", b"\x82\x01b", b"\x81\x01c"]


def echo_of(session: Session) -> None:
    session.send(session.take())


def held_writes(make: Make) -> list[bytes]:
    """What is written while an application echoes messages that came together, and then asks for more."""
    session, wire = make()
    session.data_received(b"".join(frame(1, b"%d" % i) for i in range(5)))
    for _ in range(3):
        echo_of(session)
    session.send_text("held")
    assert session.take() == "3"
    assert session.take() == "4"
    session.wait().cancel()  # type: ignore[attr-defined]
    return wire.writes


def test_answers_to_messages_that_wait_together_are_one_write(make: Make) -> None:
    """But the first, as nothing was written just before; a machine that stands still meanwhile makes them more."""
    expected = [b"\x81\x010", b"\x81\x011\x81\x012\x81\x04held"]
    assert any(held_writes(make) == expected for _ in range(100))


def test_nothing_is_held_for_longer_than_a_moment(loop: ClockLoop, make: Make) -> None:
    """By an application that works between its sends, while further messages wait."""
    session, wire = make()
    session.data_received(frame(1, b"go") + frame(1, b"wait"))
    assert session.take() == "go"
    for step in range(4):
        session.send_text(str(step))
        assert wire.sent() == b"\x81\x01%d" % step
        time.sleep(0.06)


def test_what_is_published_leaves_at_the_end_of_the_turn(loop: ClockLoop, make: Make) -> None:
    session, wire = make()
    for _ in range(2):
        session.send_frame(b"\x81\x01a", True, 1)
    assert wire.writes == []
    loop.turn()
    assert wire.writes == [b"\x81\x01a\x81\x01a"]


def test_who_sends_without_end_lets_others_run(make: Make) -> None:
    session, _ = make()
    assert 50 < next(count for count in range(1000) if session.send_text("a")) < 100
    assert not session.send_text("a")


def test_the_head_is_not_among_what_a_slow_peer_loses(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_slow_consumer="close", ws_slow_consumer_mark=100)
    session.begin(b"head ")
    session.pause_writing()
    session.send_binary(bytes(101))
    wire.held = 101
    with pytest.raises(ClientDisconnected):
        session.send_binary(bytes(101))
    assert wire.sent().startswith(b"head ")


def test_all_sessions_write_at_the_end_of_the_turn(loop: ClockLoop, make: Make) -> None:
    pairs = [make() for _ in range(10)]
    for i, (session, _) in enumerate(pairs):
        session.send_text(str(i))
    loop.turn(1)
    assert [wire.sent() for _, wire in pairs] == [b"\x81\x01%d" % i for i in range(10)]


def test_much_is_written_at_once(make: Make) -> None:
    """And the sender is asked to drain."""
    session, wire = make()
    assert not session.send_frame(bytes(60 * KIB), False, 60 * KIB)
    assert wire.writes == []
    assert session.send_frame(bytes(4 * KIB), False, 4 * KIB)
    assert sum(map(len, wire.writes)) == 64 * KIB
    assert len(wire.writes) == 1


def test_a_pong_goes_out_before_what_is_sent_later(loop: ClockLoop, make: Make) -> None:
    session, wire = make()
    session.send_text("before")
    session.data_received(frame(9, b"!"))
    session.send_text("after")
    loop.turn()
    assert wire.sent() == b"\x81\x06before\x8a\x01!\x81\x05after"


def test_a_full_stream_is_not_written_to(loop: ClockLoop, make: Make) -> None:
    session, wire = make()
    session.pause_writing()
    assert session.send_text("a")
    assert session.send_binary(b"b")
    session.data_received(frame(9, b"!"))
    loop.turn()
    assert wire.writes == []
    session.resume_writing()
    assert wire.sent() == b"\x81\x01a\x82\x01b\x8a\x01!"


def test_drain_waits_for_room(loop: ClockLoop, make: Make) -> None:
    session, _ = make()
    loop.run_until_complete(session.drain())
    session.pause_writing()
    draining = start(loop, session.drain())
    assert not draining.done()
    session.resume_writing()
    loop.turn()
    assert draining.result() is None


def test_a_flood_of_pings_over_a_full_stream_grows_nothing(make: Make) -> None:
    session, wire = make()
    session.pause_writing()
    for i in range(5000):
        session.data_received(frame(9, b"%0100d" % i))
    assert session.connection.output_size < 66 * KIB
    session.resume_writing()
    assert wire.sent().endswith(b"\x8a\x64" + b"%0100d" % 4999)


def test_a_lost_connection_ends_drain_and_send(loop: ClockLoop, make: Make) -> None:
    session, _ = make()
    session.pause_writing()
    draining = start(loop, session.drain())
    session.connection_lost(None)
    loop.turn()
    with pytest.raises(ClientDisconnected):
        draining.result()
    for send in (lambda: session.send_text("x"), lambda: session.send_binary(b"x")):
        with pytest.raises(ClientDisconnected) as caught:
            send()
        assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("end", ["this end closed", "the peer closed", "an error", "lost"])
def test_sending_after_the_end(loop: ClockLoop, make: Make, end: str) -> None:
    session, wire = make()
    if end == "this end closed":
        session.close(1000)
    elif end == "the peer closed":
        session.data_received(PEERS_CLOSE)
    elif end == "an error":
        session.data_received(b"\xff\xff")
    else:
        session.connection_lost(ConnectionResetError())
    loop.turn()
    wire.sent()
    for _ in range(2):
        with pytest.raises(ClientDisconnected):
            session.send_text("x")
    loop.turn()
    assert wire.sent() == b""
