"""Connecting to a host with several addresses (RFC 8305), some of which don't answer."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest
from support.helpers import within
from support.scripted import Certificates, Scripted, nothing_left, silent, talk

from flowserve.client import happy_eyeballs
from flowserve.client.connect import connect
from flowserve.client.happy_eyeballs import open_socket

pytestmark = pytest.mark.both_loops
LIVE, DEAD, REFUSING = "127.0.0.1", "127.0.0.2", "127.0.0.3"


@contextlib.contextmanager
def unanswered(port: int, host: str = DEAD) -> Iterator[None]:
    """An address where nobody answers: the queue of its listener is full, so that the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((host, port))
        yield


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What names resolve to; the only thing here that is not the real one."""
    found: list[str] = []

    async def resolve(host: str, port: int, lookup: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(happy_eyeballs, "_resolve", resolve)
    return found


async def test_one_that_does_not_answer_holds_nothing_up(addresses):
    """The delay is the default one; without any, the attempt would outlast the test."""
    addresses += [DEAD, LIVE]
    async with nothing_left(), Scripted(talk) as server:
        with unanswered(server.port):
            async with connect(f"ws://two.example:{server.port}", open_timeout=None) as ws:
                assert await within(ws.receive()) == "hello"
                assert ws.remote_address[0] == LIVE
                sock = ws.transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_over_tls_and_from_a_local_address(addresses):
    certificates = Certificates()
    addresses += [REFUSING, DEAD, LIVE]
    async with nothing_left(), Scripted(talk, ssl=certificates.server("two.example")) as server:
        with unanswered(server.port):
            options = {"ssl": certificates.client(), "happy_eyeballs_delay": 0.001}
            async with connect(f"wss://two.example:{server.port}", **options) as ws:
                assert await within(ws.receive()) == "hello"


async def test_the_errors_of_all_are_told(addresses):
    addresses += [DEAD, REFUSING, LIVE]
    async with nothing_left():
        with socket.socket() as sock:
            sock.bind((LIVE, 0))  # and nobody listens
            with pytest.raises(ConnectionRefusedError) as caught:
                await within(connect(f"ws://two.example:{sock.getsockname()[1]}"))
    assert caught.value.errno == errno.ECONNREFUSED
    for each in addresses:
        assert each in str(caught.value)


async def test_one_after_the_other(addresses):
    """Without a delay the second address is tried when the first has failed, and not before."""
    addresses += [DEAD, LIVE]
    async with nothing_left(), Scripted(talk) as server:
        with unanswered(server.port), pytest.raises(TimeoutError, match=r"connecting to two\.example"):
            await connect(f"ws://two.example:{server.port}", happy_eyeballs_delay=None, open_timeout=0.5)
        assert not server.peers
        addresses[0] = REFUSING
        async with connect(f"ws://two.example:{server.port}", happy_eyeballs_delay=None):
            pass


async def test_the_timeout_leaves_nothing(addresses):
    addresses += [DEAD, DEAD]
    with socket.socket() as sock:
        sock.bind((DEAD, 0))
        port = sock.getsockname()[1]
    async with nothing_left():
        with unanswered(port), pytest.raises(TimeoutError, match=r"connecting to two\.example"):
            await connect(f"ws://two.example:{port}", happy_eyeballs_delay=0.01, open_timeout=0.1)


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_when_one_has_just_connected(addresses, turns):
    """Also while the sockets of the others are being closed: the cancellation must not get lost there."""
    addresses += [DEAD, LIVE]
    accepted = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, LIVE, 0)
    port = server.sockets[0].getsockname()[1]
    async with nothing_left():
        with unanswered(port):
            task = asyncio.ensure_future(open_socket("two.example", port, None, {"happy_eyeballs_delay": 0.001}))
            await within(accepted.wait())
            for _ in range(turns):
                await asyncio.sleep(0)
            cancelled = task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await within(task)).close()
            assert task.cancelled() == cancelled
    server.close()
    await within(server.wait_closed())


async def test_the_resolver():
    async with nothing_left(), Scripted(silent) as server:
        for host in (LIVE, "localhost"):
            sock = await open_socket(host, server.port, (LIVE, 0), {"family": socket.AF_INET})
            assert sock.getpeername() == (LIVE, server.port)
            sock.close()
        with pytest.raises(socket.gaierror):
            await open_socket("nowhere.invalid", server.port, None, {})
        with pytest.raises(socket.gaierror):
            await open_socket(LIVE, server.port, None, {"family": socket.AF_INET6})
        with pytest.raises(OSError, match=r"192\.0\.2\.1"):
            await open_socket(LIVE, server.port, ("192.0.2.1", 0), {})
