"""What an application has awaited has left: code that blocks the event loop afterwards does not hold it up.

Each application here reads the client's end of the connection itself, without letting the event loop run.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from support.ends import accept_key
from support.helpers import PATIENCE, TEXT, UPGRADE, Running, frame, within

from flowserve import connect as library_connect
from flowserve import serve as library_serve

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
pytestmark = pytest.mark.both_loops


class Blocking:
    """A client's end, read while the event loop stands still."""

    def __init__(self) -> None:
        self.sock = socket.socket()
        self.seen: list[bytes] = []

    async def open(self, address: Any, data: bytes) -> None:
        self.sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(self.sock, address)
        self.sock.sendall(data)

    def sees(self, words: bytes) -> None:
        """All that the server has written by now comes, with `words` at its end."""
        data = b""
        while not data.endswith(words) and select.select([self.sock], [], [], PATIENCE)[0]:
            piece = self.sock.recv(65536)
            if not piece:
                break
            data += piece
        self.seen.append(data)
        assert data.endswith(words), data


@pytest.fixture
def client() -> Iterator[Blocking]:
    client = Blocking()
    yield client
    client.sock.close()


Visit = Callable[..., Any]


@pytest.fixture
def visit(serve: Any, client: Blocking) -> Visit:
    """`await visit(app, data)`: serve `app`, send `data`, and wait until `app` has come to its end without an error."""

    async def run(app: Any, data: bytes) -> None:
        ended = asyncio.get_running_loop().create_future()

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
                ended.set_result(None)
            except BaseException as error:
                ended.set_exception(error)

        server: Running = await serve(watched)
        await client.open(server.address, data)
        await within(ended)

    return run


async def test_an_http_response_and_its_parts(visit: Visit, client: Blocking) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"one", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            client.sees(b"3\r\n" + part + b"\r\n")
        await send({"type": "http.response.body"})
        client.sees(b"0\r\n\r\n")

    await visit(app, GET)


async def test_a_stream_that_blocks_between_its_parts(visit: Visit, client: Blocking) -> None:
    async def parts() -> Any:
        yield "one"
        client.sees(b"\r\none\r\n")
        yield "two"
        client.sees(b"\r\ntwo\r\n")

    async def stream(request: Any) -> StreamingResponse:
        return StreamingResponse(parts())

    await visit(Starlette(routes=[Route("/", stream)]), GET)


async def test_a_background_task_that_blocks(visit: Visit, client: Blocking) -> None:
    async def respond(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello", background=BackgroundTask(client.sees, b"hello"))

    await visit(Starlette(routes=[Route("/", respond)]), GET)


async def test_a_websocket_message(visit: Visit, client: Blocking) -> None:
    async def talk(ws: Any) -> None:
        await ws.accept()
        client.sees(b"\r\n\r\n")
        await ws.send_text("working")
        client.sees(b"\x81\x07working")
        await ws.send_bytes(b"done")
        client.sees(b"\x82\x04done")
        await ws.close(1000)
        client.sees(b"\x88\x02\x03\xe8")

    await visit(Starlette(routes=[WebSocketRoute("/", talk)]), UPGRADE)


async def test_a_message_while_others_wait(visit: Visit, client: Blocking) -> None:
    """What is sent first leaves at once, and what is sent a moment later, when nothing that waits is asked for."""

    async def talk(ws: Any) -> None:
        await ws.accept()
        client.sees(b"\r\n\r\n")
        await ws.receive_text()
        await ws.send_text("working")
        client.sees(b"\x81\x07working")

    await visit(Starlette(routes=[WebSocketRoute("/", talk)]), UPGRADE + frame(TEXT, b"a") + frame(TEXT, b"b"))


async def test_a_denial_response(visit: Visit, client: Blocking) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})
        client.sees(b"\r\n\r\nno")

    await visit(app, UPGRADE)


async def test_pipelined_requests(serve: Any, client: Blocking) -> None:
    """The second one's application does not hold up the first one's response."""
    bodies = [b"first", b"second"]
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = bodies.pop(0)
        if not bodies:
            client.sees(b"\r\n\r\nfirst")
            ended.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    await client.open((await serve(app)).address, GET + GET)
    await within(ended.wait())
    await asyncio.to_thread(client.sees, b"\r\n\r\nsecond")


async def test_the_librarys_server(client: Blocking) -> None:
    served: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def handler(ws: Any) -> None:
        client.sees(b"\r\n\r\n")
        await ws.send("working")
        client.sees(b"\x81\x07working")
        served.set_result(None)

    async with library_serve(handler, "127.0.0.1", 0) as server:
        await client.open(server.sockets[0].getsockname(), UPGRADE)
        await within(served)
        client.sock.close()


async def test_the_librarys_client(client: Blocking) -> None:
    client.sock.close()
    near, client.sock = socket.socketpair()

    def answer() -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += client.sock.recv(65536)
        head = "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"
        lines = "\r\n".join((*head, f"Sec-WebSocket-Accept: {accept_key(request)}", "", ""))
        client.sock.sendall(lines.encode())

    answered = asyncio.ensure_future(asyncio.to_thread(answer))
    ws = await within(library_connect("ws://a/", sock=near, compression=None))
    await answered
    for size in (1, 2):
        await ws.send(b"x" * size)
        assert len(client.sock.recv(65536)) == 6 + size
    ws.abort()
