"""Allowed hosts and origins, limits, the health path: all decided before the application is called, and counted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import pytest
from support.helpers import UPGRADE, Client, Pump, echo, hello, until, within

from flowserve.config import Config
from flowserve.errors import ConfigError
from flowserve.server.admission import Admission

REQUEST = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n"


def refusals(server) -> dict[str, int]:
    return server.server._context.refusals


def admission_of(server) -> Admission:
    return server.server._running.acceptor.admission


async def ended(client: Client) -> None:
    """The server has ended the connection, and said nothing."""
    with contextlib.suppress(ConnectionError):
        assert await client.rest() == b""


# Hosts

HOSTS = "example.com,*.example.org,admin.example.net:8443,localhost:80,[2001:db8::1],*.shop.example:8080"


@pytest.mark.parametrize(
    "host",
    [
        *("example.com", "EXAMPLE.com", "example.com.", "example.com:80", "example.com:8000", "example.com:"),
        *("a.example.org", "a.b.example.org", "A.Example.ORG:1", "a_b.example.org", "a.example.org."),
        *("admin.example.net:8443", "localhost", "localhost:80", "localhost:"),
        *("[2001:db8::1]", "[2001:DB8:0::1]:9", "a.shop.example:8080"),
    ],
)
async def test_hosts_that_are_allowed(serve, connect, host):
    client = await connect(await serve(hello, allowed_hosts=HOSTS))
    await client.raw(REQUEST % host.encode())
    assert (await client.response()).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            ":80",
            ".",
            "example.co",
            "example.com.evil.net",
            "evilexample.com",
            "www.example.com",
            "example.com..",
            "com",
        ),
        *("example.org", ".example.org", "evil-example.org", "a.example.org.evil.net", "*.example.org", "*"),
        *(
            "admin.example.net",
            "admin.example.net:8444",
            "admin.example.net:443",
            "admin.example.net:08443x"[:-1] + "9",
        ),
        *(
            "localhost:8080",
            "[2001:db8::2]",
            "2001",
            "[::1]",
            "shop.example:8080",
            "a.shop.example",
            "a.shop.example:8081",
        ),
        *("a,b.example.org", "a;x=.example.org", "%65xample.com", "evil.net&.example.org", "example.com:" + "8" * 6),
        "example.com:" + "1" * 200,
    ],
)
async def test_other_hosts_get_400(serve, stage, connect, host):
    server = await serve(stage, allowed_hosts=HOSTS)
    client = await connect(server)
    await client.raw(REQUEST % host.encode())
    response = await client.response()
    assert response.status == 400
    assert response.body == b"This host is not served here"
    await client.closed()
    assert stage.acts == []
    assert refusals(server) == {"host_not_allowed": 1}


async def test_websockets_need_an_allowed_host_too(serve, stage, connect, logs):
    server = await serve(stage, allowed_hosts="example.org", ws_allowed_origins="*")
    client = await connect(server)
    await client.raw(UPGRADE)
    assert (await client.response()).status == 400
    assert stage.acts == []
    assert logs.lines("flowserve.access")[0].endswith('"GET / HTTP/1.1" 400 0.0ms')


async def test_http_1_0_without_a_host(serve, stage, connect):
    server = await serve(stage, allowed_hosts="example.com")
    client = await connect(server)
    await client.raw(b"GET / HTTP/1.0\r\n\r\n")
    assert (await client.response()).status == 400
    assert refusals(server) == {"host_not_allowed": 1}


async def test_the_host_of_an_absolute_target_counts(serve, connect):
    """It replaces the Host field (RFC 9112 section 3.2.2), for the application too."""
    server = await serve(hello, allowed_hosts="example.com")
    for target, host, status in (("example.com", "evil.net", 200), ("evil.net", "example.com", 400)):
        client = await connect(server)
        await client.raw(b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n\r\n" % (target.encode(), host.encode()))
        assert (await client.response()).status == status


async def test_a_proxys_word_for_the_host_does_not_count(serve, connect):
    client = await connect(await serve(hello, allowed_hosts="example.com"))
    await client.raw(
        b"GET / HTTP/1.1\r\nHost: evil.net\r\nX-Forwarded-Host: example.com\r\nForwarded: host=example.com\r\n\r\n"
    )
    assert (await client.response()).status == 400


async def test_a_host_without_a_port_has_that_of_the_clients_scheme(serve, connect):
    server = await serve(hello, allowed_hosts="example.com:443")
    for lines, status in ((b"", 400), (b"X-Forwarded-Proto: https\r\n", 200)):
        client = await connect(server)
        await client.raw(b"GET / HTTP/1.1\r\nHost: example.com\r\n" + lines + b"\r\n")
        assert (await client.response()).status == status


async def test_every_request_of_a_connection_is_looked_at(serve, connect):
    client = await connect(await serve(hello, allowed_hosts="example.com"))
    await client.raw(REQUEST % b"example.com" + REQUEST % b"evil.net" + REQUEST % b"example.com")
    assert (await client.response()).status == 200
    assert (await client.response()).status == 400
    await client.closed()


@pytest.mark.parametrize("request_", [REQUEST % b"whatever", REQUEST % b"", b"GET / HTTP/1.0\r\n\r\n"])
async def test_a_star_allows_every_host(serve, connect, request_):
    client = await connect(await serve(hello, allowed_hosts="example.com,*"))
    await client.raw(request_)
    assert (await client.response()).status == 200


# Origins

ORIGINS = "https://example.com,https://*.example.org,http://localhost:3000,https://[2001:db8::1]:8443,app://x"


def upgrade(*lines: str) -> bytes:
    return UPGRADE[:-2] + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


@pytest.mark.parametrize(
    "origin",
    [
        *("https://example.com", "https://example.com:443", "HTTPS://Example.com", "https://a.example.org"),
        *("https://a.b.example.org", "http://localhost:3000", "https://[2001:db8::1]:8443", "app://x"),
        "https://[2001:DB8:0:0::1]:8443",
    ],
)
async def test_origins_that_are_allowed(serve, connect, origin):
    client = await connect(await serve(echo, ws_allowed_origins=ORIGINS))
    await client.raw(upgrade(f"Origin: {origin}"))
    assert (await client.head()).status == 101


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "",
            "null",
            "http://example.com",
            "https://example.com:8443",
            "https://www.example.com",
            "https://example.com/",
        ),
        *("https://example.com.evil.net", "https://evilexample.com", "https://example.com.", "https://example.com:"),
        *("https://example.org", "https://.example.org", "https://evil-example.org", "http://a.example.org"),
        *(
            "https://a.example.org:8443",
            "https://*.example.org",
            "*",
            "https://a.example.org.evil.net",
            "http://localhost",
        ),
        *("https://evil.net#.example.org", "https://evil.net/.example.org", "https://evil.net?.example.org"),
        *("https://evil.net,.example.org", "https://evil.net\\.example.org", "https://evil.net .example.org"),
        *("https://x@example.com", "https://example.com@evil.net", "https://example.com https://example.com"),
        *(
            "https://example.com, https://evil.net",
            "https://evil.net, https://example.com",
            "example.com",
            "https:example.com",
        ),
        *(
            "https://example.com:443:443",
            "https://example.com:" + "4" * 5000,
            "app://y",
            "https://ex\xe4mple.com",
            "x" * 9000,
        ),
    ],
)
async def test_other_origins_get_403(serve, stage, connect, origin):
    server = await serve(stage, ws_allowed_origins=ORIGINS)
    client = await connect(server)
    await client.raw(upgrade(f"Origin: {origin}"))
    assert (await client.response()).status == 403
    assert stage.acts == []
    assert refusals(server) == {"origin_not_allowed": 1}


async def test_two_origins_are_none(serve, stage, connect, logs):
    client = await connect(await serve(stage, ws_allowed_origins=ORIGINS))
    await client.raw(upgrade("Origin: https://example.com", "Origin: https://example.com"))
    assert (await client.response()).status == 403
    assert logs.lines("flowserve.access")[0].endswith('"GET / HTTP/1.1" 403 0.0ms')


@pytest.mark.parametrize(
    ("allowed", "origin"), [("null", "null"), ("*", "null"), ("*", "https://evil.net"), ("*", "x y")]
)
async def test_null_and_star(serve, connect, allowed, origin):
    client = await connect(await serve(echo, ws_allowed_origins=allowed))
    await client.raw(upgrade(f"Origin: {origin}"))
    assert (await client.head()).status == 101


async def test_without_an_origin_it_is_no_browser(serve, connect):
    client = await connect(await serve(echo, ws_allowed_origins=ORIGINS))
    await client.raw(UPGRADE)
    assert (await client.head()).status == 101


async def test_http_requests_may_come_from_every_origin(serve, connect):
    """What a page may read of their responses is said by CORS, which is the application's."""
    client = await connect(await serve(hello, ws_allowed_origins=ORIGINS))
    assert (await client.get("/", "Origin: https://evil.net")).status == 200


