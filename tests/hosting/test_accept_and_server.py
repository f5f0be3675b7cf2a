"""The server's opening handshake and accept()'s: the same bytes get the same answer, to the byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from support.helpers import CLOSE, PING, TEXT, UPGRADE, Client, frame, until, within

from flowserve import FlowserveError, HandshakeError, accept, serve

END = frame(TEXT, b"hi") + frame(CLOSE, b"\x03\xe8")
"""Frames that end a WebSocket: behind these the server closes."""
GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
"""One that asks for no WebSocket; a server keeps others alive, accept() can't."""


def request(*lines: str, without: str = "") -> bytes:
    """The usual request with `lines`, and without the field of that name."""
    kept = [line for line in UPGRADE[:-4].decode().split("\r\n") if not without or not line.startswith(without + ":")]
    return "\r\n".join([*kept, *lines, "", ""]).encode("latin-1")


OPENED = {
    "a plain one": UPGRADE,
    "two tokens in Connection": request("Connection: close, Upgrade", without="Connection"),
    "two protocols in Upgrade": request("Upgrade: h2c, websocket", without="Upgrade"),
    "a later minor version": UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "an empty body": request("Content-Length: 0"),
    "Expect without a body": request("Expect: 100-continue"),
    "compression": request("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
    "an unknown extension": request("Sec-WebSocket-Extensions: foo"),
    "subprotocols": request("Sec-WebSocket-Protocol: a, b"),
    "absolute form": UPGRADE.replace(b"GET / ", b"GET http://other/x "),
    "an empty line before": b"\r\n\r\n" + UPGRADE,
    "a ping behind it": UPGRADE + frame(PING, b"x"),
    "a long message behind it": UPGRADE + frame(TEXT, b"x" * 200_000),
}
"""Handshakes that open a WebSocket."""

REFUSED = {
    "no frame behind it": UPGRADE + b"\xff\xff\xff\xff",
    "a request behind it": UPGRADE + GET,
    "another version": request("Sec-WebSocket-Version: 12", without="Sec-WebSocket-Version"),
    "no version": request(without="Sec-WebSocket-Version"),
    "two versions": request("Sec-WebSocket-Version: 13"),
    "no Connection": request(without="Connection"),
    "Connection: close": request("Connection: close", without="Connection"),
    "no Upgrade": request("Connection: close", without="Upgrade"),
    "another protocol": request("Connection: close", "Upgrade: h2c", without="Upgrade"),
    "a version of the protocol": request("Connection: close", "Upgrade: websocket/13", without="Upgrade"),
    "no key": request(without="Sec-WebSocket-Key"),
    "a short key": request("Sec-WebSocket-Key: c2hvcnQ=", without="Sec-WebSocket-Key"),
    "two keys": request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    "no Host": request(without="Host"),
    "a bad Host": request("Host: a b", without="Host"),
    "two Hosts": request("Host: b"),
    "POST": UPGRADE.replace(b"GET", b"POST"),
    "HEAD": UPGRADE.replace(b"GET", b"HEAD"),
    "CONNECT": UPGRADE.replace(b"GET", b"CONNECT"),
    "an unknown method": UPGRADE.replace(b"GET", b"FOO"),
    "HTTP/1.0": UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/2.0": UPGRADE.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "RTSP": UPGRADE.replace(b"HTTP/1.1", b"RTSP/1.0"),
    "a body": request("Content-Length: 5") + b"hello",
    "a body that does not come": request("Content-Length: 5"),
    "chunks": request("Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    "two framings": request("Transfer-Encoding: chunked", "Content-Length: 5"),
    "a body of a length that overflows": request("Content-Length: " + "9" * 30),
    "Expect with a body": request("Expect: 100-continue", "Content-Length: 5"),
    "broken extensions": request("Sec-WebSocket-Extensions: ;;"),
    "broken subprotocols": request("Sec-WebSocket-Protocol: a b"),
    "a fragment": UPGRADE.replace(b"GET / ", b"GET /#x "),
    "a CR before": b"\r" + UPGRADE,
    "an LF before": b"\n" + UPGRADE,
    "line feeds alone": UPGRADE.replace(b"\r\n", b"\n"),
    "a NUL": request("X: a\0b"),
    "a folded line": request("X: a\r\n b"),
    "a blank before the colon": request("X : a"),
    "a name in Latin-1": request("X-\xe9: a"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a PROXY header": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + UPGRADE,
    "a frame": frame(TEXT, b"hi"),
    "many fields": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200,
    "a large head": b"GET / HTTP/1.1\r\na: " + b"b" * 70_000,
    "a large target": b"GET /" + b"a" * 70_000,
    "GET": GET,
    "GET with a request behind it": GET + UPGRADE,
    "GET of HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "HEAD without an upgrade": GET.replace(b"GET", b"HEAD"),
    "HEAD with a Host that is none": b"HEAD / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n",
    "OPTIONS": GET.replace(b"GET /", b"OPTIONS *"),
    "POST without an upgrade": b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    "POST whose body does not come": GET.replace(b"GET", b"POST")[:-2] + b"Content-Length: 500\r\n\r\nhello",
}  # fmt: skip
"""What opens none, or ends at once."""

UNFINISHED = {"nothing": b"", "a part of the first line": UPGRADE[:10], "a part of the head": UPGRADE[:60]}


async def echo(ws: Any) -> None:
    async for message in ws:
        await ws.send(message)


def pieces(data: bytes) -> list[bytes]:
    """Cut in the first word, in the head's end, and behind that."""
    end = data.find(b"\r\n\r\n")
    cuts = [2, end + 1, end + 3, end + 4] if end > 2 else [1]
    return [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]


Ways = Callable[..., Awaitable[tuple[Any, Any]]]


@pytest.fixture
async def ways(logs: Any) -> AsyncIterator[Ways]:
    """`addresses = await ways(**options)`: those of serve() and of a listener that accept()s, with the same handler."""

    async def hold(sock: socket.socket, options: dict[str, Any]) -> None:
        try:
            async with accept(sock, **options) as ws:
                await echo(ws)
        except (FlowserveError, TimeoutError, asyncio.TimeoutError, ValueError):
            pass  # the client has its answer

    async def listen(listener: socket.socket, options: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            held.append(asyncio.ensure_future(hold(sock, options)))

    servers, listeners, held = [], [], []  # type: ignore[var-annotated]

    async def open_both(**options: Any) -> tuple[Any, Any]:
        server = await serve(echo, "127.0.0.1", 0, server_header=None, **options)
        servers.append(server)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        listeners.append((listener, asyncio.ensure_future(listen(listener, options))))
        return server.sockets[0].getsockname(), listener.getsockname()

    yield open_both
    for listener, listening in listeners:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        listener.close()
    await within(asyncio.gather(*held))
    for server in servers:
        server.close()
        await within(server.wait_closed())


async def exchange(address: Any, data: bytes, how: str) -> list[bytes]:
    """What comes until the end, without the date."""
    client = await Client.connect(address)
    try:
        if how == "pieces":
            for piece in pieces(data):
                with contextlib.suppress(ConnectionError):  # it may have its answer already
                    await client.raw(piece)
                for _ in range(3):
                    await asyncio.sleep(0)  # so that it is read by itself
        else:
            await client.raw(data)
        if how == "half-closed":
            client.half_close()
        came = await client.rest()
    finally:
        await client.aclose()
    return [line for line in came.split(b"\r\n") if not line.startswith(b"date: ")]


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["whole", "pieces", "half-closed"])
async def test_the_same_bytes_get_the_same_answer(ways, how):
    addresses = await ways()
    for name, data in (OPENED | REFUSED).items():
        if how == "pieces" and name == "GET with a request behind it":
            continue  # behind its "Connection: close" it must send none: a later one may cost it the answer
        sent = data + END if name in OPENED else data
        server, accepted = await asyncio.gather(*(exchange(address, sent, how) for address in addresses))
        assert server == accepted, name
        status = server[0].split(b" ")[1] if server[0] else b""
        if name in OPENED:
            assert status == b"101", name
            assert server[-1].endswith(frame(TEXT, b"hi", mask=None) + frame(CLOSE, b"\x03\xe8", mask=None)), name
        elif UPGRADE not in data[:-1]:
            assert status[:1] in (b"4", b"5"), name


@pytest.mark.both_loops
async def test_clients_that_leave_in_the_middle(ways):
    addresses = await ways()
    for name, data in UNFINISHED.items():
        server, accepted = await asyncio.gather(*(exchange(address, data, "half-closed") for address in addresses))
        assert server == accepted == [b""], name


@pytest.mark.both_loops
async def test_clients_that_are_too_slow(ways):
    addresses = await ways(open_timeout=0.05)
    for name, data in UNFINISHED.items():
        server, accepted = await asyncio.gather(*(exchange(address, data, "whole") for address in addresses))
        assert server == accepted, name
        assert server[0] == (b"HTTP/1.1 408 Request Timeout" if data else b"")


CLOSING = request("Connection: close, Upgrade", without="Connection")
"""A server that has denied it would serve further requests else; accept() is for one."""


def refuse(handshake, request):
    return handshake.respond(401, "who are you?")


def raise_refusal(handshake, request):
    raise HandshakeError(429, "later", [(b"retry-after", b"1")])


async def sleep(handshake, request):
    await asyncio.Event().wait()


@pytest.mark.both_loops
@pytest.mark.parametrize("sent", [CLOSING, CLOSING + END, GET])
async def test_callbacks_that_are_too_slow(ways, logs, sent):
    addresses = await ways(process_request=sleep, open_timeout=0.05)
    server, accepted = await asyncio.gather(*(exchange(address, sent, "whole") for address in addresses))
    assert server == accepted
    assert server[0] == b"HTTP/1.1 504 Gateway Timeout"
    await until(lambda: any("open_timeout" in error for error in logs.errors))


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("options", "sent", "status"),
    [
        ({"process_request": refuse}, CLOSING, b"401"),
        ({"process_request": refuse}, GET, b"401"),
        ({"process_request": raise_refusal}, CLOSING, b"429"),
        ({"origins": ["https://a"]}, CLOSING[:-2] + b"Origin: https://b\r\n\r\n", b"403"),
        ({"subprotocols": ["x"]}, CLOSING[:-2] + b"Sec-WebSocket-Protocol: y\r\n\r\n", b"400"),
        ({"subprotocols": ["x"]}, request("Sec-WebSocket-Protocol: y, x") + END, b"101"),
        ({"process_response": lambda handshake, request, response: refuse(handshake, request)}, CLOSING, b"401"),
    ],
)
async def test_what_the_callbacks_answer(ways, logs, options, sent, status):
    addresses = await ways(**options)
    for how in ("whole", "pieces"):
        server, accepted = await asyncio.gather(*(exchange(address, sent, how) for address in addresses))
        assert server == accepted
        assert server[0].split(b" ")[1] == status


def fail(handshake, request):
    raise ValueError("a mistake of the program's")


async def test_callbacks_that_raise(ways, logs):
    addresses = await ways(process_request=fail)
    server, accepted = await asyncio.gather(*(exchange(address, UPGRADE, "whole") for address in addresses))
    assert server == accepted
    assert server[0] == b"HTTP/1.1 500 Internal Server Error"
    await until(lambda: bool(logs.errors))
