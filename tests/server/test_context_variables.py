"""Context variables: each call of the application begins with the server's, and what is logged of it has its own."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import FileResponse
from starlette.routing import Route
from support.helpers import until, within

import flowserve

pytestmark = pytest.mark.both_loops

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
exact = pytest.mark.skipif(sys.version_info < (3, 11), reason="before 3.11 a task can't be given its context")


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: example.com", *headers, "", ""]).encode()


async def answer(send, text: str) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text.encode()})


async def who(scope, receive, send) -> None:
    """Tells whom it sees, when it has become somebody itself and has taken the request's body."""
    seen = user.get()
    user.set("alice" + scope["path"])
    if scope["type"] == "websocket":
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": seen})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    await asyncio.sleep(0)
    while (await receive()).get("more_body", False):
        pass
    await answer(send, seen)


@pytest.fixture
def said() -> Iterator[list[tuple[str, str]]]:
    """What was logged, each with the user that a filter or formatter would see."""
    lines: list[tuple[str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((user.get(), record.getMessage()))

    handler = Handler()
    logging.getLogger("flowserve").addHandler(handler)
    yield lines
    logging.getLogger("flowserve").removeHandler(handler)


def line(said: list[tuple[str, str]], words: str) -> tuple[str, str]:
    (found,) = [each for each in said if words in each[1]]
    return found


# What the application sees


async def test_pipelined_requests(serve, connect):
    client = await connect(await serve(who))
    await client.raw(get("/1") + get("/2") + get("/3"))
    assert [(await client.response()).body for _ in range(3)] == [b"nobody"] * 3


async def test_requests_one_after_the_other(serve, connect):
    client = await connect(await serve(who))
    assert [(await client.get(f"/{n}")).body for n in range(3)] == [b"nobody"] * 3


async def test_a_websocket_behind_a_request(serve, connect):
    client = await connect(await serve(who))
    await client.raw(get("/1") + get("/2").replace(b"\r\n\r\n", b"\r\n") + HANDSHAKE)
    assert (await client.response()).body == b"nobody"
    assert (await client.head()).status == 101
    assert await client.message() == "nobody"


HANDSHAKE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_after_an_upload_that_had_to_wait(serve, connect):
    """The application's receive() lets reading go on: asyncio reads in the context of that call from then on."""
    client = await connect(await serve(who))
    for _ in range(3):
        await client.raw(b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000000))
        assert (await client.response()).body == b"nobody"
        assert (await client.get("/next")).body == b"nobody"
    await client.upgrade("/websocket")
    assert await client.message() == "nobody"


async def test_files_behind_a_middleware_with_tasks(serve, connect, tmp_path):
    """The client has the file before the application is done with it: the next request waits for that."""
    file = tmp_path / "file"
    file.write_bytes(bytes(200_000))
    seen: list[str] = []

    async def remember(request, call_next):
        seen.append(user.get())
        user.set("alice")
        return await call_next(request)

    routes = [Route("/", lambda request: FileResponse(file))]
    app = Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=remember)])
    client = await connect(await serve(app))
    for _ in range(30):
        assert len((await client.get()).body) == 200_000
    assert seen == ["nobody"] * 30


async def test_a_response_that_waited_for_its_client(serve, connect):
    """The next request is taken up when the client reads again."""

    async def app(scope, receive, send):
        seen = user.get()
        user.set("alice")
        await answer(send, seen if scope["path"] == "/who" else " " * 3_000_000)

    client = await connect(await serve(app), receive_buffer=4096)
    await client.raw(get("/big") + get("/who"))
    assert len((await client.response()).body) == 3_000_000
    assert (await client.response()).body == b"nobody"


async def test_what_the_server_was_started_with(serve, connect):
    token = user.set("the embedding program")
    server = await serve(who)
    user.reset(token)
    assert (await (await connect(server)).get()).body == b"the embedding program"


async def test_the_lifespans_are_its_own(serve, connect):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            user.set("lifespan")
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await who(scope, receive, send)

    assert (await (await connect(await serve(app, lifespan="on"))).get()).body == b"nobody"
    assert user.get() == "nobody"


