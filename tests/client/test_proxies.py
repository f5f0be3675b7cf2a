"""Proxies: found in the environment or given, and the tunnel through them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys

import pytest
from support.helpers import within
from support.scripted import TLS_OF_310, Certificates, Peer, Scripted, nothing_left, silent, talk

from flowserve.client.connect import connect
from flowserve.client.proxies import Proxy, find_proxy, parse_proxy
from flowserve.errors import ConfigError, HandshakeError, InvalidProxy, ProxyError

pytestmark = TLS_OF_310
CERTIFICATES = Certificates()


async def forward(peer: Peer) -> None:
    """A proxy that does what it is asked to."""
    await peer.request()
    method, target, _ = peer.head.split(b" ", 2)
    assert method == b"CONNECT"
    host, _, port = target.decode().rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    await peer.send(b"HTTP/1.0 200 Connection established\r\nContent-Length: 5\r\n\r\n")

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    await within(asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer)))


def proxy_url(proxy: Scripted, user: str = "") -> str:
    return proxy.url("", user=user).replace("ws", "http", 1)


@pytest.mark.both_loops
@pytest.mark.parametrize("outer", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("inner", [False, True], ids=["ws", "wss"])
async def test_through_a_proxy(outer, inner, request):
    """Both kinds of proxies, for both kinds of WebSockets: TLS in TLS, too."""
    server_tls, proxy_tls = (CERTIFICATES.server() if each else None for each in (inner, outer))
    async with nothing_left(), Scripted(talk, ssl=server_tls) as server, Scripted(forward, ssl=proxy_tls) as proxy:
        options = {
            "proxy": proxy_url(proxy, "me:p%3Ass@"),
            "proxy_ssl": CERTIFICATES.client(),
            **({"ssl": CERTIFICATES.client()} if inner else {}),
        }
        if inner and outer and sys.version_info < (3, 11) and "uvloop" not in request.node.name:
            with pytest.raises(ConfigError, match=r"needs Python 3\.11, or uvloop"):
                await connect(server.url("/x"), **options)
            return
        async with connect(server.url("/x"), **options) as ws:
            assert await within(ws.recv()) == "hello"
        (asked,) = proxy.peers
        assert asked.target == asked.value("host") == f"127.0.0.1:{server.port}"
        assert base64.b64decode(asked.value("proxy-authorization").removeprefix("Basic ")) == b"me:p:ss"
        assert asked.value("user-agent").startswith("flowserve/")
        assert server.peers[0].target == "/x"
        assert server.peers[0].value("proxy-authorization") is None


@pytest.mark.both_loops
async def test_the_environments_proxy(monkeypatch):
    async with Scripted(talk) as server, Scripted(forward) as proxy:
        monkeypatch.setenv("http_proxy", proxy_url(proxy).removeprefix("http://"))
        async with connect(server.url()):
            pass
        assert len(proxy.peers) == 1
        async with connect(server.url(), proxy=None):
            pass
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with connect(server.url()):
            pass
        assert len(proxy.peers) == 1
        assert len(server.peers) == 3


@pytest.mark.both_loops
async def test_a_proxy_that_refuses():
    async def refuse(peer: Peer) -> None:
        await peer.refuse("407 Proxy Authentication Required", "Proxy-Authenticate: Basic", body=b"who are you")
        await peer.gone()

    async with nothing_left(), Scripted(refuse) as proxy:
        with pytest.raises(ProxyError) as caught:
            await connect("wss://far.example", proxy=proxy_url(proxy, "me:secret@"))
        assert isinstance(caught.value, HandshakeError)
        assert str(caught.value) == (
            f"407: the proxy {proxy_url(proxy)} did not connect to far.example:443 (Proxy Authentication Required)"
        )
        assert (b"proxy-authenticate", b"Basic") in caught.value.headers
        assert (caught.value.status, caught.value.body) == (407, b"who are you")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "was closed without an answer"),
        (b"SOCKS", "is no HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n", "data of its own"),
    ],
)
@pytest.mark.both_loops
async def test_a_proxy_that_is_none(answer, words):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    async with nothing_left(), Scripted(script) as proxy:
        with pytest.raises(ProxyError, match=words) as caught:
            await connect("ws://far.example", proxy=proxy_url(proxy))
        assert caught.value.status == 0


@pytest.mark.both_loops
async def test_a_proxy_that_says_nothing():
    async with nothing_left(), Scripted(silent) as proxy:
        with pytest.raises(
            TimeoutError, match=f"waiting for the proxy {proxy_url(proxy)} to connect to far.example:80"
        ):
            await connect("ws://far.example", proxy=proxy_url(proxy), open_timeout=0.05)
        with pytest.raises(TimeoutError, match=r"shaking hands for TLS with 127\.0\.0\.1"):
            await connect("ws://far.example", proxy=proxy_url(proxy).replace("http", "https"), open_timeout=0.05)


@pytest.mark.both_loops
async def test_a_server_behind_the_proxy_that_says_nothing():
    async with nothing_left(), Scripted(silent) as server, Scripted(forward) as proxy:
        with pytest.raises(TimeoutError, match=r"shaking hands for TLS with 127\.0\.0\.1"):
            await connect(server.url().replace("ws", "wss"), proxy=proxy_url(proxy), open_timeout=0.05)


ENVIRONMENTS = [
    ({}, True, None),
    ({"https_proxy": "http://a:1"}, True, "a"),
    ({"https_proxy": "http://a:1"}, False, "a"),
    ({"http_proxy": "http://a:1"}, True, None),
    ({"http_proxy": "http://a:1"}, False, "a"),
    ({"http_proxy": "http://a:1", "https_proxy": "http://b:1"}, False, "b"),
    ({"wss_proxy": "c:1", "https_proxy": "http://b:1"}, True, "c"),
    ({"ws_proxy": "c:1", "https_proxy": "http://b:1"}, False, "c"),
    ({"https_proxy": "http://a:1", "no_proxy": "example.com"}, True, None),
    ({"https_proxy": "http://a:1", "no_proxy": ".com"}, True, None),
    ({"https_proxy": "http://a:1", "no_proxy": "example.com:443"}, True, None),
    ({"https_proxy": "http://a:1", "no_proxy": "example.com:444,other"}, True, "a"),
    ({"https_proxy": "http://a:1", "no_proxy": "*"}, True, None),
    ({"https_proxy": ""}, True, None),
    ({"all_proxy": "http://d:1"}, True, "d"),
    ({"ALL_PROXY": "socks5://d"}, False, "d"),
    ({"all_proxy": "http://d:1", "http_proxy": "http://a:1"}, True, "d"),
    ({"all_proxy": "http://d:1", "http_proxy": "http://a:1"}, False, "a"),
    ({"all_proxy": "http://d:1", "no_proxy": "other, *.example.com"}, True, None),
    ({"socks_proxy": "s:1", "https_proxy": "http://b:1"}, True, "s"),
]


@pytest.mark.parametrize(("variables", "secure", "host"), ENVIRONMENTS)
def test_what_the_environment_says(monkeypatch, variables, secure, host):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = find_proxy(True, secure, "example.com", 443 if secure else 80)
    assert (found and found.host) == host


def test_the_urls_of_proxies():
    assert parse_proxy("http://h") == Proxy("http", "h", 80)
    assert parse_proxy("HTTPS://H/") == Proxy("https", "h", 443)
    assert parse_proxy("h:3128") == Proxy("http", "h", 3128)
    assert parse_proxy("http://u@[::1]:8") == Proxy("http", "::1", 8, "u", "")
    assert parse_proxy("http://u@[::1]:8").authorization == b"Basic dTo="
    assert parse_proxy("http://h").authorization is None
    assert parse_proxy("http://faß.example") == Proxy("http", "xn--fa-hia.example", 80)
    assert str(parse_proxy("https://u:p@[::1]:8")) == "the proxy https://[::1]:8"


@pytest.mark.parametrize(
    ("url", "kind", "proxy"),
    [
        ("socks5://h", "http", Proxy("socks5", "h", 1080)),
        ("SOCKS5H://u:p%40@h:9", "http", Proxy("socks5h", "h", 9, "u", "p@")),
        ("socks4://u@h", "http", Proxy("socks4", "h", 1080, "u", "")),
        ("socks4a://h", "all", Proxy("socks4a", "h", 1080)),
        ("socks://h:1/", "all", Proxy("socks5h", "h", 1)),  # as GNOME sets all_proxy
        ("http://h:1", "socks", Proxy("socks5h", "h", 1)),  # as Python reads the settings of macOS
        ("h:1", "socks", Proxy("socks5h", "h", 1)),
        ("socks4://h:1", "socks", Proxy("socks4", "h", 1)),
    ],
)
def test_the_urls_of_socks_proxies(url, kind, proxy):
    assert parse_proxy(url, kind) == proxy


def test_socks_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "python_socks", None)  # as if it could not be found
    with pytest.raises(InvalidProxy, match=r"'socks5://h': SOCKS needs python-socks; pip install 'python-socks\[a"):
        connect("ws://example.com", proxy="socks5://u:secret@h")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("socks5h://:secret@h:1080", "wants both, a user and a password"),
        ("socks5h://u@h:1080", "wants both, a user and a password"),
        ("socks5://u:secr\u00e9t@h", "at most 255 characters of ASCII"),
        ("socks4://a%00secret@h", "at most 255 characters of ASCII"),
        (f"socks5://u:{'secret' * 43}@h", "at most 255 characters of ASCII"),
        ("socks6://h", "should begin with http://, https://, socks5h:// or socks5://"),
        ("socks5://", "names no host"),
        ("ftp://u:secret@h", "should begin with http://, https://"),
        ("http://u:secret@", "names no host"),
        ("u:secret@h:0", "no port 0"),
        ("http://u:secret/x@h", "its port is no number"),
        ("http://u:secret@exa\u2100mple", "characters in user, password or host"),
        ("http://h:0", "no port 0"),
        ("http://h:x", "is no URL"),
        ("http://a b", "blanks"),
        ("http://h/path", "something behind host and port"),
    ],
)
def test_urls_that_are_no_proxys(url, words):
    with pytest.raises(InvalidProxy, match=words) as caught:
        connect("ws://h", proxy=url)
    assert "secret" not in str(caught.value)
