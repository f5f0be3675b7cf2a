"""A worker that has served, lived or grown enough drains and ends, or tells whoever replaces it; SIGHUP does not end
it."""

from __future__ import annotations

import asyncio
import mmap
import signal
import sys

import pytest
from support.draining import Traffic, launched
from support.helpers import Client, echo, hello, until, within

import flowserve
from flowserve import Config, ConfigError, Server
from flowserve.server.recycling import memory

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")
MIB = 1 << 20


async def worn(server) -> list[str]:
    """Have the server tell a list that it is worn."""
    reasons: list[str] = []
    server.server.worn = reasons.append
    return reasons


# Requests


async def test_requests_and_websockets_count(serve, connect):
    server = await serve(echo, limit_max_requests=6)
    reasons = await worn(server)
    client = await connect(server)
    for _ in range(3):
        assert (await client.get()).status == 200
    for _ in range(2):
        await (await connect(server)).upgrade()
    assert reasons == []
    assert server.server._context.served == 5
    assert (await (await connect(server)).get()).status == 200
    assert reasons == ["6 requests"]


async def test_it_is_told_once_and_serves_on(serve, connect):
    """Until whoever was told has a successor and shuts it down."""
    server = await serve(hello, limit_max_requests=1, workers_max_lifetime=0.05)
    reasons = await worn(server)
    client = await connect(server)
    for _ in range(5):
        assert (await client.get()).status == 200
    await asyncio.sleep(0.1)  # longer than the lifetime
    assert len(reasons) == 1
    assert server.server.started
    assert not server.server.should_exit


async def test_jitter(serve, connect):
    """Every server has a limit of its own, none below --limit-max-requests and none above both together."""
    limits = set()
    for _ in range(12):
        server = await serve(hello, limit_max_requests=1000, limit_max_requests_jitter=50)
        limits.add(server.server._context.max_served)
    assert len(limits) > 1
    assert min(limits) >= 1000
    assert max(limits) <= 1050


async def test_no_limit(serve, connect):
    server = await serve(hello)
    reasons = await worn(server)
    client = await connect(server)
    for _ in range(50):
        await client.get()
    assert server.server._context.max_served == 0
    assert server.server._context.served == 50
    assert reasons == []


async def test_nothing_is_told_while_it_shuts_down(serve, stage, connect):
    server = await serve(stage, limit_max_requests=2, workers_max_lifetime=0.5, timeout_drain=30)
    reasons = await worn(server)
    client, other = await connect(server), await connect(server)
    opening = asyncio.ensure_future(client.upgrade())
    act = await stage.next()
    await act.accept()
    await opening
    task = asyncio.ensure_future(server.server.shutdown())
    await within(act.variables.run(flowserve.draining).wait())
    await other.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await (await stage.next()).answer(b"ok")
    assert (await other.response()).status == 200
    await asyncio.sleep(0.6)  # longer than the lifetime
    assert reasons == []
    act.leave()
    client.leave()
    await within(task)


# Without anybody to tell


async def test_the_server_ends_by_itself(connect, stage):
    """Once a successor could be started: serve() drains and returns."""
    server = Server(Config(stage, port=0, lifespan="off", limit_max_requests=2, timeout_drain=0.2))
    serving = asyncio.ensure_future(server.serve())
    await until(lambda: server.started)
    clients = [await Client.connect(server.sockets[0].getsockname()) for _ in range(2)]
    for client in clients:
        opening = asyncio.ensure_future(client.upgrade())
        act = await stage.next()
        await act.accept()
        await opening
    for client in clients:
        assert (await client.close_frame())[0] == 1012
        await client.send_close(1012)
        await client.aclose()
    for act in stage.acts:
        act.leave()
    await within(serving)
    assert server.should_exit


@posix
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_the_command_ends_soon_after_the_limit(loop):
    """Neither a request nor a WebSocket is lost, and not many more than the limit are served."""
    options = ["--limit-max-requests", "300", "--timeout-drain", "500ms"]
    async with launched("support.draining:app", "--loop", loop, *options) as running:
        clients = [await Client.connect(running.address) for _ in range(20)]
        for client in clients:
            await client.upgrade()
        traffic = Traffic(running.address)
        requests = [asyncio.ensure_future(traffic.keep_alive()) for _ in range(2)]
        requests += [asyncio.ensure_future(traffic.one_each()) for _ in range(2)]
        for client in clients:
            assert await client.close_frame() == (1012, "the server is shutting down")
            await client.send_close(1012)
            await client.closed()
            await client.aclose()
        await within(asyncio.gather(*requests))
        status, out = await running.wait()
    assert status == 0
    assert 280 <= traffic.answered < 330
    assert out.split() == ["disconnect"] * 20 + ["shutdown"]
    reasons = [line for line in running.log.splitlines() if "300 requests" in line]
    assert len(reasons) == 1
    assert "Traceback" not in running.log


@posix
async def test_one_signal_does_not_cut_a_recycling_short():
    options = ["--limit-max-requests", "1", "--timeout-drain", "1s"]
    async with launched("support.draining:app", *options) as running:
        client = await Client.connect(running.address)
        await client.upgrade()
        await running.logged("1 requests")
        running.process.send_signal(signal.SIGTERM)
        assert (await client.close_frame())[0] == 1012
        await client.send_close(1012)
        await client.closed()
        await client.aclose()
        status, _ = await running.wait()
    assert status == 0


# Lifetime and memory


async def test_lifetime(serve, connect):
    server = await serve(hello, workers_max_lifetime=0.2)
    reasons = await worn(server)
    assert (await (await connect(server)).get()).status == 200
    await until(lambda: bool(reasons))
    assert reasons == ["0.2s of life"]


@posix
async def test_lifetime_of_the_command():
    async with launched("support.draining:app", "--workers-max-lifetime", "300ms") as running:
        status, out = await running.wait()
    assert (status, out) == (0, "shutdown\n")
    assert "0.3s of life" in running.log


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the most that it ever took is all we know")
def test_memory_is_what_is_taken_now():
    before = memory()
    assert before > MIB
    with mmap.mmap(-1, 64 * MIB) as hoard:  # malloc() may have held as much
        hoard.write(b"x" * len(hoard))
        taken = memory()
    assert 60 * MIB < taken - before < 160 * MIB
    assert memory() < taken - 50 * MIB


@posix
async def test_memory_of_the_command():
    async with launched("support.draining:hoarder", "--workers-max-rss", "100MiB", "--timeout-drain", "1m") as running:
        client = await Client.connect(running.address)
        assert (await client.get()).status == 200
        await client.aclose()
        status, _ = await running.wait()
    assert status == 0
    assert "MB of memory" in running.log


def test_options_are_checked():
    for bad in ({"limit_max_requests": 0}, {"workers_max_lifetime": "0"}, {"workers_max_rss": "much"}):
        with pytest.raises(ConfigError):
            Config(hello, **bad)


# SIGHUP


@posix
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_sighup_without_tls(loop):
    async with launched("support.draining:app", "--loop", loop) as running:
        client = await Client.connect(running.address)
        await client.upgrade()
        running.process.send_signal(signal.SIGHUP)
        await running.logged("SIGHUP")
        await client.send_text("still here")
        assert await client.message() == "still here"
        await client.aclose()
        running.process.send_signal(signal.SIGTERM)
        status, _ = await running.wait()
    assert status == 0
