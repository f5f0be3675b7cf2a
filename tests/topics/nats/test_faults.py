"""Two machines publish and read while NATS fails: each message once and in order, or a gap that is told."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from support.helpers import until, within
from support.machines import Machines
from support.nats_server import NATSServer, nats_needed
from support.traffic import Party, flows, traffic

pytestmark = nats_needed


async def test_connections_that_are_lost_cost_nothing(nats: NATSServer, logs: Any) -> None:
    async with traffic(nats.url) as parties:
        for _ in range(10):
            await flows(parties, 50)
            for party in parties:
                link = party.machine.backplane._reconnector.link.link
                party._loop.call_soon_threadsafe(link._client._transport._io_writer.transport.abort)
    for party in parties:
        assert not party.gaps
        assert not party.local | party.unknown


async def test_a_server_that_stops_and_starts(nats: NATSServer, logs: Any) -> None:
    async with traffic(nats.url) as parties:
        for _ in range(3):
            await flows(parties)
            await nats.stop()
            await nats.start()
        await flows(parties)
    assert not any(party.gaps for party in parties) or any(party.local for party in parties)


async def test_a_server_that_is_killed(nats: NATSServer, logs: Any) -> None:
    """It may have lost what it has acknowledged last."""
    async with traffic(nats.url) as parties:
        for _ in range(3):
            await flows(parties)
            await nats.kill()
            await nats.start()
        await flows(parties)


async def test_a_server_with_all_in_memory(nats: NATSServer, logs: Any) -> None:
    async with traffic(nats.url + "?storage=memory") as parties:
        await flows(parties)
        await nats.stop()
        await nats.start()
        await flows(parties)
    assert all(party.gaps for party in parties)


async def test_a_server_that_was_rolled_back(nats: NATSServer, logs: Any) -> None:
    async with traffic(nats.url) as parties:
        await flows(parties)
        await nats.stop()
        shutil.copytree(nats.store, nats.folder / "backup")
        await nats.start()
        await flows(parties)
        await nats.kill()
        shutil.rmtree(nats.store)
        shutil.move(nats.folder / "backup", nats.store)
        await nats.start()
        await flows(parties)
    assert all(party.gaps for party in parties)


async def test_a_stream_that_is_purged(nats: NATSServer, logs: Any) -> None:
    async with traffic(nats.url) as parties:
        for number in range(1, 4):
            await flows(parties)
            await nats.call("STREAM.PURGE.flowserve")
            await until(partial(_told, parties, number))
        await flows(parties)
    assert not any(party.local or party.unknown for party in parties)


def _told(parties: Sequence[Party], gaps: int) -> bool:
    return all(party.gaps >= gaps for party in parties)


async def test_a_stream_that_is_deleted(nats: NATSServer, logs: Any) -> None:
    async with traffic(nats.url) as parties:
        await flows(parties)
        await nats.call("STREAM.DELETE.flowserve")
        await flows(parties)
    assert all(party.gaps for party in parties)


async def test_a_server_that_stands_still_is_noticed(nats: NATSServer, logs: Any) -> None:
    async with traffic(nats.url + "?socket_timeout=0.3&health_check_interval=0.3") as parties:
        await flows(parties)
        nats.pause()
        began = time.monotonic()
        await until(lambda: not any(party.machine.connected for party in parties))
        assert time.monotonic() - began < 8  # 0.6 s, and whatever else the machine does
        await until(lambda: all(party.local for party in parties))
        nats.resume()
        await until(lambda: all(party.machine.connected for party in parties))
        await flows(parties)
    assert all(party.gaps for party in parties)  # each has missed what the other one has got alone


async def test_a_server_that_stands_still_is_told_once(nats: NATSServer, machine: Machines, logs: Any) -> None:
    here = machine(nats.url + "?socket_timeout=1&health_check_interval=60")
    assert await here.publish("first", "x")
    nats.pause()
    publishing = (here.publish(f"t{number}", "x") for number in range(50))
    await asyncio.gather(*publishing, return_exceptions=True)  # it may have answered the first ones half
    nats.resume()
    assert len([line for line in logs.lines() if "JetStream has not answered for 1 s" in line]) == 1


@pytest.mark.parametrize("history", [0, 10])
async def test_a_short_history(nats: NATSServer, logs: Any, history: int) -> None:
    """Both miss what the other publishes locally, but nothing that is in the stream."""
    async with traffic(nats.url, history=history) as parties:
        for _ in range(3):
            await flows(parties)
            await nats.stop()
            await nats.start()
        await flows(parties)


async def test_closing_while_it_is_away(machine: Machines, logs: Any) -> None:
    """Whatever is being tried at that moment: asyncio.wait_for() of before Python 3.12 may lose a cancellation."""
    server = NATSServer()
    try:
        await server.start()
        machines = [machine(server.url) for _ in range(20)]
        for each in machines:
            assert await each.publish("t", "x")
    finally:
        await server.close()
    await until(lambda: not any(each.connected for each in machines))
    for each in machines:
        await within(each.hub.close())
