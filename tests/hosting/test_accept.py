"""accept(): the server's opening handshake over streams of somebody else, and what is wrong with clients'."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl

import pytest
import trustme
from support.helpers import ACCEPT, PING, PONG, TEXT, UPGRADE, Client, Frame, Pump, frame, until, within

from flowserve.errors import ConfigError, HandshakeError
from flowserve.hosting.accept import accept
from flowserve.http.headers import Headers
from flowserve.library.messages import Request

HEADERS = [
    ("Host", "example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "keep-alive, Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
]
GET = b"GET /path HTTP/1.1\r\nHost: a\r\n\r\n"


def request(*lines: str, without: str = "") -> bytes:
    """The usual request with `lines`, and without the field of that name."""
    kept = [line for line in UPGRADE[:-4].decode().split("\r\n") if not without or not line.startswith(without + ":")]
    return "\r\n".join([*kept, *lines, "", ""]).encode()


@pytest.fixture(scope="module")
def certified() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context, and a client's that trusts it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return context, trusting


@pytest.fixture
async def pair(logs):
    """`client, sock = await pair()`: a raw client, and the socket of the other end."""
    made = []

    async def connect() -> tuple[Client, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = await Client.connect(listener.getsockname())
            sock, _ = listener.accept()
        made.append((client, sock))
        return client, sock

    yield connect
    for client, _ in made:
        await client.aclose()
    await until(lambda: all(sock.fileno() == -1 for _, sock in made))
    assert not logs.errors


@pytest.fixture
async def streams(pair):
    """`client, reader, writer = await streams()`: the other end is asyncio's streams."""

    async def connect() -> tuple[Client, asyncio.StreamReader, asyncio.StreamWriter]:
        client, sock = await pair()
        return client, *await asyncio.open_connection(sock=sock)

    return connect


async def echoed(client: Client, ws, text: str = "hi") -> None:
    await client.send_text(text)
    assert await within(ws.receive()) == text
    await ws.send(text)
    assert await client.message() == text


async def end(client: Client, ws) -> None:
    closing = asyncio.ensure_future(ws.close())
    assert await client.close_frame() == (1000, "")
    await client.send_close(1000)
    await within(closing)


# Sockets


@pytest.mark.both_loops
async def test_a_socket(pair):
    client, sock = await pair()
    await client.raw(UPGRADE.replace(b"GET / ", b"GET /chat?x=1 ") + frame(TEXT, b"early"))
    ws = await within(accept(sock))
    head = await client.head()
    assert head.status == 101
    assert head.header("sec-websocket-accept") == ACCEPT
    assert head.header("date") is not None
    assert await within(ws.receive()) == "early"
    assert ws.request.path == "/chat?x=1"
    assert ws.request.headers["sec-websocket-version"] == "13"
    assert ws.response.headers["Sec-WebSocket-Accept"] == ACCEPT
    assert ws.subprotocol is None
    assert ws.remote_address == client.address
    assert ws.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await echoed(client, ws)
    await end(client, ws)


@pytest.mark.both_loops
async def test_in_pieces(pair):
    client, sock = await pair()
    accepting = asyncio.ensure_future(accept(sock).__aenter__())
    await client.dribble(UPGRADE + frame(TEXT, b"early"))
    ws = await within(accepting)
    assert (await client.head()).status == 101
    assert await within(ws.receive()) == "early"


async def test_a_context(pair):
    client, sock = await pair()
    await client.raw(UPGRADE)
    async with accept(sock) as ws:
        assert (await client.head()).status == 101
        await client.send_close(1001)
        await within(ws.wait_closed())
    assert ws.close_code == 1001


@pytest.mark.both_loops
async def test_tls(certified):
    context, trusting = certified
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connecting = asyncio.ensure_future(
            Client.connect(listener.getsockname(), ssl=trusting, server_hostname="localhost")
        )
        sock, _ = await asyncio.to_thread(listener.accept)
    accepting = asyncio.ensure_future(accept(sock, ssl=context).__aenter__())
    client = await connecting
    await client.raw(UPGRADE + frame(TEXT, b"early"))
    ws = await within(accepting)
    assert (await client.head()).status == 101
    assert await within(ws.receive()) == "early"
    await end(client, ws)
    await client.aclose()


