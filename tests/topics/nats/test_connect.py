"""Connecting to NATS: users, TLS, permissions, servers that are not there, or lack JetStream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.helpers import until
from support.machines import Machine, Machines
from support.nats_credentials import Authority
from support.nats_server import NATSServer, nats_needed
from support.terminal import flowserve

from compliance._servers import free_port
from flowserve.errors import ConfigError
from flowserve.topics.remote.errors import Refused

pytestmark = nats_needed

NEEDED = (
    '; the user needs the permissions { publish: ["$JS.API.INFO", "$JS.API.STREAM.*.flowserve",'
    ' "$JS.API.DIRECT.GET.flowserve", "flowserve.log.*"], subscribe: ["flowserve.live.*", "_INBOX.>"] }'
)

Start = Callable[..., Awaitable[NATSServer]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`server = await start(configuration)`"""
    servers = []

    async def begin(configuration: str = "", jetstream: bool = True) -> NATSServer:
        servers.append(NATSServer(configuration, jetstream))
        await servers[-1].start()
        return servers[-1]

    yield begin
    for server in servers:
        await server.close()


async def refused(machine: Callable[[str], Machine], url: str) -> str:
    """What opening says that is refused."""
    with pytest.raises(Refused) as found:
        await machine(url).publish("t", "x")
    return str(found.value)


async def test_a_user_and_a_token(start: Start, machine: Machines) -> None:
    for configuration, right in (
        ('authorization { user: "me", password: "p@ss" }', "me:p%40ss"),
        ('authorization { token: "s3cret" }', "s3cret"),
    ):
        server = await start(configuration)
        at = f"127.0.0.1:{server.port}"
        expected = f"NATS at {at} answers: 'Authorization Violation'"
        assert await refused(machine, f"nats://{at}") == expected
        assert await refused(machine, f"nats://me:wrong@{at}") == expected
        assert await machine(f"nats://{right}@{at}").publish("t", "x")


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("$JS.API.INFO", 'publish to "$js.api.info"'),
        ("$JS.API.STREAM.*.flowserve", 'publish to "$js.api.stream.info.flowserve"'),
        ("$JS.API.DIRECT.GET.flowserve", 'publish to "$js.api.direct.get.flowserve"'),
        ("flowserve.log.*", 'publish to "flowserve.log.%"'),
        ("flowserve.live.*", 'subscription to "flowserve.live.%"'),
        ("_INBOX.>", 'subscription to "_inbox.'),
    ],
)
async def test_a_permission_that_is_missing(start: Start, machine: Machines, subject: str, said: str) -> None:
    permissions = NEEDED.partition("permissions ")[2].replace(f'"{subject}"', '"x"')
    server = await start(f"authorization {{ users: [{{ user: me, password: x, permissions: {permissions} }}] }}")
    found = await refused(machine, f"nats://me:x@127.0.0.1:{server.port}")
    assert f"permissions violation for {said}" in found
    assert found.endswith(NEEDED)


async def test_a_user_with_just_the_permissions_that_are_needed(start: Start, machine: Machines) -> None:
    rules = f"{{ user: me, password: x, permissions: {NEEDED.partition('permissions ')[2]} }}"
    server = await start(f"authorization {{ users: [{rules}] }}")
    here = machine(f"nats://me:x@127.0.0.1:{server.port}", history=10)
    reader = await here.reader("t")
    first = await here.publish("t", "0", key="k")
    for n in range(1, 250):
        await here.publish("t", str(n))
    assert await reader.texts(250) == [str(n) for n in range(250)]
    assert (await here.reader("t", since={"t": first})).recovered == {"t": False}
    assert here.connected


async def test_without_jetstream(start: Start, machine: Machines) -> None:
    server = await start(jetstream=False)
    assert await refused(machine, server.url) == (
        f"NATS at 127.0.0.1:{server.port} has no JetStream, which topics need: start nats-server with -js, or give its"
        " configuration a block jetstream"
    )


