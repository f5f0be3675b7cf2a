"""Sockets that the kernel watches in one set."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
from contextvars import ContextVar
from typing import Any

import pytest
from support.helpers import until
from support.polled import connect_to, listen, polled

pytestmark = [polled, pytest.mark.both_loops]
variable: ContextVar[str] = ContextVar("variable", default="the poller's")
MANY = 300
"""More than are asked for at once."""


class Echo(asyncio.Protocol):
    made: list[Echo]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.got = b""
        self.lost = False
        self.variable = ""

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.variable = variable.get()
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.transport = None


def making(made: list[Any], kind: type[Any] = Echo) -> Any:
    def make() -> Any:
        made.append(protocol := kind())
        return protocol

    return make


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_many_are_ready_at_once() -> None:
    made: list[Echo] = []
    listener = listen(making(made))
    peers = [await connect_to(listener) for _ in range(MANY)]
    await until(lambda: len(made) == MANY)
    for number, peer in enumerate(peers):
        peer.send(b"%d" % number)
    await until(lambda: all(protocol.got for protocol in made))
    assert sorted(int(protocol.got) for protocol in made) == list(range(MANY))
    for number, peer in enumerate(peers):
        assert int(peer.recv(10)) == number
        peer.close()
    await until(lambda: all(protocol.lost for protocol in made))
    listener.close()


async def test_one_that_another_closes_while_both_are_ready() -> None:
    class Closing(Echo):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            for protocol in made:
                protocol.transport.abort()

    made: list[Closing] = []
    listener = listen(making(made, Closing))
    peers = [await connect_to(listener) for _ in range(5)]
    await until(lambda: len(made) == 5)
    for peer in peers:
        peer.send(b"x")
    await until(lambda: all(protocol.lost for protocol in made))
    assert sum(len(protocol.got) for protocol in made) == 1
    listener.close()
    for peer in peers:
        peer.close()


async def test_all_is_called_with_the_pollers_variables() -> None:
    made: list[Echo] = []
    listener = listen(making(made))
    variable.set("the test's")
    peer = await connect_to(listener)
    await until(lambda: bool(made))
    peer.send(b"x")
    await until(lambda: bool(made[0].got))
    assert made[0].variable == "the poller's"
    listener.close()
    peer.close()
    await until(lambda: made[0].lost)


def _child(code: str, descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], pass_fds=[descriptor], stdin=subprocess.PIPE)


async def test_what_a_child_has_inherited_is_not_watched_once_it_is_closed() -> None:
    """The kernel would go on telling of it, under a number that is another connection's by then."""
    made: list[Echo] = []
    listener = listen(making(made))
    first = await connect_to(listener)
    await until(lambda: len(made) == 1)
    sock = made[0].transport.get_extra_info("socket")
    code = "import sys; sys.stdin.read()"
    with await asyncio.to_thread(_child, code, sock.fileno()):
        made[0].transport.abort()
        await until(lambda: made[0].lost)
        second = await connect_to(listener)
        await until(lambda: len(made) == 2)
        first.send(b"of the first")
        second.send(b"of the second")
        await until(lambda: bool(made[1].got))
        for _ in range(20):
            await asyncio.sleep(0)
        assert made[1].got == b"of the second"
    for each in (listener, first, second):
        each.close()
    await until(lambda: made[1].lost)


async def test_nothing_is_left() -> None:
    for round_ in range(3):
        made: list[Echo] = []
        listener = listen(making(made))
        peer = await connect_to(listener)
        await until(lambda made=made: bool(made))
        listener.close()
        peer.close()
        await until(lambda made=made: made[0].lost)
        del listener, peer, made
        await asyncio.sleep(0)
        gc.collect()
        if round_ == 0:
            before = descriptors()
    assert descriptors() == before


@pytest.mark.parametrize("paused", [False, True])
def test_an_event_loop_that_is_closed_before_its_connections(paused: bool) -> None:
    made: list[Echo] = []

    async def main() -> socket.socket:
        listener = listen(making(made))
        peer = await connect_to(listener)
        await until(lambda: bool(made))
        listener.close()
        if paused:
            made[0].transport.pause_reading()
        return peer

    loop = asyncio.new_event_loop()
    peer = loop.run_until_complete(main())
    loop.close()
    peer.setblocking(True)
    made.clear()
    gc.collect()
    assert peer.recv(1) == b""  # the connection has ended with its transport
    peer.close()