async def test_handlers_of_the_library(connect):
    seen: list[str] = []

    async def handler(ws):
        seen.append(user.get())
        user.set("alice")
        await ws.send("hello")

    async with flowserve.serve(handler, "127.0.0.1", 0) as server:
        for _ in range(3):
            async with flowserve.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", proxy=None) as ws:
                assert await ws.receive() == "hello"
    assert seen == ["nobody"] * 3


# What stays


class Tenant:
    """Something that a variable holds."""


tenant: contextvars.ContextVar[object] = contextvars.ContextVar("tenant")


async def test_nothing_stays_of_a_request(serve, connect):
    """Neither the variables of an application while its connection lasts, nor what they hold by a cycle."""
    tenants: list[weakref.ref[Tenant]] = []

    async def app(scope, receive, send):
        held = Tenant()
        tenants.append(weakref.ref(held))
        tenant.set([held, receive, send])
        await who(scope, receive, send)

    client = await connect(await serve(app))
    gc.disable()
    try:
        await client.raw(b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000000))
        assert (await client.response()).status == 200
        await until(lambda: tenants[0]() is None)
        await client.upgrade()
        await client.send_close(1000)
        await client.rest()
        await until(lambda: tenants[1]() is None)
    finally:
        gc.enable()


async def test_whoever_lets_a_clients_peer_go_on_is_not_held(serve, connect):
    """A task that receives, and with that lets reading go on, leaves nothing of itself in a connection that stays."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(40):
            await send({"type": "websocket.send", "bytes": bytes(30_000)})
        await receive()

    server = await serve(app)
    async with flowserve.connect(server.ws_url, proxy=None, compression=None, max_queue=1) as ws:

        async def take() -> weakref.ref[Tenant]:
            held = Tenant()
            tenant.set(held)
            for _ in range(40):
                await ws.receive()
            return weakref.ref(held)

        left = await within(asyncio.ensure_future(take()))
        await until(lambda: gc.collect() >= 0 and left() is None)


# What is logged


async def test_access_lines_of_requests(serve, connect, said):
    client = await connect(await serve(who))
    await client.raw(get("/1") + get("/2"))
    await client.response()
    await client.response()
    assert line(said, "GET /1")[0] == "alice/1"
    assert line(said, "GET /2")[0] == "alice/2"


@exact
async def test_the_access_line_of_a_request_whose_client_left(serve, stage, connect, said):
    async def app(scope, receive, send):
        user.set("alice")
        await stage(scope, receive, send)

    client = await connect(await serve(app))
    await client.raw(get("/left"))
    act = await stage.next()
    client.reset()
    await act.disconnected()
    act.leave()
    assert line(said, '" 499 ')[0] == "alice"


async def test_a_refused_request_is_nobodys(serve, connect, said):
    """Though the application before it may be running when it is looked at."""
    client = await connect(await serve(who, allowed_hosts=["example.com"]))
    await client.raw(get("/1") + get("/2").replace(b"example.com", b"evil.com"))
    assert (await client.response()).status == 200
    assert (await client.response()).status == 400
    assert line(said, "GET /2")[0] == "nobody"


@exact
async def test_access_lines_of_websockets(serve, connect, said):
    client = await connect(await serve(who))
    await client.upgrade("/open")
    assert await client.message() == "nobody"
    await client.send_close(1000)
    await client.rest()
    await until(lambda: len(said) > 1)
    assert line(said, "accepted")[0] == "alice/open"
    assert line(said, "closed 1000")[0] == "alice/open"


@exact
@pytest.mark.parametrize("end", ["client", "deadline", "shutdown"])
async def test_the_access_line_of_a_websocket_that_was_not_accepted(serve, stage, connect, said, logs, end):
    async def app(scope, receive, send):
        user.set("alice")
        await stage(scope, receive, send)

    server = await serve(app, timeout_handshake=0.2 if end == "deadline" else 30, timeout_graceful_shutdown=0.1)
    client = await connect(server)
    await client.raw(get("/no").replace(b"\r\n\r\n", b"\r\n") + HANDSHAKE)
    act = await stage.next()
    if end == "client":
        client.reset()
    elif end == "shutdown":
        await within(server.server.shutdown())
    await until(lambda: any("GET /no" in message for _, message in said))
    assert line(said, "GET /no")[0] == "alice"
    if end == "deadline":
        assert line(said, "in time")[0] == "alice"
        assert len(logs.errors) == 1
        logs.records.clear()
    act.leave()


@pytest.mark.app_fails
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_errors_are_logged_with_their_request(serve, connect, said, kind):
    async def app(scope, receive, send):
        user.set("alice")
        if kind == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        await asyncio.sleep(0)
        raise ValueError

    client = await connect(await serve(app))
    if kind == "http":
        assert (await client.get()).status == 500
    else:
        await client.upgrade()
        assert (await client.close_frame())[0] == 1011
    assert line(said, "Exception in the application") == ("alice", "Exception in the application")


# Task factories


def plain_factory(loop, coro):
    return asyncio.Task(coro, loop=loop)


def forgetful_factory(loop, coro, **options):
    return asyncio.Task(coro, loop=loop)


def factory_with_context(loop, coro, **options):
    return asyncio.Task(coro, loop=loop, **options)


FACTORIES = [plain_factory, forgetful_factory, factory_with_context]
if sys.version_info >= (3, 12):
    FACTORIES.append(asyncio.eager_task_factory)


every_factory = pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: factory.__name__)


@contextlib.contextmanager
def tasks_by(factory: Any) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    nothing = asyncio.sleep(0)
    try:
        assert loop.create_task(nothing)
    except TypeError:
        loop.set_task_factory(None)
        nothing.close()
        pytest.skip("this event loop gives a factory what it does not take")
    try:
        yield
    finally:
        loop.set_task_factory(None)


@every_factory
async def test_with_a_task_factory(factory, serve, connect):
    """That makes tasks of an older kind, or has them begin at once, inside the parser of their request."""
    with tasks_by(factory):
        server = await serve(who)
        client = await connect(server)
        await client.raw(get("/1") + get("/2"))
        assert [(await client.response()).body for _ in range(2)] == [b"nobody"] * 2
        await client.upgrade()
        assert await client.message() == "nobody"
        await client.send_close(1000)
        await client.rest()
        await until(lambda: server.server._context.active == 0)
        assert not server.server._context.tasks


@every_factory
async def test_with_a_task_factory_an_application_that_never_waits(factory, serve, connect):
    with tasks_by(factory):

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})
            elif scope["type"] == "http":
                await answer(send, "hello")
            else:
                await send({"type": "websocket.accept"})
                await send({"type": "websocket.send", "text": "hello"})

        server = await serve(app, lifespan="on")
        client = await connect(server)
        await client.raw(get("/1") + get("/2"))
        assert [(await client.response()).body for _ in range(2)] == [b"hello"] * 2
        await client.upgrade()
        assert await client.message() == "hello"
        assert await client.close_frame() == (1000, "")
        await client.send_close(1000)
        await client.rest()
        await until(lambda: server.server._context.active == 0)


@every_factory
async def test_with_a_task_factory_an_application_that_fails_at_once(factory, serve, connect, logs):
    with tasks_by(factory):

        async def app(scope, receive, send):
            raise ValueError

        server = await serve(app)
        client = await connect(server)
        assert (await client.get()).status == 500
        client = await connect(server)
        await client.raw(get("/").replace(b"\r\n\r\n", b"\r\n") + HANDSHAKE)
        assert (await client.response()).status == 500
        assert len(logs.errors) == 2
        logs.records.clear()
        assert server.server._context.active == 0


@every_factory
async def test_with_a_task_factory_calls_are_cancelled(factory, serve, stage, connect):
    with tasks_by(factory):
        server = await serve(stage, timeout_graceful_shutdown=0.1)
        client = await connect(server)
        await client.raw(get("/"))
        act = await stage.next()
        await within(server.server.shutdown())
        assert act.cancelled
        assert (await client.response()).status == 503


@every_factory
async def test_the_library_with_a_task_factory(factory):
    with tasks_by(factory):

        async def handler(ws):
            async for message in ws:
                await ws.send(message)

        async with flowserve.serve(handler, "127.0.0.1", 0) as server:
            uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ws = await flowserve.connect(uri, proxy=None)
            await ws.send("a" * 100_000)
            assert await ws.receive() == "a" * 100_000
            await ws.close()