async def test_plain_where_tls_is_meant(pair, certified):
    context, _ = certified
    client, sock = await pair()
    await client.raw(UPGRADE)
    with pytest.raises(OSError):
        await within(accept(sock, ssl=context))
    await client.rest()


# Streams


@pytest.mark.both_loops
async def test_streams(streams):
    client, reader, writer = await streams()
    await client.raw(UPGRADE + frame(TEXT, b"early"))
    await until(lambda: bool(reader._buffer))
    ws = await within(accept((reader, writer)))
    assert (await client.head()).status == 101
    assert await within(ws.receive()) == "early"
    await echoed(client, ws)
    await end(client, ws)
    await within(writer.wait_closed())


@pytest.mark.both_loops
async def test_streams_from_which_nothing_has_come(streams):
    client, reader, writer = await streams()
    accepting = asyncio.ensure_future(accept((reader, writer)).__aenter__())
    await client.raw(UPGRADE)
    ws = await within(accepting)
    assert (await client.head()).status == 101
    await echoed(client, ws)
    await end(client, ws)


@pytest.mark.both_loops
async def test_streams_over_tls(certified):
    context, trusting = certified
    accepted: asyncio.Queue = asyncio.Queue()

    async def on_client(reader, writer) -> None:
        accepted.put_nowait(await accept((reader, writer)))

    async with await asyncio.start_server(on_client, "127.0.0.1", 0, ssl=context) as server:
        client = await Client.connect(server.sockets[0].getsockname(), ssl=trusting, server_hostname="localhost")
        await client.raw(UPGRADE + frame(TEXT, b"early"))
        ws = await within(accepted.get())
        assert (await client.head()).status == 101
        assert await within(ws.receive()) == "early"
        await echoed(client, ws)
        await end(client, ws)
        await client.aclose()


async def test_streams_that_nobody_keeps(streams):
    """asyncio's writer closes its transport when it is collected."""
    client, *pair = await streams()
    await client.raw(UPGRADE)
    ws = await within(accept(tuple(pair)))
    del pair
    gc.collect()
    assert (await client.head()).status == 101
    await echoed(client, ws)
    await end(client, ws)


@pytest.mark.both_loops
async def test_streams_with_more_than_the_reader_takes(pair):
    """The reader has paused the transport, as nobody read what it has."""
    client, sock = await pair()
    reader, writer = await asyncio.open_connection(sock=sock, limit=100)
    payload = bytes(range(256)) * 1000
    sending = asyncio.ensure_future(client.raw(UPGRADE + frame(2, payload) * 3))
    await until(lambda: not writer.transport.is_reading())
    ws = await within(accept((reader, writer)))
    assert (await client.head()).status == 101
    for _ in range(3):
        assert await within(ws.receive()) == payload
    await sending
    await echoed(client, ws)
    await end(client, ws)


@pytest.mark.both_loops
async def test_a_head_that_somebody_else_has_read(streams):
    client, reader, writer = await streams()
    await client.raw(UPGRADE + frame(TEXT, b"early"))
    await within(reader.readuntil(b"\r\n\r\n"))
    ws = await within(accept((reader, writer), request_headers=HEADERS))
    assert (await client.head()).header("sec-websocket-accept") == ACCEPT
    assert await within(ws.receive()) == "early"
    assert ws.request == Request("/", ws.request.headers)
    assert ws.request.headers["host"] == "example.com"
    await echoed(client, ws)
    await end(client, ws)


@pytest.mark.both_loops
async def test_a_request_and_a_socket(pair):
    client, sock = await pair()
    given = Request("/chat", Headers((name.encode(), value.encode()) for name, value in HEADERS))
    ws = await within(accept(sock, request=given))
    assert (await client.head()).status == 101
    assert ws.request is given
    await echoed(client, ws)
    await client.send_frame(PING, b"?")
    assert await client.frame() == Frame(PONG, b"?")


async def test_a_request_that_asks_for_no_websocket(pair):
    client, sock = await pair()
    with pytest.raises(HandshakeError, match="Upgrade"):
        await within(accept(sock, request_headers=[(b"Host", b"a")]))
    assert (await client.response()).status == 400


async def test_streams_that_are_over(streams):
    client, reader, writer = await streams()
    client.leave()
    await until(lambda: reader.at_eof() or reader.exception() is not None)
    with pytest.raises((HandshakeError, ConnectionError)):
        await within(accept((reader, writer)))


