"""connect() against servers of every kind: good, silent, wrong and hostile ones."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest
from support.helpers import BINARY, TEXT, close_payload, frame, until, within
from support.scripted import TLS_OF_310, Certificates, Peer, Scripted, closed, nothing_left, silent, talk

from flowserve.client import http_exchange
from flowserve.client.connect import connect, unix_connect
from flowserve.errors import ConfigError, ConnectionClosedError, ConnectionClosedOK, HandshakeError, InvalidURI
from flowserve.library import context

pytestmark = [pytest.mark.both_loops, TLS_OF_310]


@pytest.fixture(scope="module")
def certificates():
    return Certificates()


async def echo(scope, receive, send):
    """With the first subprotocol, and what was asked for as the first message."""
    await receive()
    names = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": names[0] if names else None})
    asked = "\n".join(f"{name.decode()}: {value.decode('latin-1')}" for name, value in scope["headers"])
    query = scope["query_string"].decode()
    await send({"type": "websocket.send", "text": f"{scope['raw_path'].decode()}?{query}\n{asked}"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


# What is asked for, and what comes of it


async def test_what_is_asked_for_and_the_answer(serve):
    server = await serve(echo)
    async with nothing_left():
        async with connect(
            f"{server.ws_url}/a%20b?c=d",
            subprotocols=["v2", "v1"],
            additional_headers={"X-Token": "é", "Authorization": "Bearer x"},
            origin="https://example.com",
            user_agent_header="me/1",
        ) as ws:
            lines = (await ws.recv()).split("\n")
            await ws.send("again")
            assert await ws.recv() == "again"
        assert lines[0] == "/a%20b?c=d"
        for line in ("x-token: é", "authorization: Bearer x", "origin: https://example.com", "user-agent: me/1"):
            assert line in lines
        assert ws.subprotocol == "v2"
        assert (ws.response.status_code, ws.response.reason_phrase, ws.response.body) == (
            101,
            "Switching Protocols",
            b"",
        )
        assert ws.response.headers["Upgrade"] == "websocket"
        assert ws.close_code == 1000
        assert ws.request.path == "/a%20b?c=d"
        assert ws.request.headers["Host"] == f"{server.host}:{server.port}"
        assert (ws.request.headers["X-Token"], ws.request.headers["User-Agent"]) == ("é", "me/1")


async def test_await_leaves_closing_to_the_caller(serve):
    server = await serve(echo)
    ws = await connect(f"ws://user:p%40ss@{server.host}:{server.port}", user_agent_header=None)
    lines = (await ws.recv()).split("\n")
    assert "authorization: Basic dXNlcjpwQHNz" in lines
    assert not any(line.startswith("user-agent") for line in lines)
    await ws.close(1001)
    assert ws.close_code == 1001


async def test_headers_of_ones_own():
    async def script(peer: Peer) -> None:
        await talk(peer)

    async with Scripted(script) as server:
        pairs = [("Host", "other.example"), ("Cookie", "a=1"), ("cookie", "b=2")]
        async with connect(server.url(user="u:p@"), additional_headers=[*pairs, ("Authorization", "mine")]):
            pass
        (peer,) = server.peers
        assert peer.value("host") == "other.example"
        assert peer.value("authorization") == "mine"
        assert peer.head.lower().count(b"cookie:") == 2


async def test_the_end_of_the_block_is_the_close():
    codes = []

    async def script(peer: Peer) -> None:
        await peer.open()
        codes.append(await closed(peer))

    async with Scripted(script) as server:
        async with connect(server.url()):
            pass
        with pytest.raises(ZeroDivisionError):
            async with connect(server.url()):
                raise ZeroDivisionError
    assert codes == [1000, 1011]


async def test_a_block_that_is_cancelled_while_the_peer_does_not_answer_the_close():
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.gone()

    async with nothing_left(), Scripted(script) as server:
        opened = asyncio.Event()

        async def client() -> None:
            async with connect(server.url(), close_timeout=60):
                opened.set()

        task = asyncio.create_task(client())
        await within(opened.wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)


async def test_one_block_at_a_time(serve):
    server = await serve(echo)
    once = connect(server.ws_url)
    async with once:
        with pytest.raises(RuntimeError, match="has its block already"):
            await once.__aenter__()
    async with once as ws:
        assert not ws.closed


# Answers

OPENS = [
    (lambda peer: b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + peer.upgrade(), {}),
    (lambda peer: peer.upgrade("Sec-WebSocket-Protocol: b"), {"subprotocols": ["a", "b"]}),
    (lambda peer: peer.upgrade("Sec-WebSocket-Extensions: permessage-deflate;server_no_context_takeover"), {}),
    (lambda peer: peer.upgrade("X-Long: " + "x" * 60000), {}),
    (
        lambda peer: peer.upgrade().replace(b"websocket", b"WebSocket").replace(b"Upgrade\r", b"keep-alive, UPGRADE\r"),
        {},
    ),
    (lambda peer: peer.upgrade("Content-Length: 0").replace(b"Switching Protocols", b""), {}),
]


@pytest.mark.parametrize(("answer", "options"), OPENS)
@pytest.mark.parametrize("dribble", [False, True])
async def test_answers_that_open_one(answer, options, dribble):
    """However the bytes come: what stands behind the 101 is the first message."""

    async def script(peer: Peer) -> None:
        await peer.request()
        data = answer(peer) + frame(TEXT, b"one", mask=None) + frame(BINARY, b"two", mask=None)
        if dribble and len(data) < 1000:
            for index in range(len(data)):
                await peer.send(data[index : index + 1])
                await asyncio.sleep(0)
        else:
            await peer.send(data)
        await closed(peer)

    async with Scripted(script) as server, connect(server.url(), **options) as ws:
        assert await within(ws.recv()) == "one"
        assert await within(ws.recv()) == b"two"


REFUSALS = {
    "refused": (b"HTTP/1.1 403 No\r\nContent-Length: 4\r\nX-Why: so\r\n\r\nwhy?rest", 403, "did not open a WebSocket"),
    "ok": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n", 200, "did not open"),
    "http10": (b"HTTP/1.0 404 Not Found\r\n\r\nnothing here", 404, "did not open a WebSocket"),
    "garbage": (b"SSH-2.0-OpenSSH_9.6\r\n", 0, "the answer is no HTTP"),
    "no status": (b"HTTP/1.1 abc\r\n\r\n", 0, "the answer is no HTTP"),
    "http2": (b"HTTP/2 200\r\n\r\n", 0, "the answer is no HTTP"),
    "bad field": (b"HTTP/1.1 101 S\r\nA b: c\r\n\r\n", 0, "the answer is no HTTP"),
    "half": (b"HTTP/1.1 101 Switching Prot", 0, "was closed within its answer"),
    "nothing": (b"", 0, "was closed without an answer"),
    "too long": (b"HTTP/1.1 101 S\r\nX: " + b"x" * 70000, 0, "has more than 65536 bytes"),
    "too many": (b"HTTP/1.1 101 S\r\n" + b"X: y\r\n" * 200 + b"\r\n", 0, "has more than 128 header fields"),
    "bad chunk": (b"HTTP/1.1 500 S\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 500, "did not open a WebSocket"),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_answers_that_are_none_or_a_refusal(name):
    answer, status, detail = REFUSALS[name]

    async def script(peer: Peer) -> None:
        await peer.request()
        with contextlib.suppress(ConnectionError):
            await peer.send(answer)

    async with nothing_left(), Scripted(script) as server:
        with pytest.raises(HandshakeError, match=detail) as caught:
            await within(connect(server.url()))
        assert caught.value.status == status
        if name == "refused":
            assert (b"x-why", b"so") in caught.value.headers
            assert caught.value.body == b"why?"
        if name == "ok":
            assert caught.value.body == b"abc"


WRONG = [
    (lambda peer: peer.upgrade(accept="s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "Sec-WebSocket-Accept"),
    (lambda peer: peer.upgrade("Sec-WebSocket-Accept: x"), "Sec-WebSocket-Accept"),
    (lambda peer: peer.upgrade().replace(b"Upgrade: websocket", b"Upgrade: h2c"), "Upgrade: websocket"),
    (lambda peer: peer.upgrade().replace(b"Connection: Upgrade", b"Connection: close"), "Connection: Upgrade"),
    (lambda peer: peer.upgrade("Sec-WebSocket-Protocol: c"), "subprotocol that was not offered"),
    (lambda peer: peer.upgrade("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"), "subprotocol"),
    (lambda peer: peer.upgrade("Sec-WebSocket-Extensions: x-webkit-deflate-frame"), "extension that was not offered"),
    (lambda peer: peer.upgrade("Sec-WebSocket-Extensions: permessage-deflate; a=b"), "permessage-deflate"),
    (lambda peer: peer.upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), "a WebSocket needs HTTP/1.1"),
]


@pytest.mark.parametrize(("answer", "detail"), WRONG)
async def test_a_101_that_is_wrong(answer, detail):
    """RFC 6455 section 4.1: the client must fail the connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(peer))
        assert await peer.gone() == b""

    async with nothing_left(), Scripted(script) as server:
        with pytest.raises(HandshakeError, match=detail) as caught:
            await within(connect(server.url(), subprotocols=["a", "b"]))
        assert caught.value.status == 101


