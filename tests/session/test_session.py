"""One live WebSocket over a stream that the test looks into, under a clock that the test moves."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from support.helpers import close_payload, frame

from flowserve import Config
from flowserve.asgi.context import Context
from flowserve.errors import ClientDisconnected
from flowserve.session.session import Session
from flowserve.transport.flush_queue import FlushQueue
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role, State
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate

START = 1000.0
TICK = 0.05
"""Seconds; the shared timer looks no more often."""
KIB = 1024
MIB = 1024 * KIB


class ClockLoop(asyncio.SelectorEventLoop):
    """Its time stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = START
        super().__init__()

    def time(self) -> float:
        return self.now

    def turn(self, turns: int = 3) -> None:
        """Run what is due now."""
        for _ in range(turns):
            self.run_until_complete(asyncio.sleep(0))

    def jump(self, seconds: float) -> None:
        """Let time pass at once, as while a callback holds the loop up."""
        self.now += seconds
        self.turn()

    def walk(self, seconds: float) -> None:
        """Let time pass in steps."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(self.now + TICK, end)
            self.turn(1)


class Wire:
    """A Stream: remembers what it was asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.write_paused = False
        self.half_open = True
        self.writes: list[bytes] = []
        self.asked: list[str] = []
        self.moved = False  # what progressed() will say
        self.held = 0  # bytes in this process that were written
        self.acknowledged = 0  # bytes that the peer has taken
        self.written = 0
        self.waiters: list[asyncio.Future[None]] = []

    def write(self, data: bytes) -> None:
        assert not self.write_paused
        self.written += len(data)
        self.writes.append(data)

    def writelines(self, data: Sequence[bytes]) -> None:
        self.write(b"".join(data))

    async def drain(self) -> None:
        while self.write_paused:
            waiter = self.loop.create_future()
            self.waiters.append(waiter)
            await waiter

    def buffered(self) -> int:
        return self.held

    def unsent(self) -> int:
        return self.written - self.acknowledged

    def limit_buffer(self, size: int) -> None:
        self.asked.append(f"limit {size}")

    def progressed(self) -> bool:
        moved, self.moved = self.moved, False
        return moved

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")

    def read_into(self, target: Connection) -> None:
        assert target.wants_buffer()
        self.asked.append("read_into")

    def end_writing(self) -> None:
        self.asked.append("end_writing")

    def close(self) -> None:
        if "close" not in self.asked:  # transports take it more than once
            self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")

    def lost(self) -> None:
        self.asked.append("lost")
        self.resume_writing()

    def sent(self) -> bytes:
        """What was written since this was last asked."""
        writes, self.writes = self.writes, []
        return b"".join(writes)


@pytest.fixture
def loop() -> Iterator[ClockLoop]:
    loop = ClockLoop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    yield loop
    loop.turn()
    left = asyncio.all_tasks(loop)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert not left
    assert errors == []


async def app(scope: Any, receive: Any, send: Any) -> None: ...


def codec() -> PerMessageDeflate:
    return PerMessageDeflate(DeflateSettings(), DeflateParameters(True, True, 15, 15), Role.SERVER)


Make = Callable[..., tuple[Session, Wire]]


@pytest.fixture
def make(loop: ClockLoop) -> Make:
    """`session, wire = make(**options)`; all of a test are one worker's."""
    flush_queue = FlushQueue(loop)

    def make_session(*, deflate: PerMessageDeflate | None = None, **options: Any) -> tuple[Session, Wire]:
        config = Config(app, **options)
        context = Context(app, config, loop, flush_queue)
        wire = Wire(loop)
        connection = Connection(Role.SERVER, config.ws_max_size, config.ws_max_frames_per_message, deflate)
        return Session(connection, wire, context), wire

    return make_session