async def test_streams_whose_client_has_said_all(streams):
    """A whole handshake, and the end of the client's side: the WebSocket opens, and is over."""
    client, reader, writer = await streams()
    await client.raw(UPGRADE + frame(TEXT, b"last"))
    client.half_close()
    await until(lambda: reader._eof)
    ws = await within(accept((reader, writer)))
    assert (await client.head()).status == 101
    assert await within(ws.receive()) == "last"
    await within(ws.wait_closed())
    assert ws.close_code == 1006


# What the server wants


async def test_subprotocols(pair):
    client, sock = await pair()
    await client.raw(request("Sec-WebSocket-Protocol: a, b"))
    ws = await within(accept(sock, subprotocols=["b", "a"], headers=[("X-One", "1")]))
    assert ws.subprotocol == "b"
    head = await client.head()
    assert (head.header("sec-websocket-protocol"), head.header("x-one")) == ("b", "1")
    client, sock = await pair()
    await client.raw(request("Sec-WebSocket-Protocol: c"))
    with pytest.raises(HandshakeError) as caught:
        await within(accept(sock, subprotocols=["b", "a"]))
    assert caught.value.status == (await client.response()).status == 400


async def test_compression(pair):
    offer = request("Sec-WebSocket-Extensions: permessage-deflate")
    for options, agreed in (({}, True), ({"compression": None}, False)):
        client, sock = await pair()
        await client.raw(offer)
        ws = await within(accept(sock, deflate_threshold=0, **options))
        answer = (await client.head()).header("sec-websocket-extensions")
        assert (answer is not None) == agreed
        await ws.send("hello hello hello")
        assert (await client.frame()).rsv == (4 if agreed else 0)


async def test_options(pair):
    client, sock = await pair()
    await client.raw(UPGRADE + frame(TEXT, b"x" * 11))
    await within(accept(sock, max_size=10))
    await client.head()
    assert (await client.close_frame())[0] == 1009


async def test_process_request_refuses(pair):
    def process_request(handshake, request):
        assert handshake.remote_address == client.address
        return handshake.respond(403, "not you") if request.path == "/" else None

    client, sock = await pair()
    await client.raw(UPGRADE)
    with pytest.raises(HandshakeError) as caught:
        await within(accept(sock, process_request=process_request))
    assert (caught.value.status, caught.value.body) == (403, b"not you")
    response = await client.response()
    assert (response.status, response.body) == (403, b"not you")
    assert response.header("connection") == "close"
    await client.closed()
    client, sock = await pair()
    await client.raw(GET)
    with pytest.raises(HandshakeError):
        await within(accept(sock, process_request=process_request))
    assert (await client.response()).status == 426


async def test_process_request_fails(pair):
    async def process_request(handshake, request):
        raise LookupError("of my own")

    client, sock = await pair()
    await client.raw(UPGRADE)
    with pytest.raises(LookupError, match="of my own"):
        await within(accept(sock, process_request=process_request))
    assert (await client.response()).status == 500


async def test_origins(pair):
    client, sock = await pair()
    await client.raw(request("Origin: https://evil.example"))
    with pytest.raises(HandshakeError):
        await within(accept(sock, origins=["https://good.example"]))
    assert (await client.response()).status == 403


