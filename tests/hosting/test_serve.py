"""serve() as its users have it: a handler, and the ASGI server beneath that nobody sees."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import sys
import uuid

import pytest
import trustme
from support.helpers import ACCEPT, BINARY, CONTINUATION, PING, PONG, TEXT, UPGRADE, Client, Frame, frame, until, within

from flowserve.errors import ConfigError, ConnectionClosedError, HandshakeError
from flowserve.hosting.events import Disconnect, NewClient, NewMessage
from flowserve.hosting.serve import WebSocketServer, serve, start_server, unix_serve
from flowserve.http.headers import Headers
from flowserve.library.messages import Response

posix = pytest.mark.skipif(sys.platform == "win32", reason="UNIX sockets")


async def echo(ws):
    async for message in ws:
        await ws.send(message)


@pytest.fixture
async def start(logs, request):
    """`server = await start(handler, **options)`: served on a free port until the end of the test."""
    servers = []

    async def begin(handler=echo, host="127.0.0.1", port=0, **options) -> WebSocketServer:
        server = await within(serve(handler, host, port, **{"close_timeout": 2.0, **options}))
        servers.append(server)
        return server

    yield begin
    for server in servers:
        server.close()
        await within(server.wait_closed())
    assert bool(logs.errors) == bool(request.node.get_closest_marker("app_fails")), logs.errors


@pytest.fixture
async def call():
    """`client = await call(server)`: a raw connection, dropped at the end of the test."""
    clients = []

    async def connect(server, **options) -> Client:
        sock = server.sockets[0]
        clients.append(await Client.connect(sock.getsockname(), family=sock.family, **options))
        return clients[-1]

    yield connect
    for client in clients:
        await client.aclose()


@pytest.fixture
async def opened(call):
    """`client = await opened(server)`: with the opening handshake done."""

    async def connect(server, target="/", *headers, **options) -> Client:
        client = await call(server)
        await client.upgrade(target, *headers, **options)
        return client

    return connect


class Held:
    """A handler that the test plays."""

    def __init__(self) -> None:
        self.opened: asyncio.Queue = asyncio.Queue()
        self.release = asyncio.Event()
        self.ended = 0

    async def __call__(self, ws) -> None:
        self.opened.put_nowait(ws)
        try:
            await self.release.wait()
        finally:
            self.ended += 1

    async def next(self):
        return await within(self.opened.get())


# Serving


@pytest.mark.both_loops
async def test_it_serves(call):
    async with serve(echo, "127.0.0.1", 0) as server:
        assert server.is_serving()
        client = await call(server)
        await client.upgrade(follow=frame(TEXT, b"early"))
        assert await client.message() == "early"
        await client.send_frame(BINARY, b"\0\1")
        assert await client.message() == b"\0\1"
        assert len(server.connections) == 1
        await client.send_close(4001, "bye")
        assert await client.close_frame() == (4001, "bye")
    assert not server.is_serving()
    assert server.sockets == ()


@pytest.mark.both_loops
async def test_several_in_one_loop(start, opened):
    async def other(ws):
        await ws.send("other")

    first, second = await start(), await start(other)
    client = await opened(second)
    assert await client.message() == "other"
    assert await client.close_frame() == (1000, "")
    client = await opened(first)
    await client.send_text("first")
    assert await client.message() == "first"


async def test_what_a_websocket_says_of_itself(start, opened):
    held = Held()
    server = await start(held)
    client = await opened(server, "/chat/%7Eme?room=1&x=", "X-One: 1", "X-One: 2")
    ws = await held.next()
    assert ws.request.path == "/chat/%7Eme?room=1&x="
    assert ws.request.headers.get_all("x-one") == ["1", "2"]
    assert ws.response.status_code == 101
    assert ws.response.headers["Sec-WebSocket-Accept"] == ACCEPT
    assert ws.response.headers["Server"] == "flowserve"
    assert ws.subprotocol is None
    assert isinstance(ws.id, uuid.UUID)
    assert ws.remote_address == client.address
    assert ws.local_address == server.sockets[0].getsockname()
    assert server.connections == {ws}
    held.release.set()


async def test_what_cannot_be_served():
    with pytest.raises(TypeError, match="max_sise"):
        serve(echo, "127.0.0.1", 0, max_sise=5)
    with pytest.raises(TypeError, match="ws_max_size"):
        serve(echo, "127.0.0.1", 0, ws_max_size=5)
    with pytest.raises(TypeError, match="workers"):
        serve(echo, "127.0.0.1", 0, workers=5)
    with pytest.raises(ConfigError, match=r"^max_size"):
        serve(echo, "127.0.0.1", 0, max_size="five")
    with pytest.raises(ConfigError, match=r"^open_timeout"):
        serve(echo, "127.0.0.1", 0, open_timeout=-1)
    with pytest.raises(ConfigError, match=r"^port"):
        serve(echo, "127.0.0.1", 65536)
    with pytest.raises(ConfigError, match="where to listen"):
        serve(echo)
    with pytest.raises(ConfigError, match="where to listen"):
        unix_serve(echo, "/tmp/sock", host="127.0.0.1")
    with pytest.raises(ConfigError, match="subprotocols"):
        serve(echo, "127.0.0.1", 0, subprotocols="chat")


async def test_the_address_in_use(start):
    server = await start()
    with pytest.raises(ConfigError, match="in use"):
        await serve(echo, "127.0.0.1", server.sockets[0].getsockname()[1])


@posix
async def test_a_unix_socket(tmp_path, call):
    async with unix_serve(echo, str(tmp_path / "sock")) as server:
        client = await call(server)
        await client.upgrade()
        await client.send_text("hi")
        assert await client.message() == "hi"
        client.leave()
    assert not (tmp_path / "sock").exists()


async def test_a_bound_socket(call):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    async with serve(echo, sock=sock) as server:
        assert server.sockets == (sock,)
        client = await call(server)
        await client.upgrade()
        client.leave()


async def test_every_interface(call):
    async with serve(echo, None, 0) as server:
        ports = {sock.getsockname()[1] for sock in server.sockets}
        assert len(ports) == 1
        client = await Client.connect(("127.0.0.1", ports.pop()))
        await client.upgrade()
        await client.aclose()


@pytest.mark.both_loops
async def test_tls(call):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serve(echo, "127.0.0.1", 0, ssl=context) as server:
        client = await call(server, ssl=trusting, server_hostname="localhost")
        await client.upgrade(follow=frame(TEXT, b"early"))
        assert await client.message() == "early"
        client.leave()


# The handler


async def test_a_handler_that_returns(start, opened):
    async def handler(ws):
        await ws.send("hi")

    client = await opened(await start(handler))
    assert await client.message() == "hi"
    assert await client.close_frame() == (1000, "")


@pytest.mark.app_fails
async def test_a_handler_that_fails(start, opened, logs):
    async def handler(ws):
        raise RuntimeError("of my own")

    client = await opened(await start(handler))
    assert await client.close_frame() == (1011, "")
    (record,) = [each for each in logs.records if each.levelname == "ERROR"]
    assert "of my own" in str(record.exc_info[1])


async def test_a_handler_whose_client_leaves(start, opened):
    ended = asyncio.Event()

    async def handler(ws):
        try:
            await ws.receive()
        except ConnectionClosedError:
            ended.set()
            raise

    client = await opened(await start(handler))
    client.leave()
    await within(ended.wait())  # and nothing is logged, as the fixture sees


async def test_a_handler_that_closes(start, opened, logs):
    seen = []

    async def handler(ws):
        await ws.send("last")
        await ws.close(4001, "bye")
        seen.append((ws.close_code, ws.close_reason))

    client = await opened(await start(handler, access_log=True))
    assert await client.message() == "last"
    assert await client.close_frame() == (4001, "bye")
    await client.send_close(4001, "bye")
    await client.closed()
    await until(lambda: len(logs.lines("flowserve.access")) == 2)
    assert seen == [(4001, "bye")]
    assert "4001" in logs.lines("flowserve.access")[1]


async def test_pings_and_fragments(start, opened):
    async def handler(ws):
        pong = asyncio.ensure_future(ws.ping(b"?"))
        await ws.send(["a", "b"])
        assert [part async for part in ws.receive_fragments()] == ["one", "two"]
        assert await pong >= 0

    client = await opened(await start(handler))
    assert {await client.frame() for _ in range(4)} == {
        Frame(PING, b"?"),
        Frame(TEXT, b"a", fin=False),
        Frame(CONTINUATION, b"b", fin=False),
        Frame(CONTINUATION, b""),
    }
    await client.send_frame(TEXT, b"one", fin=False)
    await client.send_frame(PING, b"!")
    assert await client.frame() == Frame(PONG, b"!")
    await client.send_frame(CONTINUATION, b"two")
    await client.send_frame(PONG, b"?")
    assert await client.close_frame() == (1000, "")


async def test_options_of_the_websocket(start, opened):
    server = await start(max_size=10, ping_interval=0.05, compression=None)
    client = await opened(server, "/", "Sec-WebSocket-Extensions: permessage-deflate")
    assert (await client.frame()).opcode == PING
    await client.send_frame(TEXT, b"x" * 11)
    while (got := await client.frame()).opcode == PING:
        pass
    assert got.payload[:2] == (1009).to_bytes(2, "big")


# Requests


async def test_process_request(start, call, opened):
    seen = []

    def process_request(handshake, request):
        assert handshake.request is request
        seen.append((request.path, handshake.remote_address, handshake.local_address))
        return handshake.respond(401, "who are you?") if request.path == "/private" else None

    server = await start(process_request=process_request)
    client = await opened(server, "/public?1")
    await client.send_text("hi")
    assert await client.message() == "hi"
    other = await call(server)
    await other.raw(UPGRADE.replace(b"GET / ", b"GET /private "))
    response = await other.response()
    assert (response.status, response.body) == (401, b"who are you?")
    assert response.header("content-type") == "text/plain; charset=utf-8"
    here = server.sockets[0].getsockname()
    assert seen == [("/public?1", client.address, here), ("/private", other.address, here)]


async def test_a_coroutine_as_process_request(start, call):
    async def process_request(handshake, request):
        await asyncio.sleep(0)
        return Response(302, "Found", Headers([(b"Location", b"/there"), (b"Set-Cookie", b"a=1")]), b"")

    client = await call(await start(process_request=process_request))
    await client.raw(UPGRADE)
    response = await client.response()
    assert (response.status, response.header("location"), response.body) == (302, "/there", b"")
    assert response.header("set-cookie") == "a=1"


async def test_process_request_raises_a_refusal(start, call):
    def process_request(handshake, request):
        raise HandshakeError(429, "Slow down", [(b"retry-after", b"5")])

    client = await call(await start(process_request=process_request))
    await client.raw(UPGRADE)
    response = await client.response()
    assert (response.status, response.header("retry-after"), response.body) == (429, "5", b"Slow down")


@pytest.mark.app_fails
@pytest.mark.parametrize("wrong", ["raises", "returns", "switches"])
async def test_process_request_goes_wrong(start, call, logs, wrong):
    def process_request(handshake, request):
        if wrong == "raises":
            raise LookupError
        return "no" if wrong == "returns" else handshake.respond(101, "")

    client = await call(await start(process_request=process_request))
    await client.raw(UPGRADE)
    assert (await client.response()).status == 500
    assert len(logs.errors) == 1


async def test_other_requests(start, call):
    def process_request(handshake, request):
        return handshake.respond(200, "OK\n") if request.path == "/healthz" else None

    server = await start(process_request=process_request)
    client = await call(server)
    health = await client.get("/healthz")
    assert (health.status, health.body) == (200, b"OK\n")
    await client.raw(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response("HEAD")).status == 200
    other = await client.get("/")
    assert other.status == 426
    assert (other.header("upgrade"), other.header("sec-websocket-version")) == ("websocket", "13")
    await client.raw(b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    post = await client.response()
    assert (post.status, post.header("allow")) == (405, "GET")
    await client.upgrade()  # the connection is kept


async def test_subprotocols(start, call, opened):
    held = Held()
    server = await start(held, subprotocols=["two", "one"])
    client = await call(server)
    head = await client.upgrade("/", "Sec-WebSocket-Protocol: one, zero, two")
    assert head.header("sec-websocket-protocol") == "two"
    assert (await held.next()).subprotocol == "two"
    for offer in (b"", b"Sec-WebSocket-Protocol: three\r\n"):
        client = await call(server)
        await client.raw(UPGRADE[:-2] + offer + b"\r\n")
        response = await client.response()
        assert response.status == 400
        assert b"two, one" in response.body
    held.release.set()


@pytest.mark.app_fails
async def test_select_subprotocol(start, call):
    def select(handshake, offered):
        return {"/last": offered[-1], "/none": None, "/wrong": "wrong"}[handshake.request.path]

    server = await start(select_subprotocol=select)
    for target, chosen in (("/last", "b"), ("/none", None)):
        client = await call(server)
        head = await client.upgrade(target, "Sec-WebSocket-Protocol: a, b")
        assert head.header("sec-websocket-protocol") == chosen
    client = await call(server)
    await client.raw(UPGRADE.replace(b"GET / ", b"GET /wrong ")[:-2] + b"Sec-WebSocket-Protocol: a, b\r\n\r\n")
    assert (await client.response()).status == 500


@pytest.mark.parametrize(
    ("given", "origins", "status"),
    [
        (["https://a.example"], ["https://a.example"], 101),
        (["https://a.example"], ["https://b.example", re.compile(r"https://.\.example")], 101),
        (["https://a.example.evil"], [re.compile(r"https://.\.example")], 403),
        (["https://b.example"], ["https://a.example", None], 403),
        ([], ["https://a.example", None], 101),
        ([], ["https://a.example"], 403),
        (["https://a.example", "https://a.example"], ["https://a.example"], 403),
        (["https://a.example"], [], 403),
        (["https://a.example"], None, 101),
    ],
)
async def test_origins(start, call, given, origins, status):
    client = await call(await start(origins=origins))
    lines = "".join(f"Origin: {each}\r\n" for each in given)
    await client.raw(UPGRADE[:-2] + lines.encode() + b"\r\n")
    assert (await client.head()).status == status


async def test_response_headers(start, call):
    client = await call(await start(server_header="mine", headers=[("X-One", "1")]))
    head = await client.upgrade()
    assert (head.header("server"), head.header("x-one")) == ("mine", "1")
    client = await call(await start(server_header=None))
    assert (await client.upgrade()).header("server") is None


async def test_a_silent_client_holds_nobody_up(start, call, opened):
    server = await start(open_timeout=0.2)
    silent, slow = await call(server), await call(server)
    await slow.raw(UPGRADE[:20])
    client = await opened(server)
    await client.send_text("hi")
    assert await client.message() == "hi"
    assert (await slow.response()).status == 408
    await silent.closed()


# The end


async def test_close(start, opened):
    ends, release = [], asyncio.Event()

    async def handler(ws):
        async for _ in ws:  # which ends in order
            pass
        await release.wait()
        ends.append(ws.close_code)

    server = await start(handler)
    client = await opened(server)
    server.close()
    server.close(code=4000)
    assert not server.is_serving()
    assert await client.close_frame() == (1001, "")
    await client.send_close(1001)
    closed = asyncio.ensure_future(server.wait_closed())
    await client.closed()
    assert not closed.done()
    release.set()
    await within(closed)
    assert ends == [1001]


async def test_close_with_a_code(start, opened):
    server = await start()
    client = await opened(server)
    with pytest.raises(ValueError, match="1006"):
        server.close(code=1006)
    server.close(code=1012, reason="é" * 100)
    assert await client.close_frame() == (1012, "é" * 61)


async def test_close_but_not_the_connections(start, opened):
    server = await start()
    client = await opened(server)
    sock = server.sockets[0]
    server.close(close_connections=False)
    closed = asyncio.ensure_future(server.wait_closed())
    await until(lambda: sock.fileno() == -1)
    await client.send_text("still here")
    assert await client.message() == "still here"
    assert not closed.done()
    await client.send_close(1000)
    await within(closed)


async def test_a_handshake_under_way_at_close(start, call):
    deciding, decide = asyncio.Event(), asyncio.Event()

    async def process_request(handshake, request):
        deciding.set()
        await decide.wait()

    server = await start(process_request=process_request)
    client = await call(server)
    await client.raw(UPGRADE)
    await within(deciding.wait())
    server.close()
    decide.set()
    assert (await client.response()).status == 503


async def test_serve_forever(call):
    server = serve(echo, "127.0.0.1", 0)
    forever = asyncio.ensure_future(server.serve_forever())
    await until(server.is_serving)
    client = await call(server)
    await client.upgrade()
    forever.cancel()
    assert await client.close_frame() == (1001, "")
    await client.send_close(1001)
    with pytest.raises(asyncio.CancelledError):
        await within(forever)
    await within(server.wait_closed())


async def test_a_handler_that_does_not_end(start, opened, logs):
    held = Held()
    server = await start(held, timeout_graceful_shutdown=0.1)
    client = await opened(server)
    await held.next()
    server.close()
    assert await client.close_frame() == (1001, "")
    await client.send_close(1001)
    await within(server.wait_closed())
    assert held.ended == 1


# Events


@pytest.mark.both_loops
async def test_start_server(call):
    async with start_server(0, "127.0.0.1") as events:
        client = await call(events.server)
        await client.upgrade(follow=frame(TEXT, b"one"))
        opened, message = await within(anext(events)), await within(anext(events))
        assert isinstance(opened, NewClient)
        assert message == NewMessage(opened.id, "one")
        client.leave()
    assert not events.server.is_serving()


async def test_start_server_awaited(call):
    events = await start_server(0, "127.0.0.1")
    client = await call(events.server)
    await client.upgrade()
    assert isinstance(await within(anext(events)), NewClient)
    events.server.close()
    assert await client.close_frame() == (1001, "")
    await client.send_close(1001)
    (end,) = await within(collect(events))
    assert (type(end), end.code) == (Disconnect, 1001)
    with pytest.raises(StopAsyncIteration):
        await within(anext(events))


async def collect(events) -> list:
    return [event async for event in events]


async def test_leaving_the_events_in_the_middle(call):
    """Nobody waits for events to be taken."""
    async with start_server(0, "127.0.0.1") as events:
        clients = [await call(events.server) for _ in range(5)]
        for client in clients:
            await client.upgrade(follow=frame(TEXT, b"hi") * 10)
        await within(anext(events))
        for client in clients:
            await client.send_close(1000)
    assert not events.server.is_serving()
