"""Peers that read slowly: who waits, what is dropped, who is closed."""

from __future__ import annotations

import asyncio
import random

import pytest
from support.helpers import frame
from support.sessions import KIB, PEERS_CLOSE, ClockLoop, Make, codec, receive, start

from flowserve.errors import ClientDisconnected
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate

MARK = 10_000
TAKEOVER = DeflateParameters(False, False, 15, 15)


def sizes(wire_bytes: bytes) -> list[int]:
    """The lengths of the messages in a server's bytes."""
    connection = Connection(Role.CLIENT, 1 << 24, 100)
    connection.feed(wire_bytes)
    return [len(connection.take()) for _ in range(connection.waiting)]


def test_whoever_waits_drops_nothing(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_slow_consumer_mark=MARK)
    session.pause_writing()
    for _ in range(100):
        assert session.send_binary(bytes(1000))
    assert not start(loop, session.drain()).done()
    assert session.dropped == 0
    session.resume_writing()
    assert sizes(wire.sent()) == [1000] * 100
    loop.turn()


def test_what_is_sent_above_the_mark_is_dropped(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_slow_consumer="drop", ws_slow_consumer_mark=MARK)
    session.pause_writing()
    for size in range(1000, 1100):
        session.send_binary(bytes(size))
        loop.run_until_complete(asyncio.wait_for(session.drain(), 1))  # which waits for nobody
        assert session.connection.output_size <= MARK + size + 4
    assert session.dropped == 90
    assert session.connection.messages_out == 10
    session.resume_writing()
    assert sizes(wire.sent()) == list(range(1000, 1010))
    assert not session.send_text("again")
    loop.turn()
    assert wire.sent() == b"\x81\x05again"
    assert session.dropped == 90


def test_dropping_goes_on_until_half_the_mark(make: Make) -> None:
    session, wire = make(ws_slow_consumer="drop", ws_slow_consumer_mark=MARK)
    wire.held = MARK + 1
    session.pause_writing()
    assert session.send_text("dropped")
    wire.held = MARK // 2
    assert session.send_text("dropped")
    session.resume_writing()
    assert session.send_text("dropped")
    assert session.dropped == 3
    wire.held = MARK // 2 - 1
    assert not session.send_text("sent")
    wire.held = MARK - 100
    assert not session.send_text("sent")
    assert session.dropped == 3


def test_the_mark_holds_within_a_turn(loop: ClockLoop, make: Make) -> None:
    """What is not written yet is written before it counts."""
    session, wire = make(ws_slow_consumer="drop", ws_slow_consumer_mark=1000)
    for _ in range(100):
        session.send_binary(bytes(300))
    loop.turn()
    assert session.dropped == 0
    assert sizes(wire.sent()) == [300] * 100
    assert wire.asked == ["limit 1000"]


def test_one_message_above_the_mark_passes(make: Make) -> None:
    session, wire = make(ws_slow_consumer="drop", ws_slow_consumer_mark=1000)
    session.send_binary(bytes(5000))
    session.flush()
    session.send_binary(bytes(5000))
    assert session.dropped == 0
    session.flush()
    assert sizes(wire.sent()) == [5000, 5000]


def test_control_frames_are_never_dropped(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_slow_consumer="drop", ws_slow_consumer_mark=1000, ws_ping_interval=5.0)
    session.pause_writing()
    for _ in range(5):
        session.send_binary(bytes(990))
    session.data_received(frame(9, b"!"))
    loop.walk(5.1)
    session.close(4000, "the end")
    session.resume_writing()
    wire_bytes = wire.sent()
    assert sizes(wire_bytes) == [990, 990]
    assert wire_bytes.endswith(b"\x8a\x01!" + b"\x89\x04\0\0\0\1" + b"\x88\x09\x0f\xa0the end")


@pytest.mark.parametrize("takeover", [False, True])
def test_what_is_dropped_was_not_compressed(loop: ClockLoop, make: Make, takeover: bool) -> None:
    """The client can read all that comes behind it, the long messages too."""
    agreed = TAKEOVER if takeover else DeflateParameters(True, True, 15, 15)
    codec = PerMessageDeflate(DeflateSettings("takeover" if takeover else "shared"), agreed, Role.SERVER)
    session, wire = make(deflate=codec, ws_slow_consumer="drop", ws_slow_consumer_mark=1000)
    reader = Connection(Role.CLIENT, 1 << 24, 100, PerMessageDeflate(DeflateSettings("takeover"), agreed, Role.CLIENT))
    sent, got = [], []
    dice = random.Random(7)
    for turn in range(40):
        if turn % 10 == 3:
            session.pause_writing()
        elif turn % 10 == 9:
            session.resume_writing()
        message = "".join(dice.choices("abcdefghij \n", k=600 if turn % 4 else 70_000))
        dropped = session.dropped
        if session.takes_long(message, None):
            loop.run_until_complete(session.send_slowly(message))
        else:
            session.send(message)
        if session.dropped == dropped:
            sent.append(message)
        loop.turn()
        reader.feed(wire.sent())
        got += [reader.take() for _ in range(reader.waiting)]
    assert not reader.ended
    assert got == sent
    assert session.dropped == 40 - len(sent) > 3