async def test_what_makes_no_sense(streams):
    _, reader, writer = await streams()
    with pytest.raises(ConfigError, match="ssl"):
        accept((reader, writer), ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    with pytest.raises(ConfigError, match="request_headers"):
        accept((reader, writer), request=Request("/", Headers([])), request_headers=[])
    with pytest.raises(TypeError, match="StreamWriter"):
        accept(writer)
    with pytest.raises(TypeError, match="max_sise"):
        accept((reader, writer), max_sise=5)
    with pytest.raises(ConfigError, match="ping_interval"):
        accept((reader, writer), ping_interval="often")
    writer.close()


# What is wrong with a client's request


@pytest.mark.parametrize(
    ("sent", "status", "fields"),
    [
        (request("Sec-WebSocket-Version: 12", without="Sec-WebSocket-Version"), 426, {"sec-websocket-version": "13"}),
        (request(without="Sec-WebSocket-Version"), 426, {"sec-websocket-version": "13", "upgrade": "websocket"}),
        (request(without="Connection"), 400, {}),
        (request("Connection: close", without="Connection"), 400, {}),
        (request(without="Upgrade"), 426, {"upgrade": "websocket"}),
        (request("Upgrade: h2c", without="Upgrade"), 426, {"upgrade": "websocket"}),
        (request(without="Sec-WebSocket-Key"), 400, {}),
        (request("Sec-WebSocket-Key: c2hvcnQ=", without="Sec-WebSocket-Key"), 400, {}),
        (request(without="Host"), 400, {}),
        (UPGRADE.replace(b"GET", b"POST"), 405, {"allow": "GET"}),
        (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"), 400, {}),
        (request("Content-Length: 5") + b"hello", 400, {}),
        (GET, 426, {"upgrade": "websocket", "sec-websocket-version": "13"}),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 405, {"allow": "GET"}),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 426, {}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, {}),
        (frame(TEXT, b"hi"), 400, {}),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200, 431, {}),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 70_000, 431, {}),
        (b"GET /" + b"a" * 70_000, 414, {}),
    ],
)
async def test_wrong_requests(pair, sent, status, fields):
    client, sock = await pair()
    await client.raw(sent)
    with pytest.raises(HandshakeError) as caught:
        await within(accept(sock))
    assert caught.value.status == status
    response = await client.response("HEAD" if sent.startswith(b"HEAD") else "GET")
    assert response.status == status
    for name, value in fields.items():
        assert response.header(name) == value
    assert response.header("connection") == "close"
    await client.closed()


async def test_a_head_without_an_end_takes_no_memory(pair):
    client, sock = await pair()
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n")
    pump = Pump(client.pump(b"x-padding: " + b"p" * 65536 + b"\r\n", 1000))
    with pytest.raises(HandshakeError, match="431"):
        await within(accept(sock))
    assert pump.count < 100
    await pump.cancel()


async def test_a_silent_client_holds_nobody_up(pair):
    silent, sock = await pair()
    waiting = asyncio.ensure_future(accept(sock, open_timeout=0.1).__aenter__())
    client, other = await pair()
    await client.raw(UPGRADE)
    ws = await within(accept(other))
    assert (await client.head()).status == 101
    await echoed(client, ws)
    with pytest.raises(TimeoutError, match="request"):
        await waiting
    await silent.closed()


async def test_a_client_silent_in_tls(pair, certified):
    context, _ = certified
    client, sock = await pair()
    with pytest.raises(TimeoutError, match="TLS"):
        await accept(sock, ssl=context, open_timeout=0.05)
    await client.rest()


async def test_a_client_that_leaves(pair):
    for part in (b"", UPGRADE[:30]):
        client, sock = await pair()
        await client.raw(part)
        client.half_close()
        with pytest.raises(HandshakeError, match="left") as caught:
            await within(accept(sock))
        assert caught.value.status == 0
        await client.closed()


async def test_a_client_that_leaves_while_it_is_decided(pair):
    async def process_request(handshake, request):
        client.reset()
        await asyncio.sleep(0)

    client, sock = await pair()
    await client.raw(UPGRADE)
    with contextlib.suppress(HandshakeError):  # where the event loop tells though nothing is read
        ws = await within(accept(sock, process_request=process_request))
        await within(ws.wait_closed())


async def test_cancelled(pair):
    deciding = asyncio.Event()

    async def process_request(handshake, request):
        deciding.set()
        await asyncio.Event().wait()

    client, sock = await pair()
    await client.raw(UPGRADE)
    accepting = asyncio.ensure_future(accept(sock, process_request=process_request).__aenter__())
    await within(deciding.wait())
    accepting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await accepting
    await client.closed()


async def test_nothing_is_left_behind(pair):
    """A hundred refused clients, and no object of theirs."""
    for _ in range(100):
        client, sock = await pair()
        await client.raw(GET)
        with pytest.raises(HandshakeError):
            await within(accept(sock))
        await client.aclose()
        await until(lambda: sock.fileno() == -1)  # noqa: B023  (in this round)
    gc.collect()
    left = [each for each in gc.get_objects() if type(each).__name__ == "_HandshakeProtocol"]
    assert len(left) < 3
