"""A transport over a Poller does what asyncio says of transports, like those of event loops."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.helpers import until, within
from support.polled import TRANSPORTS, polled, polled_peer

pytestmark = [pytest.mark.both_loops, pytest.mark.parametrize("kind", TRANSPORTS)]


class Recorder(asyncio.Protocol):
    """Records what a transport tells."""

    transport: Any

    def __init__(self, keep_open: bool = False) -> None:
        self.calls: list[str] = []
        self.got = b""
        self.lost_by: Any = "not lost"
        self.keep_open = keep_open

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.got += data

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.lost_by = exc


class Buffered(asyncio.BufferedProtocol):
    """Takes three bytes at a time."""

    def __init__(self, other: Recorder) -> None:
        self.other = other
        self.buffer = bytearray(3)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.other.data_received(b"<" + self.buffer[:nbytes] + b">")

    def eof_received(self) -> bool:
        return self.other.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.other.connection_lost(exc)


@asynccontextmanager
async def pair_of(kind: str, protocol: Any) -> AsyncIterator[socket.socket]:
    """The socket of the peer of a protocol."""
    if kind == "poller":
        peer = await polled_peer(protocol)
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        peer.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    yield peer
    peer.close()
    if not protocol.transport.is_closing():
        protocol.transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def take(peer: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        got += await within(asyncio.get_running_loop().sock_recv(peer, size - len(got)))
    return got


def fill(protocol: Recorder) -> int:
    """Write until the kernel takes no more; return how many bytes were written."""
    written = 0
    while not protocol.transport.get_write_buffer_size() > 1_000_000:
        protocol.transport.write(bytes(500_000))
        written += 500_000
    return written


async def test_both_ends_are_named(kind: str) -> None:
    protocol = Recorder()
    async with pair_of(kind, protocol) as peer:
        transport = protocol.transport
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert transport.get_extra_info("sockname") == peer.getpeername()
        assert transport.get_extra_info("sslcontext") is None
        assert transport.get_extra_info("nothing", 5) == 5
        sock = transport.get_extra_info("socket")
        assert sock is transport.get_extra_info("socket")
        assert (sock.family, sock.type, sock.getpeername()) == (socket.AF_INET, socket.SOCK_STREAM, peer.getsockname())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) >= 0
    await until(lambda: "lost" in protocol.calls)


async def test_a_conversation(kind: str) -> None:
    protocol = Recorder()
    async with pair_of(kind, protocol) as peer:
        peer.send(b"question")
        await until(lambda: protocol.got == b"question")
        protocol.transport.write(b"ans")
        protocol.transport.writelines([b"w", memoryview(b"er")])
        assert await take(peer, 6) == b"answer"
        assert protocol.transport.is_reading()
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: protocol.calls == ["made", "eof", "lost"])
        assert protocol.lost_by is None
        assert protocol.transport.is_closing()
        assert not protocol.transport.is_reading()


async def test_a_peer_that_has_ended_still_gets_its_answer(kind: str) -> None:
    protocol = Recorder(keep_open=True)
    async with pair_of(kind, protocol) as peer:
        peer.send(b"question")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: "eof" in protocol.calls)
        assert (protocol.got, protocol.calls) == (b"question", ["made", "eof"])
        protocol.transport.write(b"answer")
        protocol.transport.close()
        assert await take(peer, 6) == b"answer"
        await until(lambda: protocol.calls == ["made", "eof", "lost"])


async def test_reading_pauses(kind: str) -> None:
    protocol = Recorder()
    async with pair_of(kind, protocol) as peer:
        protocol.transport.pause_reading()
        assert not protocol.transport.is_reading()
        peer.send(b"data")
        for _ in range(20):
            await asyncio.sleep(0)
        assert protocol.got == b""
        protocol.transport.resume_reading()
        await until(lambda: protocol.got == b"data")


async def test_another_protocol_takes_over(kind: str) -> None:
    protocol = Recorder()
    async with pair_of(kind, protocol) as peer:
        other = Buffered(protocol)
        protocol.transport.set_protocol(other)
        assert protocol.transport.get_protocol() is other
        peer.send(b"12345678")
        await until(lambda: protocol.got == b"<123><456><78>")
        protocol.transport.set_protocol(protocol)
        peer.send(b"9")
        await until(lambda: protocol.got == b"<123><456><78>9")
        protocol.transport.set_protocol(other)
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: protocol.calls == ["made", "eof", "lost"])


async def test_a_slow_peer_pauses_the_writer(kind: str) -> None:
    protocol = Recorder()
    async with pair_of(kind, protocol) as peer:
        transport = protocol.transport
        transport.set_write_buffer_limits(high=300_000, low=100_000)
        assert transport.get_write_buffer_limits() == (100_000, 300_000)
        written = fill(protocol)
        assert protocol.calls == ["made", "pause"]
        transport.write_eof()
        assert len(await take(peer, written)) == written
        assert await within(asyncio.get_running_loop().sock_recv(peer, 1)) == b""
        await until(lambda: protocol.calls == ["made", "pause", "resume"])
        assert transport.get_write_buffer_size() == 0


async def test_lower_marks_pause_at_once(kind: str) -> None:
    protocol = Recorder()
    async with pair_of(kind, protocol):
        transport = protocol.transport
        transport.set_write_buffer_limits(100_000_000)
        fill(protocol)
        assert protocol.calls == ["made"]
        transport.set_write_buffer_limits(1000)
        assert protocol.calls == ["made", "pause"]
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(1000, 2000)


async def test_close_sends_what_was_written(kind: str) -> None:
    protocol = Recorder()
    async with pair_of(kind, protocol) as peer:
        written = fill(protocol)
        protocol.transport.close()
        protocol.transport.close()
        assert not protocol.transport.is_reading()
        assert len(await take(peer, written)) == written
        await until(lambda: protocol.calls[-1] == "lost")
        assert protocol.calls.count("lost") == 1


async def test_abort_drops_what_was_written(kind: str) -> None:
    protocol = Recorder()
    async with pair_of(kind, protocol):
        fill(protocol)
        protocol.transport.close()
        protocol.transport.abort()
        protocol.transport.abort()
        assert protocol.transport.get_write_buffer_size() == 0 or kind == "loop"
        await until(lambda: protocol.calls[-1] == "lost")
        assert protocol.calls.count("lost") == 1
        assert protocol.lost_by is None


@pytest.mark.parametrize("held", [False, True], ids=["nothing held", "much held"])
async def test_a_reset(kind: str, held: bool) -> None:
    protocol = Recorder()
    async with pair_of(kind, protocol) as peer:
        if held:
            fill(protocol)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        await until(lambda: protocol.calls[-1] == "lost")
        assert isinstance(protocol.lost_by, OSError)
        assert protocol.calls.count("lost") == 1


async def test_the_end_of_writing(kind: str) -> None:
    protocol = Recorder()
    async with pair_of(kind, protocol) as peer:
        assert protocol.transport.can_write_eof()
        protocol.transport.write_eof()
        protocol.transport.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            protocol.transport.write(b"late")
        assert await within(asyncio.get_running_loop().sock_recv(peer, 1)) == b""
        peer.send(b"still read")
        await until(lambda: protocol.got == b"still read")


async def test_a_protocol_that_raises_is_reported_and_its_connection_ends(kind: str) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))

    class Raising(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    protocol = Raising()
    async with pair_of(kind, protocol) as peer:
        peer.send(b"data")
        await until(lambda: protocol.calls == ["made", "lost"])
        assert isinstance(protocol.lost_by, ZeroDivisionError)
        assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]


async def test_a_buffer_without_room_is_no_end(kind: str) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    protocol = Recorder()
    async with pair_of(kind, protocol) as peer:
        full = Buffered(protocol)
        full.buffer = bytearray()
        protocol.transport.set_protocol(full)
        peer.send(b"data")
        await until(lambda: protocol.calls[-1] == "lost")
        assert protocol.calls == ["made", "lost"]
        assert isinstance(protocol.lost_by, RuntimeError)
        assert len(reports) == 1


async def test_nothing_is_left(kind: str) -> None:
    counts = []
    for _ in range(5):
        protocol = Recorder()
        async with pair_of(kind, protocol):
            protocol.transport.get_extra_info("socket")
        await until(lambda protocol=protocol: "lost" in protocol.calls)
        await asyncio.sleep(0)
        del protocol
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[-1] <= counts[1]


@polled
async def test_an_exit_leaves_the_event_loop(kind: str) -> None:
    """As it does out of any callback of an event loop."""
    if kind == "loop":
        pytest.skip("uvloop takes it for a fault of the protocol")

    class Exiting(Recorder):
        def data_received(self, data: bytes) -> None:
            raise SystemExit(7)

    def run() -> None:
        async def main() -> None:
            peer = await polled_peer(Exiting())
            peer.send(b"data")
            try:
                await asyncio.sleep(20)
            finally:
                peer.close()

        asyncio.run(main())

    with pytest.raises(SystemExit, match="7"):
        await asyncio.to_thread(run)