# How many


@pytest.mark.both_loops
async def test_too_many_websockets(serve, stage, connect, open_ws):
    server = await serve(stage, ws_max_connections=2)
    acts, clients = [], []

    async def one_more():
        client = await connect(server)
        await client.raw(UPGRADE)
        return client

    async def one_too_many():
        response = await (await one_more()).response()
        assert response.status == 503
        assert int(response.header("retry-after")) > 0

    for _ in range(2):
        clients.append(await one_more())
        acts.append(await stage.next())
    await one_too_many()  # those that are being opened count
    for act, client in zip(acts, clients, strict=True):
        await act.accept()
        assert (await client.head()).status == 101
    await one_too_many()
    http = await connect(server)
    await http.raw(REQUEST % b"a")  # others don't
    act = await stage.next()
    await act.answer()
    assert (await http.response()).status == 200
    assert refusals(server) == {"websocket_limit": 2}

    clients[0].leave()  # one that has ended makes room
    await acts[0].disconnected()
    await until(lambda: server.server._context.websockets == 1)
    clients[0] = await one_more()
    act = await stage.next()
    await one_too_many()
    await act.close()  # one that is denied, too
    assert (await clients[0].response()).status == 403
    act.leave()
    clients[0] = await one_more()
    act = await stage.next()
    clients[0].leave()  # and one whose client did not wait
    await act.disconnected()
    act.leave()
    clients[0] = await one_more()
    await (await stage.next()).accept()
    assert (await clients[0].head()).status == 101


