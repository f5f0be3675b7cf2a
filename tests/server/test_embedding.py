"""A server inside somebody else's program: several in one loop, port 0, sockets of every kind, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from support.helpers import TEXT, UPGRADE, Client, echo, frame, hello, until, within

import flowserve
from flowserve import Config, Server
from flowserve.errors import FlowserveError

posix = pytest.mark.skipif(sys.platform == "win32", reason="UNIX sockets")


def answering(body: bytes):
    async def app(scope, receive, send):
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


@pytest.mark.both_loops
async def test_several_servers_in_one_loop(serve, connect):
    servers = [await serve(answering(b"%d" % number)) for number in range(5)]
    assert len({server.port for server in servers}) == 5
    for number, server in enumerate(servers):
        assert (await (await connect(server)).get()).body == b"%d" % number
    await within(servers[2].server.shutdown())
    for number in (0, 1, 3, 4):
        assert (await (await connect(servers[number])).get()).body == b"%d" % number


@pytest.mark.both_loops
async def test_connections_that_come_at_once_are_taken_at_once(serve):
    """On uvloop a server takes one in each turn of the event loop."""
    server = await serve(hello)
    clients = [socket.create_connection(server.server.sockets[0].getsockname()) for _ in range(8)]
    try:
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(server.server._context.live) == 8
    finally:
        for client in clients:
            client.close()


async def test_started(serve):
    server = Server(Config(hello, port=0, lifespan="off"))
    assert server.started is False
    assert server.should_exit is False
    await within(server.startup())
    assert server.started is True
    assert server.config.port == 0
    (sock,) = server.sockets
    assert sock.getsockname()[0] == "127.0.0.1"
    assert sock.getsockname()[1] > 0
    await within(server.shutdown())


async def test_the_port_is_free_again(serve, connect):
    first = await serve(hello)
    port = first.port
    client = await connect(first)
    assert (await client.get()).status == 200
    await within(first.server.shutdown())
    second = await serve(answering(b"second"), port=port)
    assert (await (await connect(second)).get()).body == b"second"


async def test_port_in_use(serve):
    server = await serve(hello)
    with pytest.raises(FlowserveError, match=str(server.port)):
        await serve(hello, port=server.port)


async def test_unknown_host(serve):
    with pytest.raises(FlowserveError):
        await serve(hello, host="no.such.host.invalid")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
async def test_host(serve, connect, host):
    server = await serve(hello, host=host)
    for sock in server.server.sockets:
        address = sock.getsockname()
        assert address[1] == server.port, "with port 0 all families share the port"
    if server.family == socket.AF_INET:
        server.address = ("127.0.0.1", server.port)
    assert (await (await connect(server)).get()).body == b"hello"


async def test_ipv6(serve, stage, connect):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    server = await serve(stage, host="::1")
    client = await connect(server)
    await client.raw(b"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n")
    act = await stage.next()
    assert tuple(act.scope["client"]) == client.address
    assert tuple(act.scope["server"]) == ("::1", server.port)
    await act.answer(b"ok")
    assert (await client.response()).body == b"ok"


# Sockets from outside


async def test_sockets(serve, connect):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        server = await serve(hello, sockets=sockets)
        for sock in sockets:
            server.address = sock.getsockname()
            assert (await (await connect(server)).get()).body == b"hello"
        await within(server.server.shutdown())


@posix
async def test_fd(serve, connect):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        server = await serve(hello, fd=os.dup(sock.fileno()))
        assert server.address == sock.getsockname()
        assert (await (await connect(server)).get()).body == b"hello"


@posix
async def test_fd_of_another_family(serve, stage, connect, tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        server = await serve(stage, fd=os.dup(sock.fileno()))
        assert server.family == socket.AF_UNIX
        client = await connect(server)
        await client.raw(UPGRADE + frame(TEXT, b"hello"))
        act = await stage.next()
        await act.accept()
        assert (await client.head()).status == 101
        assert (await act.receive())["text"] == "hello"


@posix
async def test_fd_that_is_no_socket(serve, tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(FlowserveError):
            await serve(hello, fd=descriptor)
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


@posix
@pytest.mark.both_loops
async def test_uds(serve, stage, connect, tmp_path):
    path = str(tmp_path / "flowserve.sock")
    server = await serve(stage, uds=path, ws_close_timeout=0.1)
    client = await connect(server)
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    act = await stage.next()
    assert list(act.scope["server"]) == [path, None]
    await act.answer(b"ok")
    assert (await client.response()).body == b"ok"
    await client.raw(UPGRADE + frame(TEXT, b"hello"))
    act = await stage.next()
    await act.accept()
    assert (await client.head()).status == 101
    assert (await act.receive())["text"] == "hello"
    await act.close()
    await server.server.shutdown()
    assert not os.path.exists(path)  # noqa: ASYNC240


@posix
async def test_uds_path_that_a_dead_server_left(serve, connect, tmp_path):
    path = str(tmp_path / "flowserve.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    server = await serve(hello, uds=path)
    assert (await (await connect(server)).get()).body == b"hello"


@posix
async def test_uds_path_that_is_a_file(serve, tmp_path):
    """A file that is no socket is not removed."""
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(FlowserveError):
        await serve(hello, uds=str(path))
    assert path.read_text() == "data"


# serve()


@pytest.mark.both_loops
async def test_serve_until_should_exit():
    server = Server(Config(hello, port=0, lifespan="off"))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    task = asyncio.ensure_future(server.serve())
    await until(lambda: server.started)
    assert not task.done()
    server.should_exit = True
    await within(task)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


async def test_serve_in_a_thread():
    """Without signals there, which belong to the main thread."""
    server = Server(Config(hello, port=0, lifespan="off"))
    failures = []

    def work():
        try:
            asyncio.run(server.serve())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        await until(lambda: server.started or bool(failures))
        reader, writer = await within(asyncio.open_connection(*server.sockets[0].getsockname()[:2]))
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await within(reader.read())).endswith(b"hello")
        writer.close()
        await writer.wait_closed()
    finally:
        server.should_exit = True
        await asyncio.get_running_loop().run_in_executor(None, thread.join, 10)
    assert not thread.is_alive()
    assert failures == []


RUN = """
import sys, flowserve
sys.path.insert(0, sys.argv[1])
flowserve.run(sys.argv[2], fd=int(sys.argv[3]), access_log=False)
print("returned", flush=True)
"""


@posix
async def test_run():
    """flowserve.run(app, **options) blocks until a signal, and returns."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        arguments = (str(Path(__file__).parent.parent), "support.helpers:hello", str(sock.fileno()))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUN, *arguments, stdout=subprocess.PIPE, pass_fds=[sock.fileno()]
        )
        address = sock.getsockname()
    client = await Client.connect(address)
    try:
        assert (await client.get()).body == b"hello"
        process.send_signal(signal.SIGTERM)
        out, _ = await within(process.communicate())
    finally:
        await client.aclose()
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert out.decode().split() == ["returned"]
    assert process.returncode == 0


