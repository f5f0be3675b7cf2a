"""Large payloads read to where they will stay: over real sockets, in both roles, on both event loops."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme
from support.ends import open_ends
from support.helpers import BINARY, PING, PONG, TEXT, Client, Frame, frame, until, within

from flowserve import connect, serve
from flowserve.errors import ConnectionClosedError
from flowserve.library.properties import session_of
from flowserve.transport.direct_read import DirectReadProtocol
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role

MIB = 1 << 20
KEYS = {"server": b"\x01\x02\x03\x04", "client": None}
"""What the peer of each role masks with."""

roles = pytest.mark.parametrize("role", ["client", "server"])


def is_landing(ws) -> bool:
    return isinstance(ws.transport.get_protocol(), DirectReadProtocol)


async def land_some(ws, peer, wire: bytes, size: int) -> None:
    """Send the first `size` bytes of `wire`, and see them land."""
    await peer.raw(wire[:100])
    await until(lambda: is_landing(ws))
    await peer.raw(wire[100:size])
    await until(lambda: session_of(ws).connection.part_size >= size - 14)


@pytest.mark.both_loops
@roles
@pytest.mark.parametrize("body", ["ASCII ", "Straße "])
async def test_a_large_message_lands(role, body):
    text = "ASCII " * 50 + body * (MIB // len(body.encode()))
    async with open_ends(role, compression=None) as (ws, peer):
        session = ws.transport.get_protocol()
        for opcode, message in ((TEXT, text), (BINARY, text.encode())):
            wire = frame(opcode, text.encode(), mask=KEYS[role])
            await peer.raw(wire[:100])
            await until(lambda: is_landing(ws))
            await peer.raw(wire[100:] + frame(PING, b"behind", mask=KEYS[role]))
            assert await within(ws.receive()) == message
            assert await peer.frame() == Frame(PONG, b"behind")
            assert ws.transport.get_protocol() is session
            await within(ws.send(message))
            assert await peer.frame() == Frame(opcode, text.encode())


@pytest.mark.both_loops
@roles
@pytest.mark.parametrize("leave", [Client.reset, Client.half_close])
async def test_a_peer_that_leaves_in_the_middle(role, leave):
    async with open_ends(role, compression=None) as (ws, peer):
        await land_some(ws, peer, frame(TEXT, b"x" * MIB, mask=KEYS[role]), MIB // 2)
        leave(peer)
        with pytest.raises(ConnectionClosedError) as error:
            await within(ws.receive())
        assert error.value.code == 1006


@pytest.mark.both_loops
@roles
async def test_pieces_of_a_large_frame(role):
    """The application takes what has come, as it comes: it has no message of that size in memory."""
    text = "0123456789" * (MIB // 10)
    async with open_ends(role, compression=None) as (ws, peer):
        sending = asyncio.ensure_future(
            peer.raw(frame(TEXT, text.encode(), mask=KEYS[role]) + frame(TEXT, b"next", mask=KEYS[role]))
        )
        pieces = [piece async for piece in ws.receive_fragments()]
        await within(sending)
        assert "".join(pieces) == text
        assert len(pieces) > 1
        assert await within(ws.receive()) == "next"


@pytest.mark.both_loops
async def test_both_ways_at_once():
    """Writing pauses and goes on while something lands."""

    async def echo(ws):
        async for message in ws:
            await ws.send(message)

    message = b"\xff" * (4 * MIB)
    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", compression=None) as ws:
            sending = [asyncio.ensure_future(ws.send(message)) for _ in range(4)]
            for _ in range(4):
                assert await within(ws.receive()) == message
            await within(asyncio.gather(*sending))


@pytest.mark.both_loops
async def test_nothing_lands_over_tls():
    """There it would save next to nothing; the message is put together as elsewhere."""
    seen = []

    async def look(ws):
        async for message in ws:
            seen.append(is_landing(ws))
            await ws.send(message)

    authority = trustme.CA()
    server_side, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server_side)
    authority.configure_trust(client_side)
    text = "ASCII " * (MIB // 6)
    async with serve(look, "127.0.0.1", 0, ssl=server_side, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"wss://localhost:{port}/", ssl=client_side, compression=None) as ws:
            await within(ws.send(text))
            assert await within(ws.receive()) == text
    assert seen == [False]


class Carrier:
    """A transport that only knows its protocol."""

    def __init__(self, protocol) -> None:
        self.protocol = protocol

    def get_protocol(self):
        return self.protocol

    def set_protocol(self, protocol) -> None:
        self.protocol = protocol


class Owner:
    """A protocol that feeds its connection."""

    def __init__(self) -> None:
        self.connection = Connection(Role.CLIENT, 2 * MIB, 10)

    def data_received(self, data: bytes) -> None:
        self.connection.feed(data)


def test_a_read_that_ends_when_a_part_was_taken():
    """Windows reads into the buffer while the application goes on."""
    owner = Owner()
    wire = frame(TEXT, b"0123456789" * 10_000, mask=None)
    owner.data_received(wire[:50])
    carrier = Carrier(owner)
    landing = DirectReadProtocol(carrier, owner, owner.connection)
    carrier.protocol = landing
    room = landing.get_buffer(-1)
    assert owner.connection.take_part() == "0123456789" * 4
    room[:100] = wire[50:150]
    landing.buffer_updated(100)
    assert carrier.protocol is owner
    owner.data_received(wire[150:])
    assert owner.connection.take() == ("0123456789" * 10_000)[40:]


def test_a_part_that_is_taken_between_two_reads():
    owner = Owner()
    wire = frame(BINARY, b"0123456789" * 10_000, mask=None)
    owner.data_received(wire[:50])
    carrier = Carrier(owner)
    carrier.protocol = landing = DirectReadProtocol(carrier, owner, owner.connection)
    owner.connection.take_part()
    room = landing.get_buffer(-1)
    room[:1000] = wire[50:1050]
    landing.buffer_updated(1000)
    assert carrier.protocol is owner
    assert owner.connection.take_part() == wire[50:1050]


def test_a_protocol_that_was_replaced_meanwhile_stays():
    owner, other = Owner(), Owner()
    wire = frame(BINARY, bytes(100_000), mask=None)
    owner.data_received(wire[:50])
    carrier = Carrier(owner)
    landing = DirectReadProtocol(carrier, owner, owner.connection)
    carrier.protocol = other
    at = 50
    while at < len(wire):
        room = landing.get_buffer(-1)
        size = len(room)
        room[:] = wire[at : at + size]
        del room
        at += size
        landing.buffer_updated(size)
    assert owner.connection.take() == bytes(100_000)
    assert carrier.protocol is other