@pytest.fixture
async def come_from(serve):
    """`client = await come_from(address, server)`: a raw connection, dropped at the end of the test."""
    clients = []

    async def come(address: str, server) -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((address, 0))
        await within(asyncio.get_running_loop().sock_connect(sock, server.address))
        reader, writer = await within(asyncio.open_connection(sock=sock))
        clients.append(Client(reader, writer, sock))
        return clients[-1]

    yield come
    for client in clients:
        await client.aclose()


@pytest.mark.both_loops
async def test_connections_of_an_address(serve, come_from, logs):
    logging.getLogger("flowserve").setLevel(logging.DEBUG)
    server = await serve(echo, limit_connections_per_address=2, proxy_headers=False)

    async def one_more(address: str) -> Client:
        client = await come_from(address, server)
        assert (await client.get()).status == 200
        return client

    async def one_too_many() -> None:
        await ended(await come_from("127.0.0.1", server))

    clients = [await one_more(address) for address in ("127.0.0.1", "127.0.0.1", "127.0.0.2")]
    logs.records.clear()
    await one_too_many()
    assert refusals(server) == {"address_limit": 1}
    assert len(logs.lines()) == 1
    assert "too many connections of its address" in logs.lines()[0]

    await clients[0].upgrade()  # a WebSocket is still the connection that it was
    await one_too_many()
    await clients[0].aclose()
    await until(lambda: len(server.server._context.live) == 2)
    clients.append(await one_more("127.0.0.1"))
    await one_too_many()
    assert refusals(server) == {"address_limit": 3}
    for client in clients:
        await client.aclose()
    await until(lambda: not server.server._context.live)
    assert admission_of(server)._connections == {}


