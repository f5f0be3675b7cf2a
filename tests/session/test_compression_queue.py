"""Messages that take long to compress: they leave in order, whole or not at all."""

from __future__ import annotations

import asyncio

import pytest
from support.sessions import KIB, ClockLoop, Make, codec, start

from flowserve.errors import ClientDisconnected
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate


def read(wire: bytes) -> list[str | bytes]:
    """The messages in a server's bytes, as a client with compression reads them."""
    client = PerMessageDeflate(DeflateSettings(), DeflateParameters(True, True, 15, 15), Role.CLIENT)
    connection = Connection(Role.CLIENT, 1 << 24, 100, client)
    connection.feed(wire)
    assert not connection.ended
    return [connection.take() for _ in range(connection.waiting)]


def test_what_takes_long(make: Make) -> None:
    session, _ = make(deflate=codec())
    long = "x" * 200 * KIB
    assert session.takes_long(long, None)
    assert session.takes_long(long.encode(), True)
    assert not session.takes_long(long, False)
    assert not session.takes_long("short", None)


def test_long_messages_leave_in_order(loop: ClockLoop, make: Make) -> None:
    session, wire = make(deflate=codec())
    sent: list[str | bytes] = ["x" * 300 * KIB, "short", bytes(200 * KIB), "é" * 100 * KIB, b"end"]
    tasks = [asyncio.ensure_future(session.send_slowly(message), loop=loop) for message in sent]
    loop.run_until_complete(asyncio.gather(*tasks))
    loop.turn()
    wire_bytes = wire.sent()
    assert len(wire_bytes) < 10 * KIB
    assert read(wire_bytes) == sent


def test_what_stands_behind_a_long_message_waits_for_it(loop: ClockLoop, make: Make) -> None:
    session, wire = make(deflate=codec())
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
    session, wire = make(deflate=codec())
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
    session, wire = make(deflate=codec())
    sending = asyncio.ensure_future(session.send_slowly("x" * 300 * KIB), loop=loop)
    loop.turn(1)
    assert not sending.done()
    session.connection_lost(None)
    with pytest.raises(ClientDisconnected):
        loop.run_until_complete(sending)
    assert wire.sent() == b""
