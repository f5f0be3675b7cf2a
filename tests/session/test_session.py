"""The ends of a live WebSocket: closing, errors, and a connection that is lost."""

from __future__ import annotations

import pytest
from support.helpers import close_payload, frame
from support.sessions import PEERS_CLOSE, ClockLoop, Make, close_frame, receive, start

from flowserve.errors import ClientDisconnected
from flowserve.session.session import Session


def test_the_peer_closes(loop: ClockLoop, make: Make) -> None:
    session, wire = make()
    waiting = start(loop, receive(session))
    session.data_received(frame(8, close_payload(4001, "bye")))
    assert wire.sent() == b"\x88\x05\x0f\xa1bye"
    assert wire.asked == ["close"]
    loop.turn()
    assert waiting.result() is None
    assert (session.close_code, session.close_reason) == (4001, "bye")
    assert session.ready()


def test_the_peers_close_is_answered_when_the_messages_before_it_have_been_taken(loop: ClockLoop, make: Make) -> None:
    session, wire = make()
    session.data_received(frame(1, b"one") + frame(1, b"two") + PEERS_CLOSE)
    assert wire.writes == []
    assert loop.run_until_complete(receive(session)) == "one"
    session.send_text("answer to one")
    loop.turn()
    assert wire.sent() == b"\x81\x0danswer to one"
    assert loop.run_until_complete(receive(session)) == "two"
    loop.turn()
    assert wire.writes == []  # the application may still answer
    session.send_text("answer to two")
    assert loop.run_until_complete(receive(session)) is None
    assert wire.sent() == b"\x81\x0danswer to two\x88\x02\x03\xe8"
    assert wire.asked == ["close"]


def test_an_error_is_answered_when_the_messages_before_it_have_been_taken(loop: ClockLoop, make: Make) -> None:
    session, wire = make()
    session.data_received(frame(1, b"one") + b"\xff\x80\0\0\0\0")
    assert wire.writes == []
    assert loop.run_until_complete(receive(session)) == "one"
    session.send_text("answer")
    assert loop.run_until_complete(receive(session)) is None
    wire_bytes = wire.sent()
    assert wire_bytes.startswith(b"\x81\x06answer\x88")
    assert close_frame(wire_bytes[8:]) == (1002, session.close_reason)
    assert wire.asked == []  # the peer's close frame is awaited
    session.data_received(PEERS_CLOSE)
    assert wire.asked == ["close"]


@pytest.mark.parametrize("end", [PEERS_CLOSE, b"\xff\x80\0\0\0\0"])
def test_an_end_in_line_is_answered_at_the_latest_after_the_close_timeout(
    loop: ClockLoop, make: Make, end: bytes
) -> None:
    """The application takes its time; the messages stay."""
    session, wire = make(ws_close_timeout=3.0)
    session.data_received(frame(1, b"one") + end)
    loop.walk(2.9)
    assert wire.writes == []
    loop.walk(0.2)
    assert close_frame(wire.sent())[0] in (1000, 1002)
    assert loop.run_until_complete(receive(session)) == "one"
    with pytest.raises(ClientDisconnected):
        session.send_text("too late")
    assert loop.run_until_complete(receive(session)) is None


def test_a_bad_frame_that_has_no_end(loop: ClockLoop, make: Make) -> None:
    """Where the peer's close frame would begin can't be known: this end stops writing."""
    session, wire = make(ws_max_size=1000)
    session.data_received(frame(2, length=1 << 40))
    assert close_frame(wire.sent())[0] == 1009
    assert wire.asked == ["end_writing"]


def test_this_end_closes(loop: ClockLoop, make: Make) -> None:
    session, wire = make()
    waiting = start(loop, receive(session))
    session.send_text("last")
    session.close(1000, "done")
    assert wire.sent() == b"\x81\x04last\x88\x06\x03\xe8done"
    loop.turn()
    assert waiting.result() is None
    assert (session.close_code, session.close_reason) == (1000, "done")
    assert wire.asked == []
    session.close(1011, "again")
    assert wire.sent() == b""
    session.data_received(PEERS_CLOSE)
    assert wire.asked == ["close"]