async def test_trusted_proxies_may_have_more(serve, connect):
    server = await serve(hello, limit_connections_per_address=1)
    for client in [await connect(server) for _ in range(5)]:
        assert (await client.get()).status == 200


async def test_the_clients_of_a_proxy_header_are_counted(serve, connect):
    """An IPv6 client by the first 64 bits of its address: it has all the others, too."""
    server = await serve(hello, limit_connections_per_address=2, proxy_protocol=True)

    async def comes(header: str) -> bool:
        client = await connect(server)
        try:
            await client.raw(f"PROXY {header} 1 2\r\n".encode() + REQUEST % b"a")
            return (await client.response()).status == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False

    v4 = [await comes(f"TCP4 203.0.113.{last} 192.0.2.1") for last in (7, 7, 7, 8)]
    assert v4 == [True, True, False, True]
    hosts = ("2001:db8:0:1::7", "2001:db8:0:1::8", "2001:db8:0:1:ffff::9", "2001:db8:0:2::7", "::ffff:203.0.113.8")
    v6 = [await comes(f"TCP6 {host} ::1") for host in hosts]
    assert v6 == [True, True, False, True, True]
    assert await comes("TCP6 ::ffff:cb00:7108 ::1") is False
    assert [await comes("UNKNOWN ::1 ::1") for _ in range(4)] == [True] * 4
    assert refusals(server) == {"address_limit": 3}