# The lifespan


def lifespan_app(log: list, fail_at: str | None = None, how: str = "message"):
    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            return await hello(scope, receive, send)
        log.append(scope)
        while True:
            message = await receive()
            log.append(message["type"])
            moment = message["type"].partition(".")[2]
            if moment == fail_at:
                if how == "raise":
                    raise ValueError("no database")
                await send({"type": f"lifespan.{moment}.failed", "message": "no database"})
                return None
            await send({"type": f"lifespan.{moment}.complete"})
            if moment == "shutdown":
                return None

    return app


async def test_lifespan(serve, connect):
    log = []
    server = await serve(lifespan_app(log), lifespan="on")
    assert log[1:] == ["lifespan.startup"]
    assert log[0]["type"] == "lifespan"
    assert log[0]["asgi"]["version"] == "3.0"
    assert log[0]["state"] == {}
    assert "flowserve.draining" in log[0]["extensions"]
    assert (await (await connect(server)).get()).status == 200
    assert log[1:] == ["lifespan.startup"]
    await within(server.server.shutdown())
    assert log[1:] == ["lifespan.startup", "lifespan.shutdown"]


async def test_lifespan_auto(serve, connect):
    log = []
    server = await serve(lifespan_app(log), lifespan="auto")
    assert log[1:] == ["lifespan.startup"]
    assert (await (await connect(server)).get()).status == 200


