"""Signals of servers inside a program: each is for all of them, and the program can have them for itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from support.helpers import hello, until, within

from flowserve import Config, Server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def same_handlers_afterwards() -> Iterator[None]:
    before = [signal.getsignal(number) for number in HANDLED]
    yield
    assert before == [signal.getsignal(number) for number in HANDLED]


@contextlib.asynccontextmanager
async def serving(*servers: Server) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.ensure_future(server.serve()) for server in servers]
    try:
        await until(lambda: all(server.started for server in servers))
        yield tasks
    finally:
        for server in servers:
            server.should_exit = True
        await within(asyncio.gather(*tasks))


def make_server(kind: type[Server] = Server) -> Server:
    return kind(Config(hello, port=0, lifespan="off", timeout_graceful_shutdown=1))


@pytest.mark.both_loops
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_one_signal_ends_all_servers(number):
    async with serving(make_server(), make_server()) as tasks:
        os.kill(os.getpid(), number)
        await within(asyncio.gather(*tasks))


@pytest.mark.both_loops
@pytest.mark.parametrize("first", [0, 1])
async def test_a_server_that_ends_leaves_the_others_their_signals(first, logs):
    servers = [make_server(), make_server()]
    async with serving(*servers) as tasks:
        servers[first].should_exit = True
        await within(tasks[first])
        other = servers[1 - first]
        assert signal.getsignal(signal.SIGTERM).__self__ is other  # type: ignore[union-attr]
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: any("SIGHUP" in line for line in logs.lines()))
        assert not other.should_exit
        os.kill(os.getpid(), signal.SIGTERM)
        await within(tasks[1 - first])


async def test_sighup_is_for_all(logs):
    async with serving(make_server(), make_server()):
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: sum("SIGHUP" in line for line in logs.lines()) == 2)


async def test_a_handler_of_the_program_stays():
    def own(number: int, frame: object) -> None: ...

    servers = [make_server(), make_server()]
    async with serving(*servers) as tasks:
        signal.signal(signal.SIGINT, own)
        servers[0].should_exit = True
        await within(tasks[0])
        assert signal.getsignal(signal.SIGINT) is own


class NoSignals(Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class OldStyle(Server):
    def install_signal_handlers(self) -> None: ...


def old_style_instance(config: Config) -> Server:
    server = Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[method-assign]
    return server


@pytest.mark.parametrize("kind", [NoSignals, OldStyle, old_style_instance])
async def test_signals_left_to_the_program(kind):
    """Each way in which programs ask uvicorn for this, in its present and former versions."""
    before = [signal.getsignal(number) for number in HANDLED]
    async with serving(make_server(kind)):
        assert before == [signal.getsignal(number) for number in HANDLED]


async def test_a_handler_that_is_extended():
    seen = []

    class Noticing(Server):
        def handle_exit(self, sig, frame):
            seen.append(sig)
            super().handle_exit(sig, frame)

    async with serving(make_server(), make_server(Noticing)) as tasks:
        os.kill(os.getpid(), signal.SIGTERM)
        await within(asyncio.gather(*tasks))
    assert seen == [signal.SIGTERM]