@pytest.mark.both_loops
async def test_clients_of_a_proxy_header_that_end_early(serve, connect, tmp_path):
    """Those that are refused, and those that don't get through TLS, are counted no more."""
    import trustme

    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    server = await serve(
        hello, limit_connections_per_address=1, proxy_protocol=True, ssl_certfile=str(tmp_path / "both.pem")
    )
    for _ in range(3):
        client = await connect(server)
        await client.raw(b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n" + b"\x16\x03\x01")
        await until(lambda: len(admission_of(server)._connections) == 1)
        refused = await connect(server)
        await refused.raw(b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n")
        await ended(refused)
        client.reset()
        await until(lambda: not admission_of(server)._connections)
    assert refusals(server) == {"address_limit": 3}


# Health


@pytest.mark.both_loops
async def test_health(serve, stage, connect, logs):
    server = await serve(stage, health_path="/health", allowed_hosts="example.com")
    client = await connect(server)
    for target in ("/health", "/health?verbose=1"):
        await client.raw(f"GET {target} HTTP/1.1\r\nHost: 10.1.2.3\r\n\r\n".encode())
        response = await client.response()
        assert (response.status, response.body) == (200, b"ok")
        assert response.header("cache-control") == "no-store"
    await client.raw(
        b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    response = await client.response("HEAD")
    assert (response.status, response.header("content-length")) == (200, "2")
    assert (await client.response()).body == b"ok"
    await client.closed()
    old = await connect(server)
    await old.raw(b"GET /health HTTP/1.0\r\n\r\n")
    assert (await old.response()).body == b"ok"
    assert stage.acts == []
    assert logs.lines("flowserve.access") == []
    assert refusals(server) == {}


@pytest.mark.parametrize("path", ["/health/", "/healthy", "/", "/HEALTH", "/health/x"])
async def test_other_paths_are_the_applications(serve, connect, path):
    client = await connect(await serve(hello, health_path="/health"))
    assert (await client.get(path)).body == b"hello"


async def test_other_methods_are_the_applications(serve, connect):
    client = await connect(await serve(hello, health_path="/health"))
    await client.raw(b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    assert (await client.response()).body == b"hello"


async def test_health_with_a_body_and_behind_a_root_path(serve, connect):
    """The body is read past; the path is the one that comes to the server."""
    client = await connect(await serve(hello, health_path="/health", root_path="/api"))
    await client.raw(b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" + REQUEST % b"a")
    assert (await client.response()).body == b"ok"
    assert (await client.response()).body == b"hello"


async def test_health_at_the_limit_of_concurrency(serve, stage, connect, open_ws):
    server = await serve(stage, health_path="/health", limit_concurrency=1, ws_max_connections=1)
    holder = await connect(server)
    await holder.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    client = await connect(server)
    assert (await client.get("/health")).status == 200
    assert (await client.get("/")).status == 503
    assert refusals(server) == {"concurrency_limit": 1}


@pytest.mark.both_loops
async def test_health_while_draining(serve, stage, connect, open_ws):
    server = await serve(stage, health_path="/health", timeout_graceful_shutdown=5)
    busy, idle = await connect(server), await connect(server)
    await busy.raw(REQUEST % b"a")
    act = await stage.next()
    await idle.raw(b"GET /health HTTP/1.1\r\nHost: a\r\n")
    shutdown = asyncio.ensure_future(server.server.shutdown())
    await within(server.server._context.draining.wait())
    await idle.raw(b"\r\n")
    response = await idle.response()
    assert (response.status, response.body) == (503, b"draining")
    assert response.header("connection") == "close"
    await act.answer()
    assert (await busy.response()).status == 200
    await within(shutdown)


@pytest.mark.both_loops
async def test_a_flood_of_health_checks_that_are_not_read(serve, connect):
    """They wait their turn, as other requests do."""
    server = await serve(hello, health_path="/health")
    client = await connect(server, receive_buffer=4096)
    chunk, chunks = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 5000, 200
    pump = Pump(client.pump(chunk, chunks))
    sent = await pump.stall()
    assert sent < chunks
    for _ in range(5000):
        assert (await client.response()).body == b"ok"
    await pump.cancel()


# What can't be meant


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"proxy_protocol": True, "forwarded_allow_ips": ""}, "proxy_protocol: no proxy is trusted"),
        ({"limit_connections_per_address": 5, "forwarded_allow_ips": "*"}, "limit_connections_per_address: "),
        ({"health_path": "health"}, "health_path: "),
        ({"health_path": ""}, "health_path: "),
        ({"health_path": "/health?x"}, "health_path: "),
        ({"forwarded_allow_ips": "fe80::1%eth0"}, "forwarded_allow_ips: "),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ConfigError) as caught:
        Config("a:b", **options)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_options_that_may_be_together():
    Config("a:b", limit_connections_per_address=5, forwarded_allow_ips="*", proxy_headers=False)
    Config("a:b", limit_connections_per_address=5, forwarded_allow_ips="*", proxy_protocol=True)
    assert Config("a:b", health_path="/").health_path == "/"
    assert Config("a:b", health_path="/health/").health_path == "/health/"


async def test_from_the_command_line(command):
    running = await command(
        *("support.helpers:echo", "--health-path", "/health", "--allowed-hosts", "example.com"),
        *("--ws-allowed-origins", "https://example.com", "--ws-max-connections", "1"),
    )
    wanted = [
        (REQUEST % b"evil.net", 400),
        (b"GET /health HTTP/1.1\r\nHost: evil.net\r\n\r\n", 200),
        (upgrade("Origin: https://evil.net"), 403),
        (upgrade("Origin: https://example.com"), 101),
        (UPGRADE, 503),
    ]
    clients = []
    for data, status in wanted:
        clients.append(await Client.connect(running.address))
        await clients[-1].raw(data)
        assert (await clients[-1].head()).status == status
    for client in clients:
        await client.aclose()
    running.signal(15)
    status, out, _ = await running.wait()
    assert status == 0
    assert "/health" not in out
    assert [line.rpartition('" ')[2].split()[0] for line in out.splitlines() if "HTTP/" in line] == [
        "400",
        "403",
        "503",
    ]


# Progress


@pytest.mark.both_loops
@pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe"])
async def test_a_body_that_does_not_come_on_is_not_waited_for(serve, stage, connect, framing):
    server = await serve(stage, timeout_body=0.1)
    client = await connect(server)
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing)
    act = await stage.next()
    reading = asyncio.ensure_future(act.disconnected())
    assert (await client.response()).status == 408
    assert await reading == {"type": "http.disconnect"}
    assert server.server._context.refusals == {"slow_request": 1}
    act.leave()


async def test_a_body_that_trickles_is_not_waited_for(serve, stage, connect):
    """Each byte would be progress, for ever."""
    client = await connect(await serve(stage, timeout_body=0.2))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    act = await stage.next()

    async def trickle():
        with contextlib.suppress(ConnectionError):
            while True:
                await client.raw(b"x")
                await asyncio.sleep(0.01)

    trickling = asyncio.ensure_future(trickle())
    assert await act.disconnected() == {"type": "http.disconnect"}
    assert (await client.response()).status == 408
    trickling.cancel()
    act.leave()


@pytest.mark.both_loops
async def test_a_body_that_trickles_behind_the_begin_of_the_response_is_not_waited_for(serve, connect):
    """Then there is no other answer: the response is cut."""
    left = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"reading", "more_body": True})
        while (await receive())["type"] == "http.request":
            pass
        left.set()

    client = await connect(await serve(app, timeout_body=0.2))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")

    async def trickle():
        with contextlib.suppress(ConnectionError):
            while True:
                await client.raw(b"x")
                await asyncio.sleep(0.01)

    trickling = asyncio.ensure_future(trickle())
    await within(left.wait())
    trickling.cancel()


