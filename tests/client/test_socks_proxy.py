"""Through SOCKS proxies: a foreign one, and what one may answer, in literal bytes (RFC 1928, RFC 1929)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pproxy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.helpers import until, within
from support.scripted import Certificates, Peer, Scripted, nothing_left, silent, talk

from flowserve.client import happy_eyeballs
from flowserve.client.connect import connect
from flowserve.client.reconnect import process_exception
from flowserve.errors import HandshakeError, ProxyError

CERTIFICATES = Certificates()
GRANTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


@contextlib.asynccontextmanager
async def foreign(user: str = "") -> AsyncIterator[str]:
    """pproxy, which speaks SOCKS 4 and 5: its place. By default it remembers who has signed in once."""
    server = await pproxy.Server(f"socks4+socks5://127.0.0.1:0{user}").start_server({"rserver": [], "authtime": -1})
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await within(server.wait_closed())


def url(proxy: Scripted, scheme: str = "socks5h", user: str = "") -> str:
    return f"{scheme}://{user}127.0.0.1:{proxy.port}"


@pytest.mark.both_loops
@pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h"])
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_through_a_foreign_one(scheme, secure):
    async with Scripted(talk, ssl=CERTIFICATES.server() if secure else None) as server, foreign() as place:
        options = {"ssl": CERTIFICATES.client()} if secure else {}
        async with connect(server.url(host="localhost"), proxy=f"{scheme}://{place}", **options) as ws:
            assert await within(ws.receive()) == "hello"
        assert server.peers[0].value("host") == f"localhost:{server.port}"


@pytest.mark.both_loops
async def test_user_and_password():
    async with Scripted(talk) as server, foreign("#me:p@ss") as place:
        for user in ("", "me:wrong@"):
            with pytest.raises(ProxyError, match=f"^the proxy socks5h://{place} did not connect to 127") as caught:
                await within(connect(server.url(), proxy=f"socks5h://{user}{place}"))
            assert "wrong" not in str(caught.value)
        async with connect(server.url(), proxy=f"socks5h://me:p%40ss@{place}") as ws:
            assert await within(ws.receive()) == "hello"


@pytest.mark.both_loops
async def test_named_by_the_environment(monkeypatch):
    async with Scripted(talk) as server, foreign() as place:
        monkeypatch.setenv("ALL_PROXY", f"socks://{place}/")
        async with connect(server.url()) as ws:
            assert ws.remote_address[1] == int(place.rpartition(":")[2])
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        async with connect(server.url()) as ws:
            assert ws.remote_address[1] == server.port


def relay(*exchanges: tuple[bytes, bytes], asked: list[bytes]) -> Callable[[Peer], Awaitable[None]]:
    """A proxy that expects and answers so, notes the last request, and plays the server too."""

    async def script(peer: Peer) -> None:
        for expected, answer in exchanges:
            assert await within(peer.reader.readexactly(len(expected))) == expected
            await peer.send(answer)
        asked.append(await within(peer.reader.read(300)))
        await peer.send(GRANTED if exchanges else b"\x00\x5a\x00\x00\x00\x00\x00\x00")
        await talk(peer)

    return script


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("scheme", "host", "request_"),
    [
        ("socks5h", "far.example", b"\x05\x01\x00\x03\x0bfar.example\x00\x51"),
        ("socks5h", "faß.example.", b"\x05\x01\x00\x03\x13xn--fa-hia.example.\x00\x51"),
        ("socks5h", "192.0.2.1", b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x51"),
        ("socks5", "[2001:db8::1]", b"\x05\x01\x00\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x00\x51"),
        ("socks5", "localhost", b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x51"),  # looked up here
        ("socks4", "localhost", b"\x04\x01\x00\x51\x7f\x00\x00\x01me\x00"),
        ("socks4a", "far.example", b"\x04\x01\x00\x51\x00\x00\x00\x01me\x00far.example\x00"),
    ],
)
async def test_what_it_is_asked_for(scheme, host, request_):
    asked: list[bytes] = []
    signing_in = (b"\x05\x02\x00\x02", b"\x05\x02"), (b"\x01\x02me\x04p\x3ass", b"\x01\x00")
    script = relay(*(signing_in if scheme.startswith("socks5") else ()), asked=asked)
    async with (
        nothing_left(),
        Scripted(script) as proxy,
        connect(f"ws://{host}:81", proxy=url(proxy, scheme, "me:p%3ass@")) as ws,
    ):
        assert await within(ws.receive()) == "hello"
    assert asked == [request_]


def answering(*answers: bytes) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        for answer in answers:
            assert await within(peer.reader.read(300))
            await peer.send(answer)

    return script


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("answers", "words", "may_pass"),
    [
        ([b"\x05\xff"], "No acceptable authentication methods", False),
        ([b"\x05\x00", b"\x05\x02\x00"], "Connection not allowed by ruleset", False),
        ([b"\x05\x00", b"\x05\x04\x00"], "Host unreachable", True),
        ([b"\x05\x00", b"\x05\x05\x00"], "Connection refused by destination host", True),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "Unexpected SOCKS version", False),
        ([b"\x05\x00", b"\x05\x00\x00\x03\x02\xff\xff\x00\x00"], "an answer that is not SOCKS", False),
        ([b"\x05"], "closed", True),
        ([b"\x05\x00", b"\x05\x00\x00"], "closed", True),
    ],
)
async def test_answers_that_open_no_tunnel(answers, words, may_pass):
    async with nothing_left(), Scripted(answering(*answers)) as proxy:
        with pytest.raises(ProxyError, match=words) as caught:
            await within(connect("ws://far.example", proxy=url(proxy)))
        assert str(caught.value).startswith(f"the proxy {url(proxy)} ")
    assert isinstance(caught.value, HandshakeError)
    assert caught.value.status == 0
    assert (process_exception(caught.value) is None) == may_pass


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"\x05\x00", b"\x05\x02", b"\x01\x00", GRANTED]), max_size=4))
def test_whatever_it_answers(answers):
    async def script(peer: Peer) -> None:
        await within(peer.reader.read(3))
        await peer.send(b"".join(answers))

    async def run() -> None:
        async with nothing_left(), Scripted(script) as proxy:
            with pytest.raises((HandshakeError, OSError)):
                await within(connect("ws://far.example", proxy=url(proxy, user="me:pass@")))

    asyncio.run(run())


@pytest.mark.both_loops
async def test_socks_4_has_no_ipv6():
    async with nothing_left():
        with pytest.raises(ProxyError, match=r"can't connect to \[2001:db8::1\]: SOCKS 4 has no IPv6; use socks5://"):
            await connect("ws://[2001:db8::1]/", proxy="socks4://127.0.0.1:1")


@pytest.mark.both_loops
async def test_one_that_says_nothing():
    async with nothing_left(), Scripted(silent) as proxy:
        with pytest.raises(TimeoutError, match=f"waiting for the proxy {url(proxy)} to connect to far.example:80"):
            await connect("ws://far.example", proxy=url(proxy), open_timeout=0.05)
        task = asyncio.ensure_future(connect("ws://far.example", proxy=url(proxy), open_timeout=None)._open())
        await until(lambda: len(proxy.peers) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)


@pytest.mark.both_loops
async def test_one_that_is_not_there(monkeypatch):
    """It has several addresses like any other host, and all are tried."""

    async def resolve(host: str, port: int, lookup: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.0.0.2", "127.0.0.3")]

    monkeypatch.setattr(happy_eyeballs, "_resolve", resolve)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        async with nothing_left():
            with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.2.*127\.0\.0\.3"):
                await connect("ws://far.example", proxy=f"socks5h://proxy.example:{sock.getsockname()[1]}")


@pytest.mark.both_loops
async def test_a_server_that_can_not_be_looked_up_here():
    async with nothing_left(), Scripted(answering(b"\x05\x00")) as proxy:
        with pytest.raises(socket.gaierror, match=r"nowhere\.invalid"):
            await connect("ws://nowhere.invalid", proxy=url(proxy, "socks5"))