def test_a_peer_above_the_mark_is_closed(loop: ClockLoop, make: Make) -> None:
    """What the stream was not given is disowned, so that the close frame comes soon."""
    session, wire = make(ws_slow_consumer="close", ws_slow_consumer_mark=MARK, ws_slow_consumer_code=1008)
    waiting = start(loop, receive(session))
    session.send_text("given")
    loop.turn()
    session.pause_writing()
    while session.connection.output_size <= MARK:
        session.send_binary(bytes(1000))
        loop.run_until_complete(asyncio.wait_for(session.drain(), 1))
    for _ in range(2):
        with pytest.raises(ClientDisconnected):
            session.send_binary(bytes(1000))
    loop.turn()
    assert waiting.result() is None
    assert (session.close_code, session.close_reason) == (1008, "too slow")
    assert session.connection.output_size < 20
    assert session.dropped == 0
    session.resume_writing()
    assert wire.sent() == b"\x81\x05given\x88\x0a\x03\xf0too slow"
    session.data_received(PEERS_CLOSE)
    assert wire.asked[-1] == "close"


def test_a_slow_peer_is_cut_after_the_close_timeout(loop: ClockLoop, make: Make) -> None:
    """Though it takes something."""
    session, wire = make(ws_slow_consumer="close", ws_slow_consumer_mark=MARK, ws_close_timeout=3.0)
    wire.held = MARK + 1
    session.pause_writing()
    with pytest.raises(ClientDisconnected):
        session.send_text("x")
    wire.moved = True
    loop.walk(2.9)
    assert "abort" not in wire.asked
    wire.moved = True
    loop.walk(0.2)
    assert wire.asked[-1] == "abort"


def test_a_slow_peer_that_the_application_closes_is_not_hurried(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_slow_consumer="close", ws_slow_consumer_mark=MARK, ws_close_timeout=3.0)
    session.pause_writing()
    session.send_text("last")
    session.close(1000)
    wire.moved = True
    loop.walk(3.1)
    session.resume_writing()
    assert wire.sent() == b"\x81\x04last\x88\x02\x03\xe8"
    assert "abort" not in wire.asked


def test_slowness_that_shows_behind_a_long_message(loop: ClockLoop, make: Make) -> None:
    """Those in line meet the same end, and the close frame is the last."""
    session, wire = make(deflate=codec(), ws_slow_consumer="close", ws_slow_consumer_mark=MARK)
    tasks = [asyncio.ensure_future(session.send_slowly("x" * 70_000), loop=loop) for _ in range(3)]
    loop.turn(1)
    wire.held = MARK + 1
    session.pause_writing()
    done = loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    assert [isinstance(each, ClientDisconnected) for each in done[1:]] == [True, True]
    assert session.close_code == 1013
    session.resume_writing()
    assert wire.sent().endswith(b"\x88\x0a\x03\xf5too slow")


def test_a_backlog_is_written_as_the_stream_takes_it(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_slow_consumer="drop", ws_slow_consumer_mark=1 << 20)
    session.pause_writing()
    for _ in range(500):
        session.send_binary(bytes(1000))

    class Narrow(list[bytes]):
        def append(self, data: bytes) -> None:
            super().append(data)
            session.pause_writing()

    wire.writes = Narrow()
    session.resume_writing()
    assert 64 * KIB <= len(b"".join(wire.writes)) < 70 * KIB
    assert session.connection.output_size > 400 * KIB
    while session.connection.output_size:
        session.resume_writing()
    assert sizes(wire.sent()) == [1000] * 500


def test_a_peer_that_takes_what_stands_before_the_ping_is_alive(loop: ClockLoop, make: Make) -> None:
    """Slowly, so that the stream stays full all the time."""
    session, wire = make(ws_slow_consumer="drop", ws_ping_interval=20.0, ws_ping_timeout=5.0)
    session.send_binary(bytes(64 * KIB))
    session.pause_writing()
    session.send_binary(bytes(500 * KIB))
    for _ in range(100):
        loop.walk(4.9)
        wire.acknowledged += 100
    assert session.close_code == 1006
    loop.walk(31)
    assert session.close_code == 1011