def test_a_peer_that_does_not_answer_a_close_is_aborted(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_close_timeout=3.0)
    session.close(1000)
    session.data_received(frame(1, b"still talking"))
    loop.walk(2.9)
    assert wire.asked == []
    loop.walk(0.2)
    assert wire.asked == ["abort"]


def test_a_slow_peer_gets_what_was_sent_before_the_close(loop: ClockLoop, make: Make) -> None:
    """As long as it takes some of it."""
    session, wire = make(ws_close_timeout=3.0)
    session.close(1000)
    for _ in range(3):
        wire.moved = True
        loop.walk(3.1)
        assert wire.asked == []
    loop.walk(3.1)
    assert wire.asked == ["abort"]


def test_a_transport_that_never_goes_is_aborted_after_the_close(loop: ClockLoop, make: Make) -> None:
    session, wire = make(ws_close_timeout=3.0)
    session.data_received(PEERS_CLOSE)
    assert wire.asked == ["close"]
    loop.walk(3.1)
    assert wire.asked[-1] == "abort"


def test_a_close_waits_for_a_full_stream(loop: ClockLoop, make: Make) -> None:
    session, wire = make()
    session.pause_writing()
    session.send_text("last")
    session.data_received(PEERS_CLOSE)
    loop.turn()
    assert wire.writes == wire.asked == []
    session.resume_writing()
    assert wire.sent() == b"\x81\x04last\x88\x02\x03\xe8"
    assert wire.asked == []  # asyncio would tell of the end twice
    loop.turn()
    assert wire.asked == ["close"]


def test_shutdown_says_service_restart(make: Make) -> None:
    session, wire = make()
    session.shutdown()
    assert close_frame(wire.sent()) == (1012, "the server is shutting down")


def test_shutdown_says_what_is_configured(make: Make) -> None:
    session, wire = make(ws_shutdown_code=1001, ws_shutdown_reason="à bientôt")
    session.shutdown()
    assert close_frame(wire.sent()) == (1001, "à bientôt")
    assert (session.close_code, session.close_reason) == (1001, "à bientôt")


def test_abort(make: Make) -> None:
    session, wire = make()
    session.abort()
    assert wire.writes == []
    assert wire.asked == ["abort"]


def test_a_lost_connection(loop: ClockLoop, make: Make) -> None:
    session, wire = make()
    told: list[Session] = []

    class Owner:
        def _on_lost(self, exc: Exception | None) -> None:
            told.append(session)

    session.monitor = Owner()  # type: ignore[assignment]
    assert session in session.context.live
    waiting = [start(loop, receive(session)) for _ in range(2)]
    session.connection_lost(None)
    loop.turn()
    assert [task.result() for task in waiting] == [None, None]
    assert (session.close_code, session.close_reason) == (1006, "")
    assert told == [session]
    assert session.monitor is None
    assert session not in session.context.live
    assert wire.asked == ["lost"]
    loop.walk(60)
    session.close(1000)
    session.shutdown()
    assert wire.writes == []
    assert wire.asked == ["lost"]


def test_messages_outlive_the_connection(loop: ClockLoop, make: Make) -> None:
    session, wire = make()
    session.data_received(frame(1, b"one") + frame(8, close_payload(4001, "bye")))
    session.connection_lost(None)
    assert loop.run_until_complete(receive(session)) == "one"
    assert loop.run_until_complete(receive(session)) is None
    assert (session.close_code, session.close_reason) == (4001, "bye")
    assert wire.writes == []


def test_the_end_is_the_same_however_often_it_is_asked_for(loop: ClockLoop, make: Make) -> None:
    session, _ = make()
    session.data_received(frame(8))
    for _ in range(3):
        assert loop.run_until_complete(receive(session)) is None
        assert session.close_code == 1005
    session.connection_lost(None)
    assert loop.run_until_complete(receive(session)) is None
    assert session.close_code == 1005


def test_eof(make: Make) -> None:
    """The other direction is kept only to answer what came before."""
    session, wire = make()
    assert not session.eof_received()
    session, wire = make()
    session.data_received(frame(1, b"one") + PEERS_CLOSE)
    assert session.eof_received()
    wire.half_open = False
    assert not session.eof_received()
    session, wire = make()
    session.data_received(PEERS_CLOSE)
    assert not session.eof_received()  # all has been said
