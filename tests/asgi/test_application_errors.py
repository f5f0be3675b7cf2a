"""What ends a call of the application: quiet if it is its own client's leaving, told once if it is anything else, and
never the end of the server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from support.helpers import LONGEST_TEST, UPGRADE, hello, until, within

import flowserve
from flowserve.errors import ClientDisconnected
from flowserve.runtime.signals import ends_program

pytestmark = pytest.mark.both_loops
groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are of Python 3.11")
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class Strange(BaseException):
    """What a test runner or another event loop ends its own things with."""


ENDS = [SystemExit(2), SystemExit(0), SystemExit("no such option"), KeyboardInterrupt(), GeneratorExit(), Strange()]
ENDS += [asyncio.CancelledError()]


@pytest.fixture
def interrupts():
    """SIGINT is handled as it is where the server runs: what raises KeyboardInterrupt is the application."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    yield
    signal.signal(signal.SIGINT, before)


def told(logs) -> list[type[BaseException]]:
    """The kinds of what was logged as an error, with a traceback."""
    assert all(record.exc_info for record in logs.records if record.levelname == "ERROR")
    return [record.exc_info[0] for record in logs.records if record.levelname == "ERROR"]


async def ended(server) -> None:
    """Wait until no call of the application runs."""
    await until(lambda: server.server._context.active == 0)


# What would end the server


@pytest.mark.app_fails
@pytest.mark.parametrize("error", ENDS, ids=repr)
@pytest.mark.parametrize("late", [False, True])
async def test_of_a_request(serve, connect, logs, interrupts, error, late):
    async def app(scope, receive, send):
        if scope["path"] == "/":
            return await hello(scope, receive, send)
        if late:
            await asyncio.sleep(0.001)
        raise error

    server = await serve(app)
    client, other = await connect(server), await connect(server)
    assert (await client.get("/end")).status == 500
    assert (await other.get("/")).body == b"hello"
    assert told(logs) == [type(error)]
    assert not server.server._context.tasks


@pytest.mark.app_fails
@pytest.mark.parametrize("error", ENDS, ids=repr)
@pytest.mark.parametrize("accepted", [False, True])
async def test_of_a_websocket(serve, connect, logs, interrupts, error, accepted):
    async def app(scope, receive, send):
        await receive()
        if accepted:
            await send({"type": "websocket.accept"})
            await receive()
        raise error

    server = await serve(app)
    client = await connect(server)
    if accepted:
        await client.upgrade()
        await client.send_text("go")
        assert (await client.close_frame())[0] == 1011
    else:
        await client.raw(UPGRADE)
        assert (await client.response()).status == 500
    assert told(logs) == [type(error)]
    await client.aclose()
    await ended(server)


