"""Flow control over one transport."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextvars import copy_context
from typing import Any, cast
from unittest.mock import Mock

import pytest
import trustme
from support.helpers import until, within
from support.polled import TRANSPORTS, polled_peer

from flowserve.transport import stream as flow_module
from flowserve.transport.stream import TransportStream


class Transport:
    """What a Flow calls, in order."""

    def __init__(self, half_open: bool = True) -> None:
        self.calls: list[Any] = []
        self.half_open = half_open
        self.buffered = 0

    def can_write_eof(self) -> bool:
        return self.half_open

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, *args))


def flow_over(transport: Transport) -> TransportStream:
    flow = TransportStream(transport, copy_context())  # type: ignore[arg-type]
    assert transport.calls == []
    return flow


def test_reading_is_paused_and_resumed_once() -> None:
    """Transports of other event loops raise for a second pause."""
    transport = Transport()
    flow = flow_over(transport)
    flow.resume_reading()
    assert transport.calls == []
    for _ in range(3):
        flow.pause_reading()
    assert transport.calls == [("pause_reading",)]
    for _ in range(3):
        flow.resume_reading()
    assert transport.calls == [("pause_reading",), ("resume_reading",)]
    flow.pause_reading()
    assert transport.calls[2:] == [("pause_reading",)]


def test_a_lost_transport_is_not_resumed() -> None:
    transport = Transport()
    flow = flow_over(transport)
    flow.pause_reading()
    flow.lost()
    flow.resume_reading()
    assert transport.calls == [("pause_reading",)]


@pytest.mark.parametrize(("half_open", "call"), [(True, "write_eof"), (False, "close")])
def test_end_writing(half_open: bool, call: str) -> None:
    transport = Transport(half_open)
    flow = flow_over(transport)
    assert flow.half_open is half_open
    flow.end_writing()
    assert transport.calls == [(call,)]


def test_end_writing_to_a_peer_that_has_reset_the_connection() -> None:
    """asyncio's transports raise then, uvloop's do not."""
    transport = Transport()
    transport.write_eof = Mock(side_effect=OSError(107, "Transport endpoint is not connected"))  # type: ignore[method-assign]
    flow_over(transport).end_writing()
    assert transport.calls == [("abort",)]


def test_writing_and_closing_are_the_transports() -> None:
    transport = Transport()
    flow = flow_over(transport)
    large = b"d" * 70_000
    flow.write(b"a")
    flow.writelines([b"b", b"c"])
    flow.writelines([b"b", large])
    flow.close()
    flow.abort()
    # some releases of CPython have a writelines() that is better not called
    lines = [("write", b"b"), ("write", large)] if flow_module._NEVER_PAUSES else [("writelines", [b"b", large])]
    assert transport.calls == [("write", b"a"), ("write", b"bc"), *lines, ("close",), ("abort",)]


def test_progress_is_some_but_not_all() -> None:
    transport = Transport()
    flow = flow_over(transport)
    assert not flow.progressed()  # nothing to send
    transport.buffered = 1000
    flow.progressed()
    assert not flow.progressed()
    transport.buffered = 900
    assert flow.progressed()
    assert not flow.progressed()
    transport.buffered = 0
    assert not flow.progressed()


async def test_drain_lets_others_have_their_turn() -> None:
    flow = flow_over(Transport())
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, "other")
    await flow.drain()
    assert turns == ["other"]


async def test_drain_waits_while_writing_is_paused() -> None:
    flow = flow_over(Transport())
    flow.pause_writing()
    assert flow.write_paused
    waiting = [asyncio.ensure_future(flow.drain()) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    flow.resume_writing()
    assert not flow.write_paused
    await within(asyncio.gather(*waiting))


async def test_drain_waits_on_if_writing_is_paused_again_at_once() -> None:
    flow = flow_over(Transport())
    flow.pause_writing()
    waiting = asyncio.ensure_future(flow.drain())
    await asyncio.sleep(0)
    flow.resume_writing()
    flow.pause_writing()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    flow.resume_writing()
    await within(waiting)


async def test_a_cancelled_drain_harms_no_other() -> None:
    flow = flow_over(Transport())
    flow.pause_writing()
    first, second = asyncio.ensure_future(flow.drain()), asyncio.ensure_future(flow.drain())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert first.cancelled()
    flow.resume_writing()
    await within(second)


async def test_a_lost_transport_wakes_whoever_drains() -> None:
    flow = flow_over(Transport())
    flow.pause_writing()
    waiting = asyncio.ensure_future(flow.drain())
    await asyncio.sleep(0)
    flow.lost()
    await within(waiting)


def test_what_is_unsent_is_what_the_transport_holds_where_no_socket_tells_more() -> None:
    transport = Transport()
    flow = flow_over(transport)
    transport.buffered = 1000
    assert flow.buffered() == flow.unsent() == 1000


def test_limit_buffer() -> None:
    transport = Transport()
    flow_over(transport).limit_buffer(5000)
    assert transport.calls == [("set_write_buffer_limits", 5000, None)]


# Over a real transport


class Passing(asyncio.Protocol):
    """Passes on what a transport tells, as every protocol that has a Flow."""

    flow: TransportStream

    def __init__(self) -> None:
        self.got = b""
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.flow = TransportStream(cast(asyncio.Transport, transport), copy_context())

    def data_received(self, data: bytes) -> None:
        self.got += data

    def eof_received(self) -> bool:
        self.ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.flow.lost()

    def pause_writing(self) -> None:
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()


async def connected(kind: str, **options: int) -> tuple[Passing, socket.socket]:
    """Return a protocol, and the other end of its connection, which has such `options` of SOL_SOCKET."""
    protocol = Passing()
    if kind == "poller":
        return protocol, await polled_peer(protocol, **options)
    listener = socket.create_server(("127.0.0.1", 0))
    peer = socket.socket()
    for name, value in options.items():
        peer.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(peer, listener.getsockname())
    ours, _ = listener.accept()
    listener.close()
    await loop.create_connection(lambda: protocol, sock=ours)
    return protocol, peer


@pytest.fixture(params=TRANSPORTS)
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Passing, socket.socket]]:
    """A protocol, and the other end of its socket."""
    protocol, theirs = await connected(request.param)
    yield protocol, theirs
    theirs.close()
    protocol.flow.abort()
    await asyncio.sleep(0)


async def receive_all(sock: socket.socket, size: int) -> int:
    loop = asyncio.get_running_loop()
    got = 0
    while got < size:
        got += len(await within(loop.sock_recv(sock, 1 << 20)))
    return got


@pytest.mark.both_loops
async def test_a_peer_that_does_not_read_stops_the_writer(pair: tuple[Passing, socket.socket]) -> None:
    protocol, peer = pair
    flow = protocol.flow
    written = 0
    while not flow.write_paused:
        flow.write(bytes(100_000))
        written += 100_000
        await asyncio.sleep(0)
        assert written < 100_000_000
    draining = asyncio.ensure_future(flow.drain())
    flow.progressed()
    assert not flow.progressed()
    await receive_all(peer, 50_000)
    await until(lambda: flow.transport.get_write_buffer_size() < 100_000 or flow.progressed())
    await receive_all(peer, written - 50_000 - (1 << 20))
    await within(draining)
    assert not flow.write_paused


@pytest.mark.both_loops
async def test_what_is_written_is_sent_before_the_call_returns(pair: tuple[Passing, socket.socket]) -> None:
    """Code that blocks the event loop afterwards does not delay it."""
    protocol, peer = pair
    for data in (b"one", memoryview(b"two"), b""):
        protocol.flow.write(data)
        assert peer.recv(10) == data if data else True
    protocol.flow.writelines([b"three", b"four"])
    assert peer.recv(10) == b"threefour"


@pytest.mark.both_loops
async def test_more_pieces_than_the_kernel_takes_at_once(pair: tuple[Passing, socket.socket]) -> None:
    protocol, peer = pair
    pieces: list[bytes | memoryview] = [bytes([number]) * (4100 + number) for number in range(200)]
    pieces[1] = memoryview(pieces[1])[::1]
    protocol.flow.writelines(pieces)
    received = bytearray()
    while len(received) < sum(map(len, pieces)):
        received += await within(asyncio.get_running_loop().sock_recv(peer, 1 << 20))
    assert received == b"".join(pieces)


@pytest.mark.both_loops
async def test_order_holds_while_the_transport_holds_some(pair: tuple[Passing, socket.socket]) -> None:
    """What goes to the kernel at once never overtakes what the transport holds."""
    protocol, peer = pair
    pieces = [bytes([number]) * size for number, size in enumerate((1, 70_000, 3, 300_000, 5, 100_000, 2) * 30)]
    received = bytearray()
    for number, piece in enumerate(pieces):
        if number % 5 == 4:
            protocol.flow.writelines([piece[:1], piece[1:]])
        else:
            protocol.flow.write(piece)
        if number % 3 == 2:
            received += await within(asyncio.get_running_loop().sock_recv(peer, 150_000))
    while len(received) < sum(map(len, pieces)):
        received += await within(asyncio.get_running_loop().sock_recv(peer, 1 << 20))
    assert received == b"".join(pieces)


@pytest.mark.both_loops
async def test_reading_stops_and_goes_on(pair: tuple[Passing, socket.socket]) -> None:
    protocol, peer = pair
    protocol.flow.pause_reading()
    protocol.flow.pause_reading()
    peer.send(b"one")
    for _ in range(20):
        await asyncio.sleep(0)
    assert protocol.got == b""
    protocol.flow.resume_reading()
    await until(lambda: protocol.got == b"one")


@pytest.mark.both_loops
async def test_end_writing_leaves_the_other_direction(pair: tuple[Passing, socket.socket]) -> None:
    protocol, peer = pair
    protocol.flow.write(b"last")
    protocol.flow.end_writing()
    loop = asyncio.get_running_loop()
    assert await within(loop.sock_recv(peer, 100)) == b"last"
    assert await within(loop.sock_recv(peer, 100)) == b""
    peer.send(b"still read")
    await until(lambda: protocol.got == b"still read")


@pytest.mark.both_loops
@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't tell what their sockets hold")
@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_what_the_kernel_holds_is_unsent(kind: str) -> None:
    """A slow peer is seen to take something long before the socket has room again."""
    protocol, peer = await connected(kind, SO_RCVBUF=4096)
    flow = protocol.flow
    assert flow.unsent() == 0
    flow.write(b"x" * 100)
    await receive_all(peer, 100)
    await until(lambda: flow.unsent() == 0)
    while not flow.write_paused:
        flow.write(bytes(100_000))
        await asyncio.sleep(0)
    held, unsent = flow.buffered(), flow.unsent()
    assert unsent > held > 0
    flow.progressed()
    await receive_all(peer, 65536)
    await until(lambda: flow.unsent() < unsent)
    assert flow.progressed()
    peer.close()
    flow.abort()
    await asyncio.sleep(0)
    assert flow.unsent() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't tell what their sockets hold")
async def test_over_tls_what_the_kernel_holds_is_progress() -> None:
    """Behind TLS' buffer there is that of another transport, which an end would discard and nobody tells of: while the
    kernel has something, it may have, too."""
    authority, loop = trustme.CA(), asyncio.get_running_loop()
    server_context, client_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server_context)
    authority.configure_trust(client_context)
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        await loop.sock_connect(peer, server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    opening = asyncio.open_connection(sock=peer, ssl=client_context, server_hostname="localhost", limit=1000)
    (transport, protocol), (reader, writer) = await within(
        asyncio.gather(loop.connect_accepted_socket(Passing, ours, ssl=server_context), opening)
    )
    flow = protocol.flow
    try:
        flow.write(bytes(200_000))
        await until(lambda: flow.buffered() == 0 and flow.unsent() > 0)
        flow.progressed()
        unsent = flow.unsent()
        got = len(await within(reader.read(10_000)))
        await until(lambda: flow.unsent() < unsent)
        assert flow.progressed()
        await within(reader.readexactly(200_000 - got))
        await until(lambda: flow.unsent() == 0)
        assert not flow.progressed()
    finally:
        writer.transport.abort()
        transport.abort()
    await asyncio.sleep(0)
