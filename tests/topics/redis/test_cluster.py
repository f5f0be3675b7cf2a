"""Redis Cluster: topics on all nodes, slots that move, and nodes that die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from support.helpers import until
from support.redis_cluster import RedisCluster, cluster_needed, topics_of_all_nodes
from support.redis_server import RedisServer, redis_needed
from support.traffic import TOPIC, flows, traffic

from compliance._servers import free_port
from flowserve.topics.redis.connect import CLUSTER_PERMISSIONS, Connector
from flowserve.topics.redis.slots import owners
from flowserve.topics.redis.url import parse_url
from flowserve.topics.remote.errors import Refused, Unreachable

pytestmark = [redis_needed, cluster_needed]


@pytest.fixture
async def cluster() -> AsyncIterator[RedisCluster]:
    cluster = RedisCluster()
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.close()


@pytest.mark.both_loops
async def test_topics_of_all_nodes(cluster, machine):
    here, there = machine(cluster.url, max_per_connection=1000), machine(cluster.url, max_per_connection=1000)
    topics = topics_of_all_nodes(2)
    reader = await there.reader(*topics)
    positions = await asyncio.gather(*(here.publish(topic, topic) for topic in topics))
    got = [await reader.next() for _ in topics]
    assert sorted(item.text for item in got) == sorted(topics)
    assert {item.position for item in got} == set(positions)
    for node in cluster.masters:
        assert int(await node.call("DBSIZE")) > 100
        assert len(await node.call("PUBSUB", "SHARDCHANNELS")) > 100
        assert "name=flowserve" in await node.call("CLIENT", "LIST")
        assert (await node.call("CLIENT", "LIST")).count("name=flowserve") == 2
    there.hub.ended(reader.queue)
    async with asyncio.timeout(5):
        while any([len(await node.call("PUBSUB", "SHARDCHANNELS")) > 2 for node in cluster.masters]):
            pass


async def test_slots_that_move(cluster, logs):
    slot = await cluster.slot_of(TOPIC)
    async with traffic(cluster.url) as parties:
        for _ in range(2):
            for target in cluster.masters:
                await flows(parties, 50)
                if await cluster.owner(slot) is not target:
                    await cluster.move(slot, target)
        await flows(parties)
    assert not any(party.gaps or party.local or party.unknown for party in parties)


async def test_a_slot_that_is_long_on_the_move(cluster, logs):
    slot = await cluster.slot_of(TOPIC)
    source = await cluster.owner(slot)
    target = next(node for node in cluster.masters if node is not source)
    async with traffic(cluster.url) as parties:
        await flows(parties)
        await cluster.begin_move(slot, source, target)
        await cluster.move_keys(slot, source, target)
        await until(lambda: all(party.local for party in parties))
        await cluster.end_move(slot, target)
        await flows(parties)
    assert not any(party.unknown for party in parties)


async def test_resharding(cluster, logs):
    first, second, third = cluster.masters
    async with traffic(cluster.url) as parties:
        await flows(parties)
        for source, target in ((first, second), (second, third), (third, first)):
            options = ("--cluster-slots", "1000", "--cluster-yes")
            await cluster.cli(
                "reshard", first.address, "--cluster-from", source.id, "--cluster-to", target.id, *options
            )
        await flows(parties)
    assert not any(party.gaps or party.local or party.unknown for party in parties)


@pytest.fixture
async def replicated() -> AsyncIterator[RedisCluster]:
    """The first master has a replica, and the topic of the traffic."""
    cluster = RedisCluster(replicas=1)
    try:
        await cluster.start()
        await cluster.move(await cluster.slot_of(TOPIC), cluster.masters[0])
        yield cluster
    finally:
        await cluster.close()


async def test_a_master_that_dies(replicated, logs):
    first, replica = replicated.masters[0], replicated.replicas[0]
    async with traffic(replicated.url) as parties:
        await flows(parties)
        await first.kill()
        await until(lambda: not any(party.machine.connected for party in parties))
        await until(lambda: all(party.machine.connected for party in parties))
        assert await replicated.owner(await replicated.slot_of(TOPIC)) is replica
        await flows(parties)


async def test_a_master_that_stands_still(replicated, logs):
    """It goes on when another one is the master, and does not know that yet."""
    first, replica = replicated.masters[0], replicated.replicas[0]
    async with traffic(replicated.url + "?socket_timeout=0.5") as parties:
        await flows(parties)
        first.pause()
        await replicated.until_master(replica)
        first.resume()
        await until(lambda: all(party.machine.connected for party in parties))
        await flows(parties)


async def test_a_failover_in_good_order(replicated, logs):
    first, replica = replicated.masters[0], replicated.replicas[0]
    async with traffic(replicated.url) as parties:
        for node in (replica, first):
            await flows(parties)
            await replicated.fail_over(node)
            await flows(parties)
    assert not any(party.gaps or party.local for party in parties)


async def test_a_cluster_whose_nodes_come_later(cluster, machine, logs):
    for node in cluster.masters:
        node.pause()
    here = machine(cluster.url + "?socket_timeout=1")
    reader = await here.reader(TOPIC)
    assert not await here.publish(TOPIC, "1")
    assert "Topics: no node of the Redis cluster says where topics are: " in logs.lines()[0]
    for node in cluster.masters:
        node.resume()
    await until(lambda: here.connected)
    assert await reader.texts(2) == ["1", "gap"]  # the topic is attached to its node
    assert await here.publish(TOPIC, "2")
    assert await reader.texts(2) == ["gap", "2"]  # the gap of what this machine alone has got


@pytest.fixture
async def single() -> AsyncIterator[RedisServer]:
    """A server that is in no cluster."""
    server = RedisServer(port=free_port())
    try:
        await server.start()
        yield server
    finally:
        await server.close()


async def test_a_server_that_is_in_no_cluster(single, machine):
    at = f"127.0.0.1:{single.port}"
    with pytest.raises(Refused, match=f"^Redis at {at} is no cluster: write redis://{at}$"):
        await machine(f"redis+cluster://{at}").publish("t", "x")


async def test_a_password(cluster, machine):
    for node in cluster.masters:
        await node.call("ACL", "SETUSER", "default", "resetpass", ">secret")
    with pytest.raises(Refused, match="WRONGPASS"):
        await machine(cluster.url.replace("//", "//:wrong@")).publish("t", "x")
    assert await machine(cluster.url.replace("//", "//:secret@")).publish("t", "x")


async def test_a_permission_that_is_missing_is_noticed_at_start(cluster, machine):
    url = cluster.url.replace("//", "//me:secret@")
    rules = ("reset", "on", ">secret", "~flowserve:*", "resetchannels", "&flowserve:*")
    for missing in CLUSTER_PERMISSIONS:
        for node in cluster.masters:
            given = [each for each in CLUSTER_PERMISSIONS if each != missing]
            assert await node.call("ACL", "SETUSER", "me", *rules, *given) == "OK"
        with pytest.raises(Refused) as found:
            await machine(url).publish("t", "x")
        assert str(found.value).endswith(f"~flowserve:* resetchannels &flowserve:* {' '.join(CLUSTER_PERMISSIONS)}")
    for node in cluster.masters:
        assert await node.call("ACL", "SETUSER", "me", *rules, *CLUSTER_PERMISSIONS) == "OK"
    assert await machine(url).publish("t", "x", key="k")


# TLS


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[RedisCluster]:
    """Its nodes have certificates for their names, not for their addresses, and ask for one."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.issue_cert("me").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    cluster = RedisCluster(tls=tmp_path)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.close()