@pytest.mark.parametrize("error", ENDS, ids=repr)
async def test_of_a_handler(logs, interrupts, error):
    async def handler(ws):
        await ws.receive()
        raise error

    async with flowserve.serve(handler, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for _ in range(2):
            ws = await flowserve.connect(uri, proxy=None)
            await ws.send("go")
            with pytest.raises(flowserve.ConnectionClosedError):
                await ws.receive()
            assert ws.close_code == 1011
    assert told(logs) == [type(error)] * 2


@pytest.mark.app_fails
async def test_of_a_background_task(serve, connect, logs):
    """The client has its response; the server goes on."""

    def clean_up() -> None:
        sys.exit("nothing to clean up")

    routes = [Route("/", lambda request: PlainTextResponse("done", background=BackgroundTask(clean_up)))]
    server = await serve(Starlette(routes=routes))
    client = await connect(server)
    assert (await client.get()).body == b"done"
    assert (await client.get()).body == b"done"
    await ended(server)
    assert told(logs) == [SystemExit] * 2


async def _pass_on(request, call_next):
    return await call_next(request)


def _exit(request):
    sys.exit(2)


exits = Starlette(
    routes=[Route("/exit", _exit), Route("/", lambda request: PlainTextResponse("hello"))],
    middleware=[Middleware(BaseHTTPMiddleware, dispatch=_pass_on)],
)
"""sys.exit() in a task of the application's own: asyncio stops the event loop for that."""


@posix
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_of_a_task_of_the_applications(command, connect, loop):
    server = await command("asgi.test_application_errors:exits", "--loop", loop)
    client, other = await connect(server), await connect(server)
    assert (await client.get("/exit")).status == 500
    assert (await other.get("/")).body == b"hello"
    server.signal(signal.SIGTERM)
    status, _, log = await server.wait()
    assert status == 0
    assert "SystemExit(2); the server goes on" in log


@posix
async def test_of_the_startup(serve):
    async def app(scope, receive, send):
        await receive()
        sys.exit("no database")

    for mode in ("on", "auto"):
        with pytest.raises(flowserve.StartupFailed, match="no database"):
            await serve(app, lifespan=mode)


PROGRAM = """
import asyncio, os, signal, sys
import flowserve

def leave(number, frame):
    sys.exit(3)

async def app(scope, receive, send):
    if scope["path"] == "/own":
        sys.exit(4)
    os.kill(os.getpid(), signal.{signal})
    for _ in range(1000000):
        pass

async def main():
    server = flowserve.Server(flowserve.Config(app, port=0, lifespan="off"))
    await server.startup()
    for path in ("/own", "/"):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(b"GET %s HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n" % path.encode())
        await reader.readline()
        print("answered", flush=True)

signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored, where tests run in the background
asyncio.new_event_loop().run_until_complete(main())
"""


@posix
@pytest.mark.parametrize(("number", "status"), [("SIGINT", -signal.SIGINT), ("SIGTERM", 3)])
def test_signals_in_a_program_of_the_users(number, status):
    """Their handlers raise wherever code runs: that is meant for the program, not for the request that ran."""
    command = [sys.executable, "-c", PROGRAM.format(signal=number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_TEST / 2)
    assert done.returncode == status
    assert done.stdout == "answered\n"


async def test_in_another_thread_no_signal_is_meant():
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(ends_program(KeyboardInterrupt())))
    thread.start()
    thread.join()
    assert seen == [False]


# Cancelled


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_the_servers_own_cancellation_is_no_error(serve, stage, connect, kind):
    server = await serve(stage, timeout_graceful_shutdown=0.1, ws_close_timeout=0.1)
    client = await connect(server)
    if kind == "websocket":
        opening = asyncio.ensure_future(client.upgrade())
        act = await stage.next()
        await act.accept()
        await opening
    else:
        await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        act = await stage.next()
    await within(server.server.shutdown())
    assert act.cancelled


@pytest.mark.app_fails
async def test_what_it_waits_for_is_cancelled(serve, connect, logs):
    async def app(scope, receive, send):
        other = asyncio.ensure_future(asyncio.sleep(10))
        asyncio.get_running_loop().call_soon(other.cancel)
        await other

    assert (await (await connect(await serve(app))).get()).status == 500
    assert told(logs) == [asyncio.CancelledError]


# Whose connection


async def sending(receive, send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        await send({"type": "websocket.send", "text": "x"})
        await asyncio.sleep(0)


async def framework(receive, send) -> None:
    """As Starlette puts it."""
    try:
        await sending(receive, send)
    except OSError:
        raise WebSocketDisconnect(1006) from None


async def cancelled(receive, send) -> None:
    try:
        await sending(receive, send)
    except OSError:
        raise asyncio.CancelledError from None


async def grouped(receive, send) -> None:
    async def read() -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass
        raise WebSocketDisconnect(1005)

    await receive()
    await send({"type": "websocket.accept"})
    async with asyncio.TaskGroup() as outer:
        outer.create_task(read())
        async with asyncio.TaskGroup() as inner:
            inner.create_task(resending(send))


async def resending(send) -> None:
    while True:
        await send({"type": "websocket.send", "text": "x"})
        await asyncio.sleep(0)


@pytest.mark.parametrize("ending", [sending, framework, cancelled, pytest.param(grouped, marks=groups)])
async def test_the_clients_leaving_is_quiet(serve, connect, ending):
    server = await serve(lambda scope, receive, send: ending(receive, send))
    client = await connect(server)
    await client.upgrade()
    await client.message()
    client.reset()
    await ended(server)


async def cause(receive, send) -> None:
    try:
        await sending(receive, send)
    except OSError as error:
        raise LookupError("the database is away") from error


async def context(receive, send) -> None:
    try:
        await sending(receive, send)
    finally:
        {}["missing"]


async def beside(receive, send) -> None:
    async def read() -> None:
        try:
            while (await receive())["type"] != "websocket.disconnect":
                pass
        finally:
            raise LookupError

    await receive()
    await send({"type": "websocket.accept"})
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(resending(send))
        tasks.create_task(read())


@pytest.mark.app_fails
@pytest.mark.parametrize("ending", [cause, context, pytest.param(beside, marks=groups)])
async def test_what_else_goes_wrong_then_is_told(serve, connect, logs, ending):
    server = await serve(lambda scope, receive, send: ending(receive, send))
    client = await connect(server)
    await client.upgrade()
    await client.message()
    client.reset()
    await ended(server)
    (kind,) = told(logs)
    assert kind.__name__ in ("LookupError", "KeyError", "ExceptionGroup")


@pytest.mark.app_fails
@pytest.mark.parametrize("error", [ClientDisconnected("another's"), WebSocketDisconnect(1000)], ids=repr)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_the_leaving_of_another_client_is_told(serve, connect, logs, error, kind):
    """As where one handler sends to the WebSockets of others."""

    async def app(scope, receive, send):
        await receive()
        if kind == "websocket":
            await send({"type": "websocket.accept"})
        raise error

    client = await connect(await serve(app))
    if kind == "http":
        assert (await client.get()).status == 500
    else:
        await client.upgrade()
        assert (await client.close_frame())[0] == 1011
    assert told(logs) == [type(error)]


@pytest.fixture
async def upstream():
    """The URI of a server that closes each WebSocket as it comes."""

    async def handler(ws):
        await ws.close(1011, "overloaded")

    async with flowserve.serve(handler, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.app_fails
async def test_the_end_of_a_connection_to_another_server_is_told(serve, connect, logs, upstream):
    async def app(scope, receive, send):
        async with flowserve.connect(upstream, proxy=None) as ws:
            await ws.receive()

    assert (await (await connect(await serve(app))).get()).status == 500
    assert told(logs) == [flowserve.ConnectionClosedError]


@pytest.mark.parametrize("own", [True, False])
async def test_in_a_handler_too(logs, upstream, own):
    async def handler(ws):
        await ws.send("hello")
        with contextlib.suppress(flowserve.ConnectionClosed):
            await ws.receive()
        async with flowserve.connect(upstream, proxy=None) as other:
            await (ws if own else other).receive()

    async with flowserve.serve(handler, "127.0.0.1", 0) as server:
        ws = await flowserve.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", proxy=None)
        await ws.receive()
        ws.abort()
        await until(lambda: not server.connections)
    assert told(logs) == ([] if own else [flowserve.ConnectionClosedError])


@groups
@pytest.mark.parametrize("also", [None, ValueError()], ids=repr)
async def test_a_group_in_a_handler(logs, also):
    async def handler(ws):
        async def send() -> None:
            while True:
                await ws.send("x")
                await asyncio.sleep(0)

        async def receive() -> None:
            try:
                await ws.receive()
            finally:
                if also is not None:
                    raise also

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            tasks.create_task(receive())

    async with flowserve.serve(handler, "127.0.0.1", 0) as server:
        ws = await flowserve.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", proxy=None)
        await ws.receive()
        ws.abort()
        await until(lambda: not server.connections)
    assert len(told(logs)) == (also is not None)


async def test_starlettes_websocket_endpoints_are_quiet(serve, connect):
    async def endpoint(websocket):
        await websocket.accept()
        while True:
            await websocket.send_text(await websocket.receive_text())

    server = await serve(Starlette(routes=[WebSocketRoute("/", endpoint)]))
    for leave in ("reset", "leave"):
        client = await connect(server)
        await client.upgrade()
        await client.send_text("hello")
        assert await client.message() == "hello"
        getattr(client, leave)()
        await ended(server)


# What is no asynchronous application


class Plain:
    def __call__(self, scope, receive, send):
        return "hello"


@pytest.mark.app_fails
async def test_a_plain_function_is_told_in_a_line(serve, connect, logs):
    server = await serve(Plain(), lifespan="off", interface="asgi3")
    assert (await (await connect(server)).get()).status == 500
    client = await connect(server)
    await client.raw(UPGRADE)
    assert (await client.response()).status == 500
    errors = [record for record in logs.records if record.levelname == "ERROR"]
    assert len(errors) == 2
    for record in errors:
        assert not record.exc_info
        assert "an object of type str, which can't be awaited" in record.getMessage()


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_a_plain_function_does_not_start(serve, mode):
    with pytest.raises(flowserve.ConfigError, match="can't be awaited"):
        await serve(Plain(), lifespan=mode)


@pytest.mark.app_fails
async def test_anothers_disconnect_behind_a_complete_response_is_told(serve, connect, logs):
    """A framework's handler of errors has sent its 500, and raises what was behind it."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"Internal Server Error"})
        raise WebSocketDisconnect(1006)

    client = await connect(await serve(app))
    assert (await client.get()).status == 500
    await until(lambda: logs.errors == ["flowserve: Exception in the application"])