def start(loop: ClockLoop, awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
    """Begin to await."""
    task = asyncio.ensure_future(awaitable, loop=loop)
    loop.turn()
    return task


async def receive(session: Session) -> str | bytes | None:
    """The next message, None at the end."""
    while not session.ready():
        await session.wait()
    return session.take() if session.waiting else None


def close_frame(wire: bytes) -> tuple[int, str]:
    """What the close frame says that `wire` is."""
    assert wire[0] == 0x88
    assert wire[1] == len(wire) - 2
    return int.from_bytes(wire[2:4], "big"), wire[4:].decode()


PEERS_CLOSE = frame(8, b"\x03\xe8")
PEERS_CLOSE_ANSWERED = b"\x88\x02\x03\xe8"


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


# Sending


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


# Compression


def deflate() -> PerMessageDeflate:
    return PerMessageDeflate(DeflateSettings(), DeflateParameters(True, True, 15, 15), Role.SERVER)


def read(wire: bytes) -> list[str | bytes]:
    """The messages in a server's bytes, as a client with compression reads them."""
    client = PerMessageDeflate(DeflateSettings(), DeflateParameters(True, True, 15, 15), Role.CLIENT)
    connection = Connection(Role.CLIENT, 1 << 24, 100, client)
    connection.feed(wire)
    assert not connection.ended
    return [connection.take() for _ in range(connection.waiting)]


def test_what_takes_long(make: Make) -> None:
    session, _ = make(deflate=deflate())
    long = "x" * 200 * KIB
    assert session.takes_long(long, None)
    assert session.takes_long(long.encode(), True)
    assert not session.takes_long(long, False)
    assert not session.takes_long("short", None)


def test_long_messages_leave_in_order(loop: ClockLoop, make: Make) -> None:
    session, wire = make(deflate=deflate())
    sent: list[str | bytes] = ["x" * 300 * KIB, "short", bytes(200 * KIB), "é" * 100 * KIB, b"end"]
    tasks = [asyncio.ensure_future(session.send_slowly(message), loop=loop) for message in sent]
    loop.run_until_complete(asyncio.gather(*tasks))
    loop.turn()
    wire_bytes = wire.sent()
    assert len(wire_bytes) < 10 * KIB
    assert read(wire_bytes) == sent


def test_what_stands_behind_a_long_message_waits_for_it(loop: ClockLoop, make: Make) -> None:
    session, wire = make(deflate=deflate())
    first = start(loop, session.send_slowly("x" * 300 * KIB))
    if not first.done():
        assert session.takes_long("short", None)
        assert session.takes_long("short", False)
    second = start(loop, session.send_slowly("short"))
    loop.run_until_complete(asyncio.gather(first, second))
    loop.turn()
    assert read(wire.sent()) == ["x" * 300 * KIB, "short"]
    assert not session.takes_long("short", None)


def test_a_cancelled_long_message_is_sent_whole_or_not_at_all(loop: ClockLoop, make: Make) -> None:
    session, wire = make(deflate=deflate())
    first = asyncio.ensure_future(session.send_slowly("x" * 300 * KIB), loop=loop)
    second = asyncio.ensure_future(session.send_slowly("y" * 300 * KIB), loop=loop)
    loop.turn(1)
    first.cancel()
    second.cancel()
    loop.run_until_complete(asyncio.wait([first, second]))
    loop.run_until_complete(session.send_slowly("end"))
    loop.turn()
    got = read(wire.sent())
    assert got[-1] == "end"
    assert set(got[:-1]) <= {"x" * 300 * KIB, "y" * 300 * KIB}


def test_a_long_message_to_a_peer_that_left_meanwhile(loop: ClockLoop, make: Make) -> None:
    session, wire = make(deflate=deflate())
    sending = asyncio.ensure_future(session.send_slowly("x" * 300 * KIB), loop=loop)
    loop.turn(1)
    assert not sending.done()
    session.connection_lost(None)
    with pytest.raises(ClientDisconnected):
        loop.run_until_complete(sending)
    assert wire.sent() == b""


# Ends


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


# Slow consumers

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
    session, wire = make(deflate=deflate(), ws_slow_consumer="close", ws_slow_consumer_mark=MARK)
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
