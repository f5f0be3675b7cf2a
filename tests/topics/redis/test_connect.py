"""Connecting to Redis: users, TLS, permissions, servers that are not there, or of another kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from support.helpers import until
from support.redis_server import RedisServer, redis_needed

from compliance._servers import free_port
from flowserve.errors import ConfigError
from flowserve.topics.redis import connect
from flowserve.topics.redis.connect import PERMISSIONS
from flowserve.topics.remote.errors import Refused

pytestmark = redis_needed


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[RedisServer]]]:
    """`server = await start("--option", "value", port=...)`"""
    servers = []

    async def begin(*options: str, port: int = 0) -> RedisServer:
        servers.append(RedisServer(*options, port=port))
        await servers[-1].start()
        return servers[-1]

    yield begin
    for server in servers:
        await server.close()


async def refused(machine, url: str) -> str:
    """What opening says that is refused."""
    with pytest.raises(Refused) as found:
        await machine(url).publish("t", "x")
    return str(found.value)


# Users


async def test_a_password(start, machine):
    redis = await start("--requirepass", "secret")
    where = f"Redis at {redis.socket} answers: "
    missing = await refused(machine, redis.url)
    assert missing.startswith(where + "NOAUTH HELLO must be called with the client already")
    assert missing.endswith("; write redis://:PASSWORD@HOST, or redis://USER:PASSWORD@HOST")
    wrong = redis.url.replace("//", "//:wrong@")
    assert await refused(machine, wrong) == where + "WRONGPASS invalid username-password pair or user is disabled"
    assert await machine(redis.url.replace("//", "//:secret@")).publish("t", "x")


async def test_a_user_with_just_the_permissions_that_are_needed(start, machine):
    redis = await start()
    rules = ("on", ">secret", "~flowserve:*", "resetchannels", "&flowserve:*", *PERMISSIONS)
    assert await redis.call("ACL", "SETUSER", "me", *rules) == "OK"
    url = redis.url.replace("//", "//me:secret@") + "?db=1"
    here = machine(url)
    reader = await here.reader("t")
    first = await here.publish("t", "1", key="k")
    await here.publish("t", "2")
    assert await reader.texts(2) == ["1", "2"]
    assert (await here.reader("t", since={"t": first})).recovered == {"t": True}
    here.hub.ended(reader.queue)
    assert "NOPERM" in await refused(machine, url + "&prefix=other:")


@pytest.mark.parametrize("missing", PERMISSIONS)
async def test_a_permission_that_is_missing_is_noticed_at_start(start, machine, missing):
    redis = await start()
    permissions = [each for each in PERMISSIONS if each != missing]
    await redis.call(
        "ACL", "SETUSER", "me", "on", ">secret", "~flowserve:*", "resetchannels", "&flowserve:*", *permissions
    )
    said = await refused(machine, redis.url.replace("//", "//me:secret@") + "?db=1")
    assert said.endswith(f"; the user needs ~flowserve:* resetchannels &flowserve:* {' '.join(PERMISSIONS)}")


async def test_a_user_that_is_deleted_and_made_again(redis, machine, logs):
    rules = ("ACL", "SETUSER", "me", "on", ">secret", "allkeys", "allchannels", "allcommands")
    await redis.call(*rules)
    here, there = machine(redis.url.replace("//", "//me:secret@")), machine(redis.url)
    reader = await here.reader("t")
    await redis.call("ACL", "DELUSER", "me")
    await until(lambda: any("WRONGPASS" in line for line in logs.lines()))
    await there.publish("t", "1")
    await redis.call(*rules)
    assert await reader.texts(1) == ["1"]
    assert len([line for line in logs.lines() if "WRONGPASS" in line]) == 1


# TLS


@pytest.fixture
def authority(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.issue_cert("me").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    return tmp_path


@pytest.mark.both_loops
async def test_tls(start, machine, authority, logs):
    port = free_port()
    await start(
        *("--tls-port", str(port), "--tls-cert-file", f"{authority}/server.pem"),
        *("--tls-key-file", f"{authority}/server.pem", "--tls-ca-cert-file", f"{authority}/ca.pem"),
    )
    where = f"TLS with Redis at localhost:{port} failed: "
    said = await refused(machine, f"rediss://localhost:{port}")
    assert said.startswith(where)
    assert said.endswith("; add ssl_ca_certs=FILE to the URL for a CA of your own")
    url = f"rediss://localhost:{port}?ssl_ca_certs={authority}/ca.pem"
    with suppress(Refused):  # as long as the server's answer is not lost with the connection
        assert not await machine(url).publish("t", "x")
        assert "; if it wants a certificate, add ssl_certfile=FILE&ssl_keyfile=FILE; " in logs.lines()[0]
    url += f"&ssl_certfile={authority}/client.pem"
    reader = await machine(url).reader("t")
    here = machine(url)
    await asyncio.gather(*(here.publish("t", "x" * 1000) for _ in range(1000)))
    assert await reader.texts(1000) == ["x" * 1000] * 1000
    wrong_name = url.replace("localhost", "127.0.0.1")
    assert "IP address mismatch" in await refused(machine, wrong_name)
    assert await machine(wrong_name + "&ssl_check_hostname=false").publish("t", "x")


async def test_tls_where_there_is_none_and_none_where_there_is(start, machine, authority, logs):
    plain = await start(port=free_port())
    assert not await machine(f"rediss://localhost:{plain.port}?socket_timeout=0.5").publish("t", "x")
    assert "; if it does not want TLS, write redis://" in logs.lines()[0]
    port = free_port()
    await start(
        *("--tls-port", str(port), "--tls-cert-file", f"{authority}/server.pem"),
        *("--tls-key-file", f"{authority}/server.pem", "--tls-ca-cert-file", f"{authority}/ca.pem"),
    )
    assert not await machine(f"redis://localhost:{port}").publish("t", "x")
    assert any("if it wants TLS, write rediss://" in line for line in logs.lines())


# Servers that are not there, or of another kind


@pytest.mark.both_loops
async def test_a_server_that_is_not_there_yet(machine, logs):
    redis = RedisServer()
    try:
        here, there = machine(redis.url), machine(redis.url)
        reader = await here.reader("t")
        assert not await here.publish("t", "local")
        assert await reader.texts(1) == ["local"]
        assert not (await here.reader("t", since={"t": "x"})).recovered["t"]
        assert logs.lines() == [
            f"Topics: Redis at {redis.socket} can't be reached: No such file or directory; until it can be, "
            "messages stay within this process"
        ]
        await redis.start()
        await until(lambda: here.connected)
        assert await there.publish("t", "1")
        assert await reader.texts(2) == ["gap", "1"]
        assert [line for line in logs.lines() if f"Redis at {redis.socket} is there after" in line]
    finally:
        await redis.close()


async def test_a_server_that_does_not_answer(redis, machine, logs):
    redis.pause()
    here = machine(redis.url + "?socket_timeout=0.2")
    assert not await here.publish("t", "x")
    assert f"Redis at {redis.socket} does not answer within 0.2 s" in logs.lines()[0]
    redis.resume()
    await until(lambda: here.connected)


async def test_a_host_that_does_not_exist(machine, logs):
    assert not await machine("redis://none.invalid").publish("t", "x")
    assert "Redis at none.invalid:6379 can't be reached: " in logs.lines()[0]


async def test_a_server_that_is_no_redis(machine, logs):
    writers = []

    async def greet(reader, writer):
        writers.append(writer)
        writer.write(b"220 mail.example.com ESMTP\r\n")

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        here = machine(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert not await here.publish("t", "x")
        await here.hub.close()
        for writer in writers:
            writer.close()
    assert "it does not speak Redis's protocol: " in logs.lines()[0]


async def test_a_cluster_and_a_replica(start, machine, logs):
    cluster = await start("--cluster-enabled", "yes", "--cluster-port", str(free_port()), port=free_port())
    assert await refused(machine, cluster.url) == (
        f"Redis at {cluster.socket} is a cluster: write redis+cluster://HOST:PORT"
    )
    master = await start(port=free_port())
    replica = await start("--replicaof", f"127.0.0.1 {master.port}")
    here = machine(replica.url)
    assert not await here.publish("t", "x")
    assert f"Redis at {replica.socket} is a replica" in logs.lines()[0]
    await replica.call("REPLICAOF", "NO", "ONE")
    await until(lambda: here.connected)


async def test_a_server_that_is_full(redis, machine, logs):
    here, there = machine(redis.url), machine(redis.url)
    reader = await there.reader("t")
    await here.publish("t", "1")
    await redis.call("CONFIG", "SET", "maxmemory", "1")
    await until_lost(here)
    await redis.call("CONFIG", "SET", "maxmemory", "0")
    await until(lambda: here.connected and there.connected)
    await here.publish("t", "2")
    assert "2" in await reader.texts(2)
    assert any("is lost: OOM command not allowed" in line for line in logs.lines())


async def until_lost(machine):
    """Publish until that reaches nobody else."""
    while await machine.publish("other", "x"):
        pass


async def test_a_replica_that_was_the_master(start, machine, logs):
    redis, other = await start(port=free_port()), await start(port=free_port())
    here = machine(redis.url)
    await here.publish("t", "1")
    await redis.call("REPLICAOF", "127.0.0.1", other.port)
    await until_lost(here)
    assert any("READONLY" in line or "closed the connection" in line for line in logs.lines())
    await redis.call("REPLICAOF", "NO", "ONE")
    await until(lambda: here.connected)
    assert await here.publish("t", "2")


def test_the_page_names_the_permissions():
    page = (Path(connect.__file__).parent.parent / "README.md").read_text("utf-8")
    assert " ".join(PERMISSIONS) in " ".join(page.split())


async def test_a_server_connects_when_it_starts(start, stage, serve, logs):
    redis = await start("--requirepass", "secret")
    with pytest.raises(ConfigError, match=r"^topics_url: Redis at .* answers: NOAUTH "):
        await serve(stage, topics_url=redis.url)
    with pytest.raises(ConfigError, match=r"^topics_url: the URL .* is not HOST:PORT"):
        await serve(stage, topics_url="redis://localhost:x")
    await serve(stage, topics_url=redis.url.replace("//", "//:secret@"))
    await redis.kill()
    await serve(stage, topics_url=redis.url)  # as Redis can come later
    assert any("until it can be, messages stay within this process" in line for line in logs.lines())
