"""`callback_notify`: when it is called, and that it ends with the server."""

from __future__ import annotations

import asyncio

import pytest
from support.helpers import hello, within

from flowserve import Config, Server
from flowserve.errors import ConfigError
from flowserve.server.periodic_callback import PeriodicCallback


@pytest.mark.both_loops
async def test_it_is_called_while_the_server_runs(logs):
    calls = 0
    enough = asyncio.Event()

    async def notify() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            enough.set()
        if calls == 2:
            raise ValueError("the second")

    server = Server(Config(hello, port=0, callback_notify=notify, timeout_notify="1ms"))
    await within(server.startup())
    await within(enough.wait())
    await within(server.shutdown())
    stopped = calls
    await asyncio.sleep(0.01)
    assert calls == stopped
    assert logs.errors == ["flowserve: callback_notify failed"]


async def test_a_call_in_progress_is_cancelled():
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def notify() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    callback = PeriodicCallback(notify, 1)
    await callback.stop()  # which has not started
    callback.start()
    await within(begun.wait())
    await within(callback.stop())
    assert ended.is_set()


@pytest.mark.parametrize("wrong", [0, -1, "soon", None])
def test_a_wrong_time(wrong):
    with pytest.raises(ConfigError, match=r"^timeout_notify: .*"):
        Config("a:b", timeout_notify=wrong)
