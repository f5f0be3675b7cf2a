"""Keyword arguments that programs for the websockets library give: each is understood, or refused in clear words."""

from __future__ import annotations

import array
import asyncio
import contextlib
import enum
import logging
import socket
import ssl
from functools import partial

import pytest
from support.ends import open_ends
from support.helpers import CLOSE, close_payload, frame, within
from support.scripted import Certificates, Scripted, silent

from flowserve import ConfigError, HandshakeError, Headers, Response, accept, broadcast, connect, serve, unix_serve
from flowserve.library.properties import session_of

URI = "ws://127.0.0.1:9/"
both_loops = pytest.mark.both_loops


async def echo(ws):
    async for message in ws:
        await ws.send(message)


@contextlib.asynccontextmanager
async def both(handler=echo, client=(), **options):
    """A server with `options`, and a client of it with those of `client`."""
    async with (
        serve(handler, "127.0.0.1", 0, **options) as server,
        connect(f"ws://127.0.0.1:{port_of(server)}", **dict(client)) as ws,
    ):
        yield server, ws


def port_of(server) -> int:
    return server.sockets[0].getsockname()[1]


# Sizes and times


@pytest.mark.parametrize("role", ["client", "server"])
async def test_pairs_for_sizes(role):
    options = {"max_size": (10, 5), "max_queue": (8, 2), "write_limit": (1000, 100)}
    async with both(**options) if role == "server" else both(client=options) as (server, ws):
        await ws.send("0123456789")
        assert await within(ws.receive()) == "0123456789"
        mine = ws if role == "client" else next(iter(server.connections))
        assert mine.transport.get_write_buffer_limits() == (100, 1000)
        assert session_of(mine).context.config.ws_max_size == 10
        assert session_of(mine).context.config.ws_max_queue == 8


@pytest.mark.parametrize(("name", "value"), [("max_size", (None, 5)), ("max_queue", (None, None)), ("max_size", None)])
async def test_no_limit(name, value):
    async with both(client={"max_size": None}, **{name: value}) as (_, ws):
        await ws.send("x" * (1 << 20))
        assert len(await within(ws.receive())) == 1 << 20


@pytest.mark.parametrize("nothing", [0, 0.0, None])
async def test_no_interval(nothing):
    options = {"ping_interval": nothing, "ping_timeout": nothing, "open_timeout": nothing}
    async with both(client=options, **options) as (_, ws):
        config = session_of(ws).context.config
        assert (config.ws_ping_interval, config.ws_ping_timeout) == (None, None)
        await ws.send("x")
        assert await within(ws.receive()) == "x"


async def test_a_close_timeout_of_zero_waits_for_nobody():
    async with open_ends("client", close_timeout=0) as (ws, peer):
        await within(ws.close(), 2)
        assert (await peer.close_frame())[0] == 1000
        assert ws.close_code == 1006


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("max_size", (1, 2, 3), "no pair"),
        ("max_queue", ("a", 2), "no pair"),
        ("write_limit", "a", "neither a number of bytes nor a pair"),
        ("write_limit", (10, 20), "neither a number"),
        ("write_limit", -1, "neither a number"),
        ("logger", "chat", "no logging.Logger"),
        ("ping_interval", -1, "too short"),
        ("open_timeout", -1, "too short"),
        ("compression", "gzip", "neither 'deflate' nor None"),
    ],
)
def test_what_makes_no_sense(option, value, what):
    for call in (lambda **options: connect(URI, **options), lambda **options: serve(echo, "", 0, **options)):
        with pytest.raises(ConfigError, match=f"^{option}: .*{what}"):
            call(**{option: value})


# What there is not


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("extensions", "permessage-deflate is the only one"),
        ("create_connection", "takes attributes"),
        ("create_protocol", "takes attributes"),
        ("klass", "takes attributes"),
        ("extra_headers", "additional_headers"),
        ("read_limit", "max_queue"),
        ("timeout", "open_timeout"),
        ("loop", "the running event loop"),
        ("all_errors", "the errors of all addresses"),
    ],
)
def test_what_there_is_not_is_said_with_what_there_is(name, hint):
    with socket.socket() as sock:
        for call in (partial(connect, URI), partial(serve, echo, "127.0.0.1", 0), partial(accept, sock)):
            with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}': .*{hint}"):
                call(**{name: [object()]})
            with pytest.raises(TypeError, match=r"unexpected keyword argument 'colour'$"):
                call(colour="red")


def test_no_extensions_are_fine():
    connect(URI, extensions=None)


# Ways to the server


