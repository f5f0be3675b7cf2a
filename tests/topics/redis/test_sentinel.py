"""Redis behind Sentinels: where the master is, and a failover that loses the last messages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.helpers import until, within
from support.redis_server import RedisServer, SentinelServer, redis_needed, sentinel_needed
from support.traffic import flows, traffic

from compliance._servers import free_port
from flowserve.topics.redis import backplane
from flowserve.topics.remote.errors import Refused

pytestmark = [redis_needed, sentinel_needed]


class Group:
    """A master, its replica, another master, and a Sentinel."""

    def __init__(self) -> None:
        self.master = RedisServer("--repl-diskless-sync-delay", "0", port=free_port())
        self.replica = RedisServer("--replicaof", f"127.0.0.1 {self.master.port}", port=free_port())
        self.other = RedisServer(port=free_port())
        self.sentinel = SentinelServer("main", self.master.port, free_port())
        self.servers = [self.master, self.replica, self.other, self.sentinel]

    @property
    def url(self) -> str:
        """One that names a Sentinel that does not answer, too."""
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}/main"

    async def start(self) -> None:
        """Start them, the Sentinel last, so that it knows the replica at once."""
        for server in self.servers:
            if server is self.sentinel:
                await within(self._replicated())
            await server.start()
        await within(self._known())

    async def _replicated(self) -> None:
        while "master_link_status:up" not in await self.replica.call("INFO", "replication"):
            pass

    async def _known(self) -> None:
        while not await self.sentinel.call("SENTINEL", "REPLICAS", "main"):
            pass


@pytest.fixture
async def group() -> AsyncIterator[Group]:
    group = Group()
    try:
        await group.start()
        yield group
    finally:
        for server in group.servers:
            await server.close()


async def test_the_master_is_found(group, machine):
    here, there = machine(group.url), machine(f"redis://127.0.0.1:{group.master.port}")
    reader = await there.reader("t")
    await here.publish("t", "1")
    assert await reader.texts(1) == ["1"]


async def test_a_service_that_nobody_knows(group, machine, logs):
    assert not await machine(group.url.replace("main", "other")).publish("t", "x")
    assert "Topics: no Sentinel says where 'other' is: Error " in logs.lines()[0]
    assert f"; 127.0.0.1:{group.sentinel.port} does not know it; until" in logs.lines()[0]


async def test_a_sentinel_where_a_server_is_expected(group, machine):
    at = f"127.0.0.1:{group.sentinel.port}"
    with pytest.raises(Refused, match=rf"^{at} is a Sentinel: write redis[+]sentinel://{at}/SERVICE$"):
        await machine(f"redis://{at}").publish("t", "x")


async def test_a_password_of_sentinels(group, machine):
    await group.sentinel.call("ACL", "SETUSER", "default", "resetpass", ">secret")
    assert await machine(group.url + "?sentinel_password=secret").publish("t", "x")
    with pytest.raises(Refused, match=r"^the Sentinel at .* answers: "):
        await machine(group.url + "?sentinel_password=wrong").publish("t", "x")


async def test_a_failover_that_loses_the_last_messages(group, logs):
    async with traffic(group.url + "?socket_timeout=1") as parties:
        await flows(parties)
        # From here on the replica gets nothing more, and nobody notices.
        await group.master.call("ACL", "SETUSER", "default", "-psync", "-sync")
        await group.master.call("CLIENT", "KILL", "TYPE", "replica")
        await flows(parties)
        await group.master.kill()
        await until(lambda: all(party.machine.connected for party in parties), 30)
        await flows(parties)
    assert all(party.gaps for party in parties)


async def test_a_failover_in_good_order(group, logs, monkeypatch):
    monkeypatch.setattr(backplane, "_SENTINEL_INTERVAL", 0.1)
    async with traffic(group.url + "?socket_timeout=1") as parties:
        await flows(parties)
        await group.sentinel.call("SENTINEL", "FAILOVER", "main")
        await until(lambda: sum("is there after" in line for line in logs.lines()) >= 2, 30)
        await flows(parties)


async def test_a_server_that_is_not_the_master_any_more(group, machine, logs, monkeypatch):
    """The old master goes on, and does not know it: it is cut off from the Sentinels, but not from this machine."""
    monkeypatch.setattr(backplane, "_SENTINEL_INTERVAL", 0.1)
    here = machine(group.url + "?socket_timeout=0.5")
    reader = await here.reader("t")
    await here.publish("t", "1")
    await group.sentinel.call("SENTINEL", "REMOVE", "main")
    await group.sentinel.call("SENTINEL", "MONITOR", "main", "127.0.0.1", group.other.port, 1)
    there = machine(f"redis://127.0.0.1:{group.other.port}")
    await until(lambda: here.backplane.reconnects == 1)
    await there.publish("t", "2")
    assert await reader.texts(3) == ["1", "gap", "2"]
    assert any(f"the master is now 127.0.0.1:{group.other.port}" in line for line in logs.lines())