@pytest.mark.both_loops
async def test_a_body_of_which_nothing_comes_while_the_response_goes_on_is_waited_for(serve, connect):
    """As by an application that streams and listens for the client's leaving."""

    async def app(scope, receive, send):
        leaving = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(40):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b""})
        leaving.cancel()

    client = await connect(await serve(app, timeout_body=0.1))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\n")
    assert (await client.response()).body == b"x" * 40


async def test_an_application_may_take_its_time_before_it_reads(serve, stage, connect):
    """A client that expects 100 Continue sends nothing until then."""
    client = await connect(await serve(stage, timeout_body=0.1))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    act = await stage.next()
    await asyncio.sleep(0.4)
    reading = asyncio.ensure_future(act.read())
    await client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
    await client.raw(b"hello")
    assert await reading == b"hello"
    await act.answer(b"read")
    assert (await client.response()).body == b"read"


@pytest.mark.both_loops
async def test_a_response_that_nobody_reads_is_cut(serve, connect):
    ended = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        ended.set()

    server = await serve(app, timeout_response=0.2)
    client = await connect(server, receive_buffer=65536)
    client.writer.transport.pause_reading()
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await within(ended.wait())
    assert server.server._context.refusals == {"slow_response": 1}


@pytest.mark.both_loops
async def test_a_whole_response_that_nobody_reads_is_cut(serve, connect, logs):
    """Though the application is done with it."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(30_000_000)})

    server = await serve(app, timeout_response=0.2, timeout_keep_alive=0.1)
    client = await connect(server, receive_buffer=65536)
    client.writer.transport.pause_reading()
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: server.server._context.refusals == {"slow_response": 1})
    await until(lambda: not server.server._context.live)
    assert any("takes nothing of its response: it is cut" in line for line in logs.lines())
