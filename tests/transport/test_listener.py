"""Accepting connections over a Poller."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from pathlib import Path
from typing import Any

import pytest
from support.helpers import until
from support.polled import connect_to, listen, polled

pytestmark = [polled, pytest.mark.both_loops]


class Named(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.client = transport.get_extra_info("peername")
        self.server = transport.get_extra_info("sockname")


@pytest.mark.parametrize(
    ("family", "bound", "connected"),
    [
        (socket.AF_INET, ("127.0.0.1", 0), "127.0.0.1"),
        (socket.AF_INET, ("0.0.0.0", 0), "127.0.0.2"),
        (socket.AF_INET6, ("::1", 0), "::1"),
        (socket.AF_INET6, ("::", 0), "::1"),
        (socket.AF_INET6, ("::", 0), "::ffff:127.0.0.1"),
    ],
)
async def test_names(family: int, bound: Any, connected: str) -> None:
    """As the sockets have them, whatever the listening one is bound to."""
    sock = socket.socket(family)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(bound)
    protocol = Named()
    listener = listen(lambda: protocol, sock)
    peer = socket.socket(family)
    peer.connect((connected, sock.getsockname()[1]))
    await until(lambda: hasattr(protocol, "client"))
    assert protocol.client == peer.getsockname()
    assert protocol.server == peer.getpeername()
    for each in (listener, peer, protocol.transport):
        each.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("abstract", [False, True])
async def test_names_of_unix_domain_sockets(abstract: bool, tmp_path: Path) -> None:
    name: Any = b"\0flowserve-%d" % os.getpid() if abstract else str(tmp_path / "socket")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(name)
    protocol = Named()
    listener = listen(lambda: protocol, sock)
    peer = await connect_to(listener)
    await until(lambda: hasattr(protocol, "client"))
    assert protocol.client == ""
    assert protocol.server == peer.getpeername() == name
    assert protocol.transport.get_extra_info("socket").family == socket.AF_UNIX
    for each in (listener, peer, protocol.transport):
        each.close()
    await asyncio.sleep(0)


async def test_more_than_are_accepted_in_an_iteration() -> None:
    made: list[Named] = []

    def make() -> Named:
        made.append(protocol := Named())
        return protocol

    listener = listen(make)
    peers = []
    for _ in range(50):
        peers.append(peer := socket.socket())
        peer.connect(listener.sockets[0].getsockname())
    await until(lambda: len(made) == 50)
    listener.close()
    listener.close()
    for each in (*peers, *(protocol.transport for protocol in made)):
        each.close()
    await asyncio.sleep(0)


async def test_without_descriptors_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    shortages = []

    def on_shortage() -> None:
        shortages.append(True)
        listener.close()

    made: list[Any] = []
    listener = listen(lambda: made.append(True), on_shortage=on_shortage)
    peer = socket.socket()
    peer.connect(listener.sockets[0].getsockname())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    holes = []
    try:
        while True:
            holes.append(os.dup(peer.fileno()))
    except OSError:
        await until(lambda: bool(shortages))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for hole in holes:
            os.close(hole)
    assert (len(shortages), made) == (1, [])
    peer.close()


@pytest.mark.parametrize("where", ["factory", "connection_made"])
async def test_a_connection_that_can_not_begin_harms_no_other(where: str) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))

    class Raising(Named):
        def connection_made(self, transport: Any) -> None:
            raise ZeroDivisionError

    made: list[Named] = []

    def make() -> Any:
        if len(made) == 0 and where == "factory":
            made.append(Named())
            raise ZeroDivisionError
        made.append(protocol := Named() if made else Raising())
        return protocol

    listener = listen(make)
    first = await connect_to(listener)
    second = await connect_to(listener)
    await until(lambda: len(made) == 2)
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
    reports.clear()
    first.setblocking(True)
    assert first.recv(1) == b""
    for each in (listener, first, second, made[1].transport):
        each.close()
    await asyncio.sleep(0)
