"""Responses that go on for long: streams of events, their heads, and clients that leave them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route
from support.helpers import until, within

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
pytestmark = pytest.mark.both_loops


class PassOn(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


class Streams:
    """`stream` is an endpoint whose response says hello, and then has nothing more to say."""

    def __init__(self) -> None:
        self.running = 0

    async def events(self) -> Any:
        self.running += 1
        try:
            yield b"data: hello\n\n"
            await asyncio.Event().wait()
        finally:
            self.running -= 1

    async def stream(self, request: Any) -> StreamingResponse:
        return StreamingResponse(self.events(), media_type="text/event-stream")


def starlette(streams: Streams, middleware: int = 0) -> Any:
    return Starlette(routes=[Route("/", streams.stream)], middleware=[Middleware(PassOn)] * middleware)


def behind_middleware(streams: Streams) -> Any:
    return starlette(streams, 2)


def fastapi(streams: Streams) -> Any:
    app = FastAPI()

    @app.get("/")
    async def stream() -> StreamingResponse:
        return StreamingResponse(streams.events(), media_type="text/event-stream")

    return app


@pytest.mark.parametrize("how", ["leave", "reset", "half_close"])
@pytest.mark.parametrize("framework", [starlette, behind_middleware, fastapi])
async def test_a_client_that_leaves_a_stream_ends_it(serve, connect, framework, how):
    """Though it has nothing to send, so that no send() could raise."""
    streams = Streams()
    client = await connect(await serve(framework(streams)))
    await client.raw(GET)
    await client.head()
    await client.expect(b"d\r\ndata: hello\n\n\r\n")
    assert streams.running == 1
    await asyncio.sleep(0.15)  # not right behind its request
    getattr(client, how)()
    await until(lambda: streams.running == 0, 0.9)  # at once, not when nothing was sent for a while


async def test_an_application_that_never_asks_is_cancelled(serve, connect, logs):
    ended: list[BaseException | None] = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            ended.append(error)
            with pytest.raises(OSError):
                await send({"type": "http.response.body", "body": b"late"})
            raise

    server = await serve(app, timeout_disconnect=0.2)
    for how in ("leave", "reset", "half_close"):
        client = await connect(server)
        await client.raw(GET)
        await client.head()
        getattr(client, how)()
    await until(lambda: len(ended) == 3)
    assert sum("--timeout-disconnect" in line for line in logs.lines()) == 3


@pytest.mark.app_fails
@pytest.mark.parametrize("ending", ["raises", "returns"])
async def test_an_application_that_ends_in_its_response_is_not_said_to_go_on(serve, connect, logs, ending):
    """Its response is cut; nothing of it stays until --timeout-disconnect has passed."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        if scope["path"] == "/endless":
            await asyncio.Event().wait()
        elif ending == "raises":
            raise ValueError("in its response")

    server = await serve(app, timeout_disconnect=0.2)
    first, second = await connect(server), await connect(server)
    await first.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await first.rest()).endswith(b"4\r\nsome\r\n")
    await second.raw(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    await second.head()
    second.reset()
    await until(lambda: any("--timeout-disconnect" in line for line in logs.lines()))
    assert sum("--timeout-disconnect" in line for line in logs.lines()) == 1


async def test_an_application_that_has_not_responded_goes_on(serve, connect):
    """What it does may matter without its client."""
    go_on, done = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"for nobody"})
        done.set()

    client = await connect(await serve(app, timeout_disconnect=0.1))
    await client.raw(GET)
    client.reset()
    await asyncio.sleep(0.3)
    go_on.set()
    await within(done.wait())


async def test_what_stands_behind_a_response_is_done_without_the_client(serve, connect):
    """As a background task that deletes the file that was sent."""
    done = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body"})
        done.set()

    client = await connect(await serve(app))
    await client.raw(GET)
    await client.head()
    client.reset()
    await within(done.wait())


@pytest.mark.parametrize("middleware", [0, 2])
async def test_a_client_that_ends_its_direction_behind_the_request_gets_all(serve, connect, middleware):
    """As `printf ... | nc -N` does; RFC 9112 section 9.6."""

    async def pieces():
        for piece in "hello":
            await asyncio.sleep(0.1)
            yield piece

    async def stream(request):
        return StreamingResponse(pieces())

    app = Starlette(routes=[Route("/", stream)], middleware=[Middleware(PassOn)] * middleware)
    client = await connect(await serve(app))
    await client.raw(GET)
    client.half_close()
    assert (await client.response()).body == b"hello"
    await client.closed()


async def test_a_client_that_ends_its_direction_and_gets_nothing_has_left(serve, connect):
    streams = Streams()
    client = await connect(await serve(starlette(streams)))
    await client.raw(GET)
    client.half_close()
    await client.head()
    await until(lambda: streams.running == 1)
    await until(lambda: streams.running == 0)


@pytest.mark.parametrize("how", ["leave", "half_close"])
async def test_the_end_of_the_clients_direction_does_not_overtake_a_response(serve, connect, how):
    """Neither one that is sent without waiting, nor one for a request that comes together with the end."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    server = await serve(app)
    for _ in range(20):
        client = await connect(server)
        client.writer.write(GET)
        client.half_close()
        assert (await client.response()).body == b"hello"
        await client.closed()


# The head


async def test_a_head_does_not_wait_for_a_body_that_does_not_come(serve, connect):
    """EventSource's onopen and fetch() wait for it."""
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"late"})

    client = await connect(await serve(app))
    await client.raw(GET)
    head = await client.head()
    assert head.header("content-type") == "text/event-stream"
    assert head.header("transfer-encoding") == "chunked"
    go_on.set()
    await client.expect(b"4\r\nlate\r\n0\r\n\r\n")
    assert (await client.get()).body == b"late"


@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_a_body_that_follows_soon_gets_its_length(serve, connect, turns):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(turns):
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"soon"})

    client = await connect(await serve(app))
    response = await client.get()
    assert response.header("content-length") == "4"


@pytest.mark.app_fails
async def test_an_error_after_the_head_cuts_the_connection(serve, connect):
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await go_on.wait()
        raise RuntimeError

    client = await connect(await serve(app))
    await client.raw(GET)
    await client.head()
    go_on.set()
    await client.closed()


@pytest.mark.app_fails
async def test_an_error_before_the_head_has_left_is_a_500(serve, connect):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    client = await connect(await serve(app))
    await client.raw(GET)
    assert (await client.response()).status == 500


# The end, asked for again and again


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_receive_after_the_end_lets_others_run(serve, connect, open_ws, kind):
    """An application that does not look at what it gets must not stop all others."""
    turns = 0
    stop = asyncio.Event()

    async def app(scope, receive, send):
        nonlocal turns
        if scope["path"] == "/other":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})
            stop.set()
            return
        if kind == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})
        else:
            await receive()
            await send({"type": "websocket.accept"})
        while not stop.is_set():
            await receive()
            turns += 1

    server = await serve(app)
    client = await (connect(server) if kind == "http" else open_ws(server))
    if kind == "http":
        await client.get()
    client.leave()
    await until(lambda: turns > 10)
    assert (await (await connect(server)).get("/other")).body == b"hello"