async def test_no_extension_was_asked_for():
    async def script(peer: Peer) -> None:
        await peer.request()
        assert peer.value("sec-websocket-extensions") is None
        await peer.send(peer.upgrade("Sec-WebSocket-Extensions: permessage-deflate"))
        await peer.gone()

    async with Scripted(script) as server:
        with pytest.raises(HandshakeError, match="extension that was not offered"):
            await within(connect(server.url(), compression=None))


async def test_a_body_without_end():
    """It is cut, whether it comes fast or slowly."""

    async def fast(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 503 Later\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                await peer.send(b"x" * 65536)

    async with nothing_left(), Scripted(fast) as server:
        with pytest.raises(HandshakeError) as caught:
            await within(connect(server.url()))
        assert (caught.value.status, caught.value.body) == (503, b"x" * 65536)


async def test_a_body_that_does_not_come(monkeypatch):
    monkeypatch.setattr(http_exchange, "_BODY_TIMEOUT", 0.05)

    async def slow(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\nyou")
        await peer.gone()

    async with nothing_left(), Scripted(slow) as server:
        with pytest.raises(HandshakeError) as caught:
            await within(connect(server.url(), open_timeout=None))
        assert (caught.value.status, caught.value.body) == (403, b"you")


@pytest.mark.parametrize("secure", [False, True])
async def test_the_end_right_behind_the_101(secure, certificates):
    """Message, close frame and the end of TCP in one segment: all of it counts."""

    async def script(peer: Peer) -> None:
        await peer.request()
        end = frame(8, close_payload(1001, "bye"), mask=None)
        await peer.send(peer.upgrade() + frame(TEXT, b"last", mask=None) + end)

    options, tls = ({"ssl": certificates.client()}, certificates.server()) if secure else ({}, None)
    async with nothing_left(), Scripted(script, ssl=tls) as server, connect(server.url(), **options) as ws:
        assert [message async for message in ws] == ["last"]
        with pytest.raises(ConnectionClosedOK):
            await ws.recv()
        assert (ws.close_code, ws.close_reason) == (1001, "bye")


async def test_loss_right_behind_the_101():
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(peer.upgrade() + frame(TEXT, b"last", mask=None))
        peer.cut()

    async with nothing_left(), Scripted(script) as server, connect(server.url()) as ws:
        with contextlib.suppress(ConnectionClosedError):
            assert await within(ws.recv()) == "last"
        with pytest.raises(ConnectionClosedError):
            await within(ws.recv())


async def test_loss_before_the_answer():
    async def script(peer: Peer) -> None:
        await peer.request()
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.cut()

    async with nothing_left(), Scripted(script) as server:
        with pytest.raises(ConnectionResetError):
            await within(connect(server.url()))


# Time


async def test_a_server_that_says_nothing():
    async with nothing_left(), Scripted(silent) as server:
        with pytest.raises(TimeoutError, match=rf"after 0.05 s while waiting for the answer of {server.url()}"):
            await connect(server.url(), open_timeout=0.05)
        with pytest.raises(TimeoutError, match=r"while shaking hands for TLS with 127\.0\.0\.1"):
            await connect(server.url().replace("ws:", "wss:"), open_timeout=0.05)


async def test_cancelled_at_any_moment(certificates):
    """Wherever it is just then: no socket and no task is left, and the cancellation is not lost."""
    async with nothing_left(), Scripted(talk_or_be_cut, ssl=certificates.server()) as server:
        context = certificates.client()
        opened = False
        for steps in range(400):
            task = asyncio.create_task(opening(server.url(), context))
            for _ in range(steps):
                if task.done():
                    break
                await asyncio.sleep(0)
            if task.done():
                opened = True
                (await task).abort()
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(task)
        assert opened


async def opening(url: str, context: ssl.SSLContext):
    return await connect(url, ssl=context)


async def talk_or_be_cut(peer: Peer) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await peer.open()
        await peer.gone()


async def test_the_timeout_and_a_cancellation_at_once():
    async with nothing_left(), Scripted(silent) as server:

        async def attempt() -> None:
            await connect(server.url(), open_timeout=0.02)

        task = asyncio.create_task(attempt())
        asyncio.get_running_loop().call_later(0.02, task.cancel)
        with pytest.raises((asyncio.CancelledError, TimeoutError)):
            await within(task)


# TLS, sockets, places


async def test_tls(certificates, tmp_path):
    authority = tmp_path / "authority.pem"
    certificates.authority.cert_pem.write_to_path(authority)
    async with nothing_left(), Scripted(talk, ssl=certificates.server()) as server:
        async with connect(server.url(host="localhost"), ca_file=authority) as ws:
            assert await within(ws.recv()) == "hello"
            assert ws.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        async with connect(server.url(), ssl=certificates.client()) as ws:
            assert await within(ws.recv()) == "hello"
        async with connect(
            f"wss://nowhere.invalid:{server.port}",
            ssl=certificates.client(),
            server_hostname="localhost",
            host="127.0.0.1",
        ) as ws:
            assert await within(ws.recv()) == "hello"


@pytest.mark.both_loops
async def test_a_trailing_dot(certificates):
    """The Host field has it, SNI and certificates don't (RFC 6066 section 3), as in browsers and curl."""
    asked_for = []
    context = certificates.server("example.com")
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    async with nothing_left(), Scripted(talk, ssl=context) as server:
        for options in ({}, {"server_hostname": "Example.com."}):
            uri = f"wss://example.com.:{server.port}/"
            async with connect(uri, ssl=certificates.client(), host="127.0.0.1", **options) as ws:
                assert await within(ws.recv()) == "hello"
        assert asked_for == ["example.com"] * 2
        assert server.peers[0].value("host") == f"example.com.:{server.port}"


async def test_an_international_name(certificates):
    """One that IDNA 2003 gives another spelling, in each place where names can stand."""
    asked_for = []
    context = certificates.server("xn--fa-hia.example")
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    async with nothing_left(), Scripted(talk, ssl=context) as server:
        for uri, options in (("faß.example", {}), ("h", {"server_hostname": "FAß.example"})):
            async with connect(
                f"wss://{uri}:{server.port}/", ssl=certificates.client(), host="127.0.0.1", **options
            ) as ws:
                assert await within(ws.recv()) == "hello"
        assert asked_for == ["xn--fa-hia.example"] * 2
        assert server.peers[0].value("host") == f"xn--fa-hia.example:{server.port}"


async def test_tls_that_is_not_trusted(certificates, tmp_path):
    async with nothing_left(), Scripted(silent_tls, ssl=certificates.server("example.com")) as server:
        with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get"):
            await within(connect(server.url()))
        with pytest.raises(ssl.SSLCertVerificationError, match=r"127\.0\.0\.1"):
            await within(connect(server.url(), ssl=certificates.client()))
        with pytest.raises(ConfigError, match=r"ca_file: .*missing\.pem"):
            await within(connect(server.url(), ca_file=tmp_path / "missing.pem"))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await within(connect(f"wss://{free_place()}"))


async def silent_tls(peer: Peer) -> None:
    with contextlib.suppress(OSError):
        await peer.gone()


def free_place() -> str:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


async def test_the_101_and_a_frame_in_tls_records_of_their_own(certificates):
    async def script(peer: Peer) -> None:
        await peer.request()
        for part in (peer.upgrade(), frame(TEXT, b"one", mask=None), frame(TEXT, b"two", mask=None)):
            peer.writer.write(part)
        await closed(peer)

    async with Scripted(script, ssl=certificates.server()) as server:
        for _ in range(5):
            async with connect(server.url(), ssl=certificates.client()) as ws:
                assert [await within(ws.recv()) for _ in range(2)] == ["one", "two"]


async def test_plain_http_where_tls_was_expected():
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with nothing_left(), Scripted(script) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await within(connect(server.url().replace("ws:", "wss:")))


async def test_loss_during_the_tls_handshake():
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)

    async with nothing_left(), Scripted(script) as server:
        with pytest.raises(OSError, match=r"TLS handshake with 127\.0\.0\.1|reset|EOF"):
            await within(connect(server.url().replace("ws:", "wss:")))


async def test_nobody_listens():
    with pytest.raises(ConnectionRefusedError):
        await within(connect(f"ws://{free_place()}"))


async def test_no_such_host():
    with pytest.raises(OSError, match=r"nowhere|Name|resolve|known|Temporary"):
        await within(connect("ws://nowhere.invalid/"))


async def test_unix_sockets(tmp_path):
    path = str(tmp_path / "s")
    async with nothing_left(), Scripted(talk, path=path) as server:
        async with unix_connect(path) as ws:
            assert await within(ws.recv()) == "hello"
        async with connect("ws://example.com/x", uds=path) as ws:
            assert await within(ws.recv()) == "hello"
        assert [peer.value("host") for peer in server.peers] == ["localhost", "example.com"]
    with pytest.raises(OSError, match="No such file"):
        await within(unix_connect(tmp_path / "none"))


async def test_a_socket_that_is_connected():
    async with nothing_left(), Scripted(talk) as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        once = connect("ws://example.com", sock=sock)
        async with once as ws:
            assert await within(ws.recv()) == "hello"
        with pytest.raises(ConfigError, match="sock: a socket leads to its server once"):
            await once
        await until(lambda: sock.fileno() == -1)
        with pytest.raises(ConfigError, match="sock: a socket can't be connected again"):
            async for _ in once:
                pass


async def test_a_unix_socket_that_is_connected(tmp_path):
    path = str(tmp_path / "s")
    async with nothing_left(), Scripted(talk, path=path):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        async with connect("ws://example.com", sock=sock) as ws:
            assert await within(ws.recv()) == "hello"


async def test_a_socket_is_closed_if_no_websocket_comes_of_it():
    async def refuse(peer: Peer) -> None:
        await peer.refuse("403 No")
        await peer.gone()

    async with nothing_left(), Scripted(refuse, silent) as server:
        for uri, error in (("ws://h", HandshakeError), ("wss://h", TimeoutError), ("ws://h", TimeoutError)):
            sock = socket.create_connection(("127.0.0.1", server.port))
            with pytest.raises(error):
                await connect(uri, sock=sock, open_timeout=0.05)
            await until(lambda: sock.fileno() == -1)  # noqa: B023
        with pytest.raises(OSError, match=r"[Tt]ransport|connected|Bad|closed|Invalid|Broken"):
            await within(connect("ws://h", sock=socket.socket()))


async def test_host_and_port_in_the_place_of_the_uris():
    async with Scripted(talk) as server:
        async with connect("ws://example.com:81/", host="127.0.0.1", port=server.port, local_addr=("127.0.0.1", 0)):
            pass
        assert server.peers[0].value("host") == "example.com:81"


# Arguments


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ssl": ssl.create_default_context()}, "ssl: ws://h/ is without TLS"),
        ({"ca_file": "x"}, "ca_file: ws://h/ is without TLS"),
        ({"server_hostname": "x"}, "server_hostname: ws://h/ is without TLS"),
        ({"proxy_ssl": "x"}, "proxy_ssl: 'x' is no ssl.SSLContext"),
        ({"uds": "x", "host": "y"}, "uds: leads to the server already; leave out host"),
        ({"uds": "x", "port": 1}, "uds: leads to the server already; leave out port"),
        ({"uds": "x", "proxy": "http://p"}, "proxy: can't be gone through with uds"),
        ({"port": 0}, "port: 0 is not a whole number from 1 to 65535"),
        ({"host": "a b"}, "host: 'a b' can't be the name of a host"),
        ({"proxy_server_hostname": "a..b"}, "proxy_server_hostname: 'a..b' can't be the name of a host"),
        ({"sock": 3}, "sock: 3 is no stream socket"),
        ({"local_addr": "127.0.0.1"}, "local_addr: .host, port. is wanted"),
        ({"open_timeout": -1}, "open_timeout: -1 is too short"),
        ({"happy_eyeballs_delay": "soon"}, "happy_eyeballs_delay: 'soon' is not a duration"),
        ({"interleave": -1}, "interleave: -1 is not"),
        ({"open_timeout": "soon"}, "open_timeout: 'soon' is not a duration"),
        ({"max_redirects": -1}, "max_redirects: -1"),
        ({"proxy": 1}, "proxy: 1 is neither"),
        ({"subprotocols": "chat"}, "subprotocols: a list is wanted"),
        ({"subprotocols": ["a b"]}, "subprotocols: 'a b' can't be the name"),
        ({"subprotocols": ["a", "a"]}, "subprotocols: each may be named once"),
        ({"additional_headers": {"a b": "c"}}, "additional_headers: b'a b' can't be the name"),
        ({"additional_headers": {"a": "b\r\nc: d"}}, "additional_headers: a header's value has"),
        ({"additional_headers": {"a": "☃"}}, "additional_headers: '☃' has characters"),
        ({"additional_headers": {"a": 1}}, "additional_headers: 1 of 'a' is not str"),
        ({"additional_headers": ["a"]}, "additional_headers: a mapping is wanted"),
        ({"additional_headers": 5}, "additional_headers: a mapping is wanted"),
        ({"additional_headers": {"Sec-WebSocket-Key": "x"}}, "'sec-websocket-key' belongs to the handshake"),
        ({"additional_headers": {"Origin": "x"}, "origin": "y"}, "origin: is in additional_headers already"),
        ({"user_agent_header": "a\nb"}, "user_agent_header: a header's value has"),
        ({"compression": "gzip"}, "compression: 'gzip' is neither"),
        ({"compression": []}, "compression: \\[\\] is neither"),
        ({"max_size": "much"}, "max_size: 'much' is not a size"),
        ({"max_queue": (1, 2, 3)}, "max_queue: .* is no pair"),
        ({"ping_interval": -1}, "ping_interval: -1 is too short"),
        ({"deflate_client_window_bits": 7}, "deflate_client_window_bits: 7 is not"),
    ],
)
def test_wrong_values_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        connect("ws://h/", **options)