@both_loops
async def test_further_arguments_for_the_event_loop():
    certificates = Certificates()
    async with serve(echo, "localhost", 0, ssl=certificates.server(), family=socket.AF_INET) as server:
        uri = f"wss://localhost:{port_of(server)}"
        timeouts = {"ssl_handshake_timeout": 5} | ({"ssl_shutdown_timeout": 2} if hasattr(asyncio, "timeout") else {})
        async with connect(uri, ssl=certificates.client(), family=socket.AF_INET, **timeouts) as ws:
            await ws.send("x")
            assert await within(ws.receive()) == "x"
            assert ws.remote_address[0] == "127.0.0.1"


async def test_a_tls_handshake_that_takes_too_long():
    async with Scripted(silent) as server:
        with pytest.raises((OSError, ssl.SSLError)):
            await within(connect(f"wss://127.0.0.1:{server.port}", ssl_handshake_timeout=0.05))


@both_loops
async def test_one_family():
    async with serve(echo, None, 0, family=socket.AF_INET) as server:
        assert [sock.family for sock in server.sockets] == [socket.AF_INET]
    with pytest.raises(ConfigError, match="family: none of the hosts"):
        await serve(echo, "127.0.0.1", 0, family=socket.AF_INET6)


@both_loops
async def test_reuse_port():
    async with serve(echo, "127.0.0.1", 0, reuse_port=True, reuse_address=True) as first:
        async with serve(echo, "127.0.0.1", port_of(first), reuse_port=True) as second:
            assert port_of(first) == port_of(second)
        with pytest.raises(ConfigError, match="in use"):
            await serve(echo, "127.0.0.1", port_of(first))


async def test_start_serving(tmp_path):
    path = str(tmp_path / "s")
    server = await unix_serve(echo, path, start_serving=False)
    assert (server.is_serving(), server.sockets) == (False, ())
    assert server.get_loop() is asyncio.get_running_loop()
    await server.start_serving()
    await server.start_serving()
    async with connect("ws://localhost/", uds=path) as ws:
        await ws.send("x")
        assert await within(ws.receive()) == "x"
    server.close()
    await within(server.wait_closed())


async def test_a_server_that_never_listened_is_closed_at_once():
    async with serve(echo, "127.0.0.1", 0, start_serving=False) as server:
        assert not server.is_serving()


# The logger


async def test_a_servers_logger(caplog):
    async def fail(ws):
        assert ws.logger.name == "chat"
        raise ZeroDivisionError

    own = logging.getLogger("chat")
    async with both(fail, logger=own) as (_, ws):
        await within(ws.wait_closed())
        assert ws.close_code == 1011
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert (record.name, record.exc_info[0]) == ("chat", ZeroDivisionError)


async def test_a_clients_logger(caplog):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        tries = connect(
            f"ws://127.0.0.1:{bound.getsockname()[1]}",
            logger=logging.getLogger("feed"),
            reconnect_delays=lambda: iter([0.0]),
        )
        with pytest.raises(OSError, match=r"."):
            await anext(aiter(tries))
    assert [record.name for record in caplog.records if "Could not connect" in record.getMessage()] == ["feed"]


# process_response


async def visit(server, path="/") -> tuple[int, dict, bytes]:
    try:
        async with connect(f"ws://127.0.0.1:{port_of(server)}{path}", subprotocols=["v1"]) as ws:
            return ws.response.status_code, dict(ws.response.headers), b""
    except HandshakeError as error:
        headers = {name.decode(): value.decode() for name, value in error.headers}
        return error.status, headers, error.body


async def test_process_response_adds_fields():
    seen = []

    async def add(handshake, request, response):
        seen.append((request.path, response.status_code, response.headers.get("Sec-WebSocket-Protocol")))
        response.headers["X-One"] = "1"
        response.headers["Set-Cookie"] = "a=b"

    def refuse(handshake, request):
        return handshake.respond(404, "not here\n") if request.path == "/no" else None

    async with serve(echo, "127.0.0.1", 0, process_response=add, process_request=refuse, subprotocols=["v1"]) as server:
        status, headers, _ = await visit(server)
        assert (status, headers["x-one"], headers["set-cookie"]) == (101, "1", "a=b")
        assert headers["sec-websocket-protocol"] == "v1"
        status, headers, body = await visit(server, "/no")
        assert (status, headers["x-one"], body) == (404, "1", b"not here\n")
    assert seen == [("/", 101, "v1"), ("/no", 404, None)]


async def test_process_response_answers_otherwise():
    def teapot(handshake, request, response):
        return Response(418, "", Headers({"X-One": "1"}), b"short and stout")

    async with serve(echo, "127.0.0.1", 0, process_response=teapot) as server:
        status, headers, body = await visit(server)
        assert (status, headers["x-one"], body) == (418, "1", b"short and stout")