async def test_a_stream_of_somebody_else(nats: NATSServer, machine: Machines) -> None:
    await nats.call("STREAM.CREATE.flowserve", name="flowserve", subjects=["flowserve.>"])
    assert "has another stream flowserve: write ?prefix=NAME behind the URL" in await refused(machine, nats.url)


async def test_no_room(start: Start, machine: Machines) -> None:
    server = await start("jetstream { max_file_store: 1MB }")
    said = await refused(machine, server.url)
    assert "has no room for 1073741824 bytes of messages" in said
    assert said.endswith("raise max_file_store or max_memory_store in its configuration, or lower --topics-max-memory")


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    return tmp_path


@pytest.mark.both_loops
async def test_tls(start: Start, machine: Machines, authority: Path) -> None:
    server = await start(f'tls {{ cert_file: "{authority}/server.pem", key_file: "{authority}/server.pem" }}')
    at = f"localhost:{server.port}"
    said = await refused(machine, f"tls://{at}")
    assert said.startswith(f"TLS with NATS at {at} failed: ")
    assert said.endswith("; add ssl_ca_certs=FILE to the URL for a CA of your own")
    assert await machine(f"tls://{at}?ssl_ca_certs={authority}/ca.pem").publish("t", "x")


async def test_tls_with_a_certificate_and_credentials(start: Start, machine: Machines, authority: Path) -> None:
    """The server asks for both, as a managed one may."""
    operator, stranger = Authority(), Authority()
    files = f'cert_file: "{authority}/server.pem", key_file: "{authority}/server.pem", ca_file: "{authority}/ca.pem"'
    server = await start(f"tls {{ {files}, verify: true }}\n{operator.configuration}")
    operator.write_credentials(authority / "me.creds")
    stranger.write_credentials(authority / "stranger.creds")
    url = f"tls://localhost:{server.port}?ssl_ca_certs={authority}/ca.pem&ssl_certfile={authority}/server.pem"
    at = f"NATS at localhost:{server.port}"
    for wrong in ("", f"&credentials={authority}/stranger.creds"):
        assert await refused(machine, url + wrong) == f"{at} answers: 'Authorization Violation'"
    here, there = (machine(f"{url}&credentials={authority}/me.creds") for _ in range(2))
    reader = await there.reader("t")
    await here.publish("t", "x", key="k")
    assert await reader.texts(1) == ["x"]


async def test_a_password_is_told_to_nobody_without_tls(nats: NATSServer, machine: Machines) -> None:
    said = await refused(machine, f"tls://me:secret@127.0.0.1:{nats.port}")
    assert "NATS has no TLS: write nats://" in said


async def test_one_of_several_servers(nats: NATSServer, machine: Machines) -> None:
    for _ in range(5):
        assert await machine(f"nats://127.0.0.1:{free_port()},127.0.0.1:{nats.port}").publish("t", "x")


async def test_a_server_that_comes_later(machine: Machines, logs: Any) -> None:
    server = NATSServer()
    try:
        here = machine(server.url)
        reader = await here.reader("t")
        assert not await here.publish("t", "1")
        assert any("can't be reached" in line for line in logs.lines())
        await server.start()
        await until(lambda: here.connected)
        assert await reader.texts(2) == ["1", "gap"]
        assert await here.publish("t", "2")
        assert await reader.texts(2) == ["gap", "2"]  # the gap of what this machine alone has got
        assert here.backplane.reconnects == 1
    finally:
        await server.close()


async def test_the_command_says_what_is_wrong(start: Start) -> None:
    server = await start(jetstream=False)
    status, _, err = await flowserve("publish", "t", "x", "--topics-url", server.url)
    assert status == 1
    assert "has no JetStream" in err


def test_nats_py_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from flowserve.topics.nats.url import parse_url

    monkeypatch.setitem(sys.modules, "nats.aio.client", None)
    with pytest.raises(ConfigError, match=r"pip install 'flowserve\[nats\]'"):
        parse_url("nats://host")