async def test_tls_and_a_user(secure, machine, tmp_path, logs):
    rules = ("on", ">secret", "~flowserve:*", "resetchannels", "&flowserve:*", *CLUSTER_PERMISSIONS)
    for node in secure.masters:
        assert await node.call("ACL", "SETUSER", "me", *rules) == "OK"
    at = f"localhost:{secure.masters[2].port}"
    with pytest.raises(Refused, match=f"TLS with Redis at {at} failed: .*; add ssl_ca_certs=FILE to the URL"):
        await machine(f"rediss+cluster://me:secret@{at}").publish("t", "x")
    tls = f"?ssl_ca_certs={tmp_path}/ca.pem&ssl_certfile={tmp_path}/client.pem"
    with pytest.raises(Unreachable, match="if it wants TLS, write rediss\\+cluster://"):
        await Connector(parse_url(f"redis+cluster://me:secret@{at}")).ask(owners)
    with pytest.raises(Refused, match="is a cluster: write rediss\\+cluster://HOST:PORT"):
        await machine(f"rediss://me:secret@{at}{tls}").publish("t", "x")
    with pytest.raises(Refused, match="WRONGPASS"):
        await machine(f"rediss+cluster://me:wrong@{at}{tls}").publish("t", "x")
    url = f"rediss+cluster://me:secret@localhost:{free_port()},{at}{tls}"
    here, there = machine(url, max_per_connection=1000), machine(url, max_per_connection=1000)
    topics = topics_of_all_nodes()
    reader = await there.reader(*topics)
    await asyncio.gather(*(here.publish(topic, topic, key="k") for topic in topics))
    assert sorted(await reader.texts(len(topics))) == sorted(topics)
    for node in secure.masters:
        clients = [line for line in (await node.call("CLIENT", "LIST")).splitlines() if "name=flowserve" in line]
        assert len(clients) == 2
        assert all(" user=me " in line for line in clients)
    slot = await secure.slot_of(topics[0])
    source = await secure.owner(slot)
    await secure.move(slot, next(node for node in secure.masters if node is not source))
    assert await here.publish(topics[0], "moved")
    assert await reader.texts(1) == ["moved"]