@pytest.mark.parametrize("name", ["timeout", "ws_max_size", "per_message_deflate", "max_connections", "workers"])
def test_unknown_arguments(name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        connect("ws://h/", **{name: 1})


def test_ssl_and_ca_file():
    with pytest.raises(ConfigError, match="ca_file: means nothing beside ssl"):
        connect("wss://h/", ssl=ssl.create_default_context(), ca_file="x")
    connect("wss://h/", ssl=True, ca_file="x")


def test_a_wrong_uri_is_told_at_once():
    with pytest.raises(InvalidURI):
        connect("http://h/")
    with pytest.raises(InvalidURI, match="should begin"):
        connect("example.com")


async def test_limits_that_are_off(serve):
    server = await serve(echo)
    off = dict.fromkeys(("max_size", "max_queue", "close_timeout", "ping_interval", "ping_timeout"))
    async with connect(server.ws_url, open_timeout=None, deflate_client_window_bits=8, **off) as ws:
        await ws.recv()
        await ws.send("x" * 300_000)
        assert len(await ws.recv()) == 300_000


def test_loops_that_are_closed_are_not_kept():
    async def touch() -> None:
        context.LibraryContext(context.read_options({}), asyncio.get_running_loop())

    for _ in range(3):
        asyncio.run(touch())
    assert sum(loop.is_closed() for loop in context._loop_states) <= 1
