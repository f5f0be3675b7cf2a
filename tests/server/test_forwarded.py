"""Behind proxies that send X-Forwarded-* or Forwarded (RFC 7239), end to end."""

from __future__ import annotations

import socket
import struct
import tempfile

import pytest
from support.helpers import UPGRADE, until
from support.requests import GET, scope_of

CLIENT = "203.0.113.7"


def get(*lines: str) -> bytes:
    return GET[:-2] + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


@pytest.mark.parametrize(
    ("lines", "client", "scheme"),
    [
        (["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https"], (CLIENT, 0), "https"),
        (["X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 203.0.113.7:99, ::1"], (CLIENT, 99), "http"),
        (["Forwarded: for=1.1.1.1", 'forwarded: for="203.0.113.7:99";proto=https'], (CLIENT, 99), "https"),
        (["X-Forwarded-Proto: wss"], None, "https"),
        (["X-Forwarded-For: unknown", "X-Forwarded-Proto: nonsense"], None, "http"),
        (["X-Real-IP: 203.0.113.7"], None, "http"),
        ([], None, "http"),
    ],
)
async def test_client_and_scheme(serve, stage, connect, lines, client, scheme):
    """By default a proxy on the same machine is trusted; what it doesn't say is as the connection has it."""
    peer = await connect(await serve(stage))
    scope = await scope_of(stage, peer, get(*lines))
    assert tuple(scope["client"]) == (client or peer.address)
    assert scope["scheme"] == scheme
    assert scope["server"] == peer.writer.get_extra_info("peername")


async def test_a_websocket_behind_a_proxy(serve, stage, connect, logs):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE[:-2] + b"X-Forwarded-For: 2001:db8::7\r\nX-Forwarded-Proto: https\r\n\r\n")
    act = await stage.next()
    assert act.scope["scheme"] == "wss"
    assert act.scope["client"] == ("2001:db8::7", 0)
    await act.accept()
    await client.head()
    client.leave()
    await act.disconnected()
    await until(lambda: len(logs.lines("flowserve.access")) == 2)
    assert all(line.startswith('[2001:db8::7] - "WebSocket /"') for line in logs.lines("flowserve.access"))


async def test_access_lines_show_the_client(serve, stage, connect, logs):
    client = await connect(await serve(stage))
    await scope_of(stage, client, get("X-Forwarded-For: 203.0.113.7:1234"))
    await scope_of(stage, client, get("X-Forwarded-For: 203.0.113.7"))
    lines = logs.lines("flowserve.access")
    assert [line.partition(" ")[0] for line in lines] == [f"{CLIENT}:1234", CLIENT]


async def test_requests_of_several_clients_on_one_connection(serve, stage, connect):
    client = await connect(await serve(stage))
    for wanted in ("1.1.1.1", None, "2.2.2.2", None):
        scope = await scope_of(stage, client, get(f"X-Forwarded-For: {wanted}") if wanted else GET)
        assert tuple(scope["client"]) == ((wanted, 0) if wanted else client.address)


@pytest.mark.parametrize(
    "options",
    [
        {"proxy_headers": False},
        {"forwarded_allow_ips": "10.0.0.0/8,::1,unix"},
        {"forwarded_allow_ips": []},
        {"forwarded_allow_ips": "127.0.0.0/32"},
    ],
)
async def test_who_is_not_trusted_is_not_believed(serve, stage, connect, options):
    client = await connect(await serve(stage, **options))
    lines = ["X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "Forwarded: for=2.2.2.2;proto=https"]
    scope = await scope_of(stage, client, get(*lines))
    assert tuple(scope["client"]) == client.address
    assert scope["scheme"] == "http"


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "*", "::ffff:127.0.0.0/104"])
async def test_who_is_trusted(serve, stage, connect, allowed):
    client = await connect(await serve(stage, forwarded_allow_ips=allowed))
    scope = await scope_of(stage, client, get("X-Forwarded-For: 9.9.9.9, 203.0.113.7"))
    assert scope["client"] == (CLIENT, 0)


@pytest.mark.parametrize(("allowed", "wanted"), [("unix", (CLIENT, 0)), ("*", (CLIENT, 0)), ("127.0.0.1", None)])
async def test_over_a_unix_socket(serve, stage, connect, allowed, wanted):
    with tempfile.TemporaryDirectory() as folder:
        server = await serve(stage, uds=f"{folder}/s", forwarded_allow_ips=allowed)
        scope = await scope_of(stage, await connect(server), get("X-Forwarded-For: 203.0.113.7"))
        assert scope["client"] == wanted


@pytest.mark.both_loops
async def test_a_reset_connection_is_no_unix_socket(serve, stage, connect):
    """Its peer has no address any more, but what was sent before the reset can still be read."""
    server = await serve(stage, forwarded_allow_ips="unix")
    with socket.create_connection(server.address) as sock:  # and gone before the server looks
        sock.sendall(get("X-Forwarded-For: 6.6.6.6"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client = await connect(server)
    await client.raw(GET.replace(b"/", b"/last", 1))
    scopes = []
    while not scopes or scopes[-1]["path"] != "/last":
        act = await stage.next()
        scopes.append(act.scope)
        act.leave() if act.scope["path"] != "/last" else await act.answer()
    assert ("6.6.6.6", 0) not in [scope["client"] for scope in scopes]


async def test_both_kinds_that_contradict_each_other(serve, stage, connect, logs):
    server = await serve(stage)
    client = await connect(server)
    await client.raw(get("X-Forwarded-For: 203.0.113.7", "Forwarded: for=127.0.0.1"))
    response = await client.response()
    assert response.status == 400
    assert b"X-Forwarded-For and Forwarded" in response.body
    await client.closed()
    assert stage.acts == []
    assert server.server._context.refusals == {"forwarded": 1}
    assert logs.lines("flowserve.access")[0].endswith('"GET / HTTP/1.1" 400 0.0ms')
