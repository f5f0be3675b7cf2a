"""Redirects in the answer to the opening handshake."""

from __future__ import annotations

import socket

import pytest
from support.helpers import until, within
from support.scripted import TLS_OF_310, Certificates, Peer, Scripted, nothing_left, talk

from flowserve.client.connect import connect
from flowserve.client.redirects import redirect_location
from flowserve.client.uri import parse_uri
from flowserve.errors import HandshakeError, ProxyError

pytestmark = [pytest.mark.both_loops, TLS_OF_310]

SECRETS = {"Authorization": "Bearer secret", "Cookie": "secret=1", "X-Plain": "shown", "Host": "first.example"}


def to(location: str, status: str = "302 Found"):
    """A script that sends its client elsewhere."""

    async def script(peer: Peer) -> None:
        await peer.refuse(status, f"Location: {location}")
        await peer.gone()

    return script


@pytest.mark.parametrize("status", ["301 M", "302 F", "303 S", "307 T", "308 P"])
@pytest.mark.parametrize("location", ["/b?c=d", "b?c=d", "{http}/b?c=d#there", "{ws}/b?c=d"])
async def test_within_the_origin(status, location):
    """All that was for this server goes there again."""
    first: list[str] = []

    async def elsewhere(peer: Peer) -> None:
        await to(first[0], status)(peer)

    async with nothing_left(), Scripted(elsewhere, talk) as server:
        http = f"http://127.0.0.1:{server.port}"
        first.append(location.format(http=http, ws=http.replace("http", "ws")))
        async with connect(server.url("/a/x", user="u:p@"), additional_headers={"Cookie": "a=1"}) as ws:
            assert await within(ws.recv()) == "hello"
        last = server.peers[1]
        assert last.target == ("/a/b?c=d" if location == "b?c=d" else "/b?c=d")
        assert (last.value("cookie"), last.value("authorization")) == ("a=1", "Basic dTpw")


async def test_another_origin_is_told_no_secrets():
    async with nothing_left(), Scripted(talk) as other:
        async with Scripted(to(f"http://127.0.0.1:{other.port}/")) as server:
            async with connect(server.url(), additional_headers=SECRETS):
                pass
            async with connect(server.url(user="u:p@")):
                pass
        for peer in other.peers:
            assert peer.value("host") == f"127.0.0.1:{other.port}"
            assert peer.value("authorization") is None
            assert peer.value("cookie") is None
        assert other.peers[0].value("x-plain") == "shown"


async def test_secrets_do_not_come_back_with_the_origin():
    """Nor when the other origin sends the client back."""
    urls: list[str] = []

    async def back(peer: Peer) -> None:
        await to(urls[0])(peer)

    async with Scripted(back) as other, Scripted(to(other.url()), talk) as server:
        urls.append(server.url("/again"))
        async with connect(server.url(user="u:p@"), additional_headers=SECRETS):
            pass
        assert server.peers[1].target == "/again"
        assert server.peers[1].value("authorization") is None


async def test_up_to_tls_but_not_down():
    certificates = Certificates()
    async with Scripted(talk) as plain, Scripted(to(plain.url()), ssl=certificates.server()) as secure:
        with pytest.raises(HandshakeError, match=f"302: was redirected to {plain.url()}, which is not encrypted"):
            await within(connect(secure.url(), ssl=certificates.client()))
        assert not plain.peers


async def test_up_to_tls(tmp_path):
    certificates = Certificates()
    certificates.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with Scripted(talk, ssl=certificates.server()) as secure, Scripted(to(secure.url())) as plain:
        with pytest.raises(OSError, match="certificate"):  # an authority that this client does not know
            await within(connect(plain.url()))


async def test_not_without_end():
    async with nothing_left(), Scripted(to("/again")) as server:
        with pytest.raises(HandshakeError, match="302: was redirected more than 3 times"):
            await within(connect(server.url(), max_redirects=3))
        assert len(server.peers) == 4
        with pytest.raises(HandshakeError, match="more than 0 times"):
            await within(connect(server.url(), max_redirects=0))


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("ftp://127.0.0.1/", "should begin with ws:// or wss://"),
        ("http://[::1/", "is no URI"),
        ("http://u:secret@a b/", "is no URI: it has blanks"),
        ("http://127.0.0.1:99999/", "is no URI"),
        ("javascript:alert(1)", "should begin with"),
    ],
)
async def test_places_where_there_is_no_websocket(location, words):
    async with Scripted(to(location)) as server:
        with pytest.raises(HandshakeError, match=words) as caught:
            await within(connect(server.url()))
        assert caught.value.status == 302
        assert "secret" not in str(caught.value)


async def test_without_a_location_it_is_a_refusal():
    async def script(peer: Peer) -> None:
        await peer.refuse("302 Found")

    async with Scripted(script) as server:
        with pytest.raises(HandshakeError, match="302: the server did not open a WebSocket"):
            await within(connect(server.url()))


async def test_a_route_that_leads_to_one_server_only(tmp_path):
    path = str(tmp_path / "s")
    async with Scripted(to("http://elsewhere.example/"), path=path):
        with pytest.raises(HandshakeError, match=r"elsewhere\.example/, but `uds` leads to localhost:80"):
            await within(connect("ws://localhost", uds=path))
    async with Scripted(to("/b"), talk, path=path) as server:
        async with connect("ws://localhost", uds=path):
            pass
        assert [peer.target for peer in server.peers] == ["/", "/b"]
    async with Scripted(to("http://elsewhere.example/")) as server:
        with pytest.raises(HandshakeError, match=r"but `host` leads to a\.example:80"):
            await within(connect("ws://a.example", host="127.0.0.1", port=server.port))


async def test_a_socket_leads_nowhere_else():
    async with nothing_left(), Scripted(to("/b")) as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        with pytest.raises(HandshakeError, match="the socket that was given leads to one server only"):
            await within(connect(server.url(), sock=sock))
        await until(lambda: sock.fileno() == -1)


def test_a_proxys_redirect_is_not_followed():
    uri = parse_uri("wss://a.example/")
    headers = [(b"location", b"https://login.example/")]
    assert redirect_location(uri, ProxyError(302, "x", headers)) is None
    assert redirect_location(uri, HandshakeError(302, "x", headers)) is not None