@pytest.mark.parametrize("what", ["changed", "raised", "no response"])
async def test_a_process_response_that_goes_wrong(what, caplog):
    def wrong(handshake, request, response):
        if what == "raised":
            raise ZeroDivisionError
        if what == "no response":
            return "OK"
        del response.headers["Sec-WebSocket-Accept"]
        response.headers["Sec-WebSocket-Accept"] = "x"
        return None

    async with serve(echo, "127.0.0.1", 0, process_response=wrong) as server:
        assert (await visit(server))[0] == 500
    told = "".join(str(record.exc_info[1]) for record in caplog.records if record.exc_info)
    assert {"changed": "can't be changed", "raised": "", "no response": "a Response or None"}[what] in told


async def test_process_response_of_accept():
    def add(handshake, request, response):
        response.headers["X-One"] = "1"

    ours, theirs = socket.socketpair()
    waiting = asyncio.ensure_future(accept(ours, process_response=add)._open())
    theirs.setblocking(False)
    async with connect("ws://localhost/", sock=theirs) as ws:
        assert ws.response.headers["X-One"] == "1"
        (await within(waiting)).abort()


# Values that are more than they seem


class Code(enum.IntEnum):
    BYE = 4001


class Word(str):
    """As templates' strings are."""

    __slots__ = ()

    def __str__(self):
        return "never asked"

    def encode(self, *args):
        return b"never asked"


class Blob(bytes):
    def __bytes__(self):
        return b"never asked"


@pytest.mark.parametrize("role", ["client", "server"])
async def test_subclasses_everywhere(role):
    numbers = memoryview(array.array("H", [1, 2, 3]))
    async with open_ends(role) as (ws, peer):
        for message in (Word("für"), Blob(b"b"), numbers, numbers[::2], bytearray(b"a")):
            await ws.send(message)
        await ws.send(Word("x"), text=False)
        await ws.send(Blob(b"y"), text=True)
        await ws.send(numbers.cast("B").cast("B", (2, 3)), text=True)
        got = [await peer.message() for _ in range(8)]
        size = numbers.itemsize
        assert got[:2] == ["für", b"b"]
        assert (len(got[2]), len(got[3])) == (3 * size, 2 * size)
        assert got[4:7] == [b"a", b"x", "y"]
        assert len(got[7]) == 3 * size
        for fragments in ([Word("a"), Word("b")], [Blob(b"a"), numbers[::2], bytearray(b"c")]):
            await ws.send(fragments)
        pieces = [(await peer.frame()).payload for _ in range(7)]
        assert pieces == [b"a", b"b", b"", b"a", bytes(numbers[::2]), b"c", b""]
        ping = asyncio.ensure_future(ws.ping(Word("p")))
        assert (await peer.frame()).payload == b"p"
        await ws.pong(numbers)
        assert (await peer.frame()).payload == bytes(numbers)
        ping.cancel()
        closing = asyncio.ensure_future(ws.close(Code.BYE, Word("bye")))
        assert await peer.close_frame() == (4001, "bye")
        await peer.raw(frame(CLOSE, close_payload(4001, "bye"), mask=None if role == "client" else b"abcd"))
        peer.half_close()
        await within(closing)
        assert (ws.close_code, ws.close_reason) == (4001, "bye")


async def test_subclasses_in_the_handshake():
    def choose(handshake, offered):
        return Word("v1")

    def answer(handshake, request):
        if request.path == "/no":
            response = handshake.respond(Code.BYE - 3601, Word("no\n"))
            response.headers[Word("X-One")] = Word("1")
            response.body = Blob(b"no\n")
            return response
        return None

    options = {"select_subprotocol": choose, "process_request": answer, "server_header": Word("mine")}
    async with serve(echo, Word("127.0.0.1"), 0, **options) as server:
        uri = Word(f"ws://127.0.0.1:{port_of(server)}/")
        given = {"additional_headers": {Word("X-Two"): Word("2")}, "origin": Word("http://a"), "proxy": None}
        async with connect(uri, subprotocols=[Word("v1")], user_agent_header=Word("me"), **given) as ws:
            assert (ws.subprotocol, type(ws.subprotocol)) == ("v1", str)
            assert ws.request.headers["X-Two"] == "2"
            assert ws.response.headers["Server"] == "mine"
        with pytest.raises(HandshakeError) as caught:
            await connect(uri + "no", **given)
        assert (caught.value.status, caught.value.body) == (400, b"no\n")
        assert (b"x-one", b"1") in caught.value.headers
        server.close(code=Code.BYE, reason=Word("bye"))
        await within(server.wait_closed())


async def test_broadcast_of_subclasses():
    async with open_ends("server") as (ws, peer):
        for message in (Word("a"), Blob(b"b"), memoryview(b"1234")[::2]):
            broadcast([ws], message)
        assert [await peer.message() for _ in range(3)] == ["a", b"b", b"13"]