@pytest.mark.parametrize("app", [hello, echo])
async def test_lifespan_auto_without_support(serve, connect, app):
    server = await serve(app, lifespan="auto")
    assert (await (await connect(server)).get()).status == 200


async def test_lifespan_off(serve, connect):
    log = []
    server = await serve(lifespan_app(log), lifespan="off")
    assert (await (await connect(server)).get()).status == 200
    assert log == []


@pytest.mark.parametrize("mode", ["on", "auto"])
async def test_failed_startup(mode):
    server = Server(Config(lifespan_app([], "startup"), port=0, lifespan=mode))
    with pytest.raises(FlowserveError, match="no database"):
        await within(server.startup())
    assert not server.started
    await within(server.shutdown())


async def test_raising_startup():
    server = Server(Config(lifespan_app([], "startup", "raise"), port=0, lifespan="on"))
    with pytest.raises(FlowserveError):
        await within(server.startup())
    assert not server.started
    await within(server.shutdown())


@pytest.mark.app_fails
@pytest.mark.parametrize("how", ["message", "raise"])
async def test_failed_shutdown(serve, how, logs):
    server = await serve(lifespan_app([], "shutdown", how), lifespan="on")
    with contextlib.suppress(FlowserveError):
        await within(server.server.shutdown())


# Nothing left behind


def module_of(each: object) -> str:
    return str(getattr(type(each), "__module__", ""))


@pytest.mark.both_loops
async def test_connections_leave_nothing_behind(serve, connect):
    """Ended connections are freed by reference counting alone: cycles are broken when they end."""

    async def app(scope, receive, send):
        await (hello if scope["type"] == "http" else echo)(scope, receive, send)

    server = await serve(app)

    def alive() -> Counter:
        found = [type(each) for each in gc.get_objects() if "flowserve" in module_of(each)]
        # pytest keeps what is logged
        return Counter(each.__qualname__ for each in found if each.__module__ != "flowserve.logs.access")

    async def visit(end: str) -> None:
        client = await connect(server)
        assert (await client.get()).status == 200
        if end != "http":
            await client.upgrade()
            await client.send_text("hello")
            assert await client.message() == "hello"
            if end == "close":
                await client.send_close(1000)
                assert (await client.close_frame())[0] == 1000
                await client.closed()
        await client.aclose()

    ends = ("http", "close", "abrupt")
    for end in ends:
        await visit(end)
    await until(lambda: len(server_tasks()) == 0)
    gc.collect()
    before = alive()
    gc.disable()
    try:
        for _ in range(10):
            for end in ends:
                await visit(end)
        await until(lambda: len(server_tasks()) == 0)
        await until(lambda: all(count <= before[name] + 2 for name, count in alive().items()))
    finally:
        gc.enable()


def server_tasks() -> list[asyncio.Task]:
    """The tasks that run an application."""
    return [
        task
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task() and "flowserve" in repr(task.get_coro()) + repr(task)
    ]


def test_public_names():
    assert set(flowserve.__all__) >= {"Config", "Server", "run", "__version__", "FlowserveError", "ConfigError"}
    for name in flowserve.__all__:
        assert hasattr(flowserve, name)
    assert issubclass(flowserve.ConfigError, FlowserveError)
