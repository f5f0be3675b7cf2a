"""--shutdown-delay: after SIGTERM all is served as before, but health checks are told that the server leaves."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest
from support.draining import Launched, launched
from support.helpers import TEXT, Client, frame, within

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

APP = "support.draining:app"
OPTIONS = ("--health-path", "/-/health", "--shutdown-delay")
DELAYED = "SIGTERM: shutting down in 60s (--shutdown-delay); send SIGTERM again to begin now"


async def lame_duck(running: Launched) -> None:
    """Have the delay begin, and see that everything is as before, but for health checks."""
    websocket, client = await Client.connect(running.address), await Client.connect(running.address)
    await websocket.upgrade()
    assert (await client.get("/-/health")).status == 200
    running.process.send_signal(signal.SIGTERM)
    assert DELAYED in await running.logged("SIGTERM")
    health = await client.get("/-/health")
    assert (health.status, health.body) == (503, b"draining")
    response = await client.get()
    assert (response.status, response.header("connection")) == (200, None)
    late = await Client.connect(running.address)
    await late.upgrade()
    for each in (websocket, late):
        await each.raw(frame(TEXT, b"still"))
        assert await each.message() == "still"
    for each in (websocket, client, late):
        await each.aclose()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_begins_the_shutdown(number: signal.Signals, loop: str) -> None:
    async with launched(APP, *OPTIONS, "60s", "--loop", loop) as running:
        await lame_duck(running)
        websocket = await Client.connect(running.address)
        await websocket.upgrade()
        running.process.send_signal(number)
        assert (await websocket.close_frame())[0] == 1012
        await websocket.aclose()
        status, out = await running.wait()
    assert status == 0
    assert out.endswith("shutdown\n")
    assert f"{number.name}: shutting down\n" in running.log
    assert "at once" not in running.log.replace("again to stop at once", "")


async def test_a_third_signal_cuts() -> None:
    async with launched("support.helpers:slow", *OPTIONS, "60s") as running:
        client = await Client.connect(running.address)
        await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        assert (await client.head()).status == 200
        for words in ("SIGTERM: shutting down in 60s", "SIGTERM: shutting down\n", "SIGTERM again: stopping at once"):
            running.process.send_signal(signal.SIGTERM)
            await running.logged(words)
        assert (await running.wait())[0] == 0
        await client.aclose()


async def test_the_delay_ends_by_itself() -> None:
    async with launched(APP, *OPTIONS, "100ms") as running:
        running.process.send_signal(signal.SIGTERM)
        await running.logged("SIGTERM: shutting down in 0.1s (--shutdown-delay)")
        await running.logged("SIGTERM: shutting down\n")
        assert (await running.wait())[0] == 0


async def test_ctrl_c_is_not_delayed() -> None:
    async with launched(APP, *OPTIONS, "60s") as running:
        running.process.send_signal(signal.SIGINT)
        await running.logged("SIGINT: shutting down\n")
        assert (await running.wait())[0] == 0


async def test_the_application_is_told_when_the_shutdown_begins(serve: Any, stage: Any, connect: Any) -> None:
    """Not when the delay does: `flowserve.draining()` is for closing what the server is about to close."""
    server = await serve(stage, health_path="/-/health")
    client = await connect(server)
    server.server.become_lame_duck()
    assert (await client.get("/-/health")).status == 503
    assert not server.server._context.draining.is_set()
    await within(server.server.shutdown())
    assert server.server._context.draining.is_set()
