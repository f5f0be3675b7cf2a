"""Shutting down: nothing new, 1012 to WebSockets, requests in flight complete, the lifespan ends; in bounded time."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
import time

import anyio
import pytest
from support.helpers import PING, TEXT, UPGRADE, Client, echo, frame, hello, until, within

from flowserve import Config, Server
from flowserve.asgi.context import Context
from flowserve.server.shutdown import max_shutdown_time, open_work

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


async def refuses(address) -> bool:
    """Whether nobody listens at `address` any more."""
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await within(asyncio.get_running_loop().sock_connect(sock, address))
    except OSError:
        return True
    finally:
        sock.close()
    return False


async def open_pair(server, stage, connect):
    client = await connect(server)
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    assert (await client.head()).status == 101
    return act, client


def shutting_down(server) -> asyncio.Task:
    return asyncio.ensure_future(server.server.shutdown())


# In the test's own loop


@pytest.mark.both_loops
async def test_websockets_are_told_1012(serve, stage, connect):
    server = await serve(stage)
    pairs = [await open_pair(server, stage, connect) for _ in range(3)]
    task = shutting_down(server)
    for act, client in pairs:
        code, reason = await client.close_frame()
        assert code == 1012
        message = await act.receive()
        assert (message["type"], message["code"], message["reason"]) == ("websocket.disconnect", 1012, reason)
        assert await act.receive() == message
        with pytest.raises(OSError):
            await act.send_text("too late")
        act.leave()
        await client.send_close(1012)
        await client.closed()
    await within(task)
    assert await refuses(server.address)


async def test_a_waiting_receive_is_woken(serve, stage, connect):
    server = await serve(stage)
    act, client = await open_pair(server, stage, connect)
    receiving = asyncio.ensure_future(act.receive())
    await asyncio.sleep(0)
    task = shutting_down(server)
    assert (await within(receiving))["code"] == 1012
    act.leave()
    client.leave()
    await within(task)


async def test_websockets_that_do_not_answer(serve, stage, connect):
    """The close timeout ends TCP; the shutdown waits no longer."""
    server = await serve(stage, ws_close_timeout=0.2, timeout_graceful_shutdown=5)
    act, client = await open_pair(server, stage, connect)
    task = shutting_down(server)
    assert (await act.disconnected())["code"] == 1012
    act.leave()
    assert (await client.close_frame())[0] == 1012
    await client.closed()
    await within(task, 4)


async def test_an_app_that_closes_by_itself_after_the_notice(serve, stage, connect):
    server = await serve(stage)
    act, client = await open_pair(server, stage, connect)
    task = shutting_down(server)
    assert (await act.disconnected())["code"] == 1012
    try:
        await act.close(1001)
    except OSError:
        pass  # either is right: the close frame is out already
    act.leave()
    assert (await client.close_frame())[0] == 1012
    await client.send_close(1012)
    await within(task)


@pytest.mark.both_loops
async def test_requests_in_flight_complete(serve, stage, connect):
    server = await serve(stage)
    client = await connect(server)
    await client.raw(GET)
    act = await stage.next()
    task = shutting_down(server)
    await until_refused(server)
    assert not task.done()
    await act.answer(b"completed")
    response = await client.response()
    assert (response.status, response.body) == (200, b"completed")
    assert response.header("connection") == "close"
    await client.closed()
    await within(task)


async def until_refused(server):
    for _ in range(1000):
        if await refuses(server.address):
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the server still listens")


async def test_responses_in_flight_complete(serve, stage, connect):
    server = await serve(stage)
    client = await connect(server)
    await client.raw(GET)
    act = await stage.next()
    await act.start()
    await act.body(b"begun, ", more=True)
    await client.head()
    task = shutting_down(server)
    await until_refused(server)
    await act.body(b"done")
    act.leave()
    assert b"".join([chunk async for chunk in client.chunks()]) == b"begun, done"
    await client.closed()
    await within(task)


async def test_uploads_in_flight_complete(serve, stage, connect):
    server = await serve(stage)
    client = await connect(server)
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    act = await stage.next()
    task = shutting_down(server)
    await until_refused(server)
    await client.raw(b"world")
    assert await act.read() == b"helloworld"
    await act.answer(b"thanks")
    assert (await client.response()).body == b"thanks"
    await within(task)


async def test_idle_connections_are_closed(serve, connect):
    server = await serve(hello, timeout_graceful_shutdown=10)
    kept, fresh = await connect(server), await connect(server)
    assert (await kept.get()).status == 200
    task = shutting_down(server)
    await kept.closed()
    await fresh.closed()
    await within(task, 5)


async def test_what_is_pipelined_behind_is_not_served(serve, stage, connect):
    server = await serve(stage)
    client = await connect(server)
    await client.raw(GET + GET)
    act = await stage.next()
    task = shutting_down(server)
    await until_refused(server)
    await act.answer(b"the last")
    assert (await client.response()).body == b"the last"
    await client.closed()
    client.leave()
    await within(task)
    assert len(stage.acts) == 1


async def test_a_handshake_without_an_answer(serve, stage, connect):
    """A client whose WebSocket is not accepted yet is told in HTTP's words, or let go."""
    server = await serve(stage)
    client = await connect(server)
    await client.raw(UPGRADE)
    act = await stage.next()
    task = shutting_down(server)
    message = await act.disconnected()
    assert message["code"] in (1006, 1012)
    act.leave()
    assert (await client.rest())[:12] in (b"", b"HTTP/1.1 503", b"HTTP/1.1 500", b"HTTP/1.1 403")
    client.leave()
    await within(task)


@pytest.mark.both_loops
async def test_stuck_apps_are_bounded(serve, stage, connect, logs):
    server = await serve(stage, timeout_graceful_shutdown=0.4, ws_close_timeout=0.1)
    client = await connect(server)
    await client.raw(GET)
    http = await stage.next()
    ws, _ = await open_pair(server, stage, connect)
    begin = time.monotonic()
    await within(server.server.shutdown(), 5)
    assert time.monotonic() - begin >= 0.3
    for act in (http, ws):
        await within(act.ended.wait())
        assert act.cancelled
    assert logs.lines(level=logging.WARNING) == ["Cutting 1 request and 1 WebSocket"]
    await client.rest()


async def test_requests_get_all_the_time_and_the_lifespan_its_own(stage, connect):
    """The lifespan ends behind a request that uses up the time, and one that does not end is bounded too."""
    order = []

    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            await stage(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        order.append("shutdown")
        try:
            await asyncio.Event().wait()
        finally:
            order.append("cancelled")

    server = Server(Config(app, port=0, timeout_graceful_shutdown=0.5))
    await within(server.startup())
    client = await Client.connect(server.sockets[0].getsockname())
    await client.raw(GET)
    act = await stage.next()
    begin = time.monotonic()
    task = asyncio.ensure_future(server.shutdown())
    await within(act.ended.wait())
    assert act.cancelled
    assert time.monotonic() - begin >= 0.5
    assert (await client.response()).status == 503
    await within(task)
    assert order == ["shutdown", "cancelled"]
    assert time.monotonic() - begin < max_shutdown_time(server.config) + 1
    await client.aclose()


@pytest.mark.both_loops
async def test_clients_that_owe_the_answer_to_their_close_do_not_hold_it_up(serve, stage, connect, monkeypatch):
    """Whatever --ws-close-timeout says, as long as they have got all that was sent."""
    monkeypatch.setattr("flowserve.server.drain._CLOSE_REPLY_TIMEOUT", 0.2)
    server = await serve(stage, ws_close_timeout=60, timeout_graceful_shutdown=60)
    act, client = await open_pair(server, stage, connect)
    early, other = await open_pair(server, stage, connect)
    await early.close(1000)
    early.leave()
    assert (await other.close_frame())[0] == 1000
    task = shutting_down(server)
    assert (await act.disconnected())["code"] == 1012
    act.leave()
    assert (await client.close_frame())[0] == 1012
    await client.closed()
    await other.closed()
    await within(task, 5)


@pytest.mark.both_loops
async def test_what_it_waits_for_is_said(serve, stage, connect, logs, monkeypatch):
    monkeypatch.setattr("flowserve.server.shutdown._NOTICE_TIME", 0.0)
    server = await serve(stage, timeout_graceful_shutdown=60)
    clients = [await connect(server) for _ in range(2)]
    for client in clients:
        await client.raw(GET)
    requests = [await stage.next() for _ in clients]
    act, client = await open_pair(server, stage, connect)
    task = shutting_down(server)
    await until(lambda: "Waiting for 2 requests and 1 WebSocket" in logs.lines())
    assert (await act.disconnected())["code"] == 1012
    act.leave()
    await client.send_close(1012)
    for request in requests:
        await request.answer()
    await within(task)
    assert [line for line in logs.lines() if "Cutting" in line] == []


def test_open_work():
    loop = asyncio.new_event_loop()
    context = Context(echo, Config(echo), loop, None)
    assert open_work(context) == ""
    context.live.update(range(2))
    assert open_work(context) == "2 connections"
    context.tasks["request"] = None
    assert open_work(context) == "1 request and 1 connection"
    loop.close()


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["cancel", "timeout", "anyio"])
async def test_serve_that_is_cancelled_shuts_down(how, monkeypatch):
    """Its port is free then, its WebSockets are told, and the application's lifespan has ended."""
    monkeypatch.setattr("flowserve.server.drain._CLOSE_REPLY_TIMEOUT", 0.1)
    said = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            said.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await echo(scope, receive, send)

    server = Server(Config(app, port=0))
    cancel = asyncio.Event()

    async def serve_until_cancelled():
        if how == "cancel":
            task = asyncio.ensure_future(server.serve())
            await cancel.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif how == "timeout":
            await cancel.wait()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(server.serve(), 0.5)
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(server.serve)
                await cancel.wait()
                group.cancel_scope.cancel()

    before = asyncio.all_tasks()
    running = asyncio.ensure_future(serve_until_cancelled())
    if how == "timeout":
        cancel.set()
    await until(lambda: server.started)
    address = server.sockets[0].getsockname()
    client = await Client.connect(address)
    await client.upgrade()
    cancel.set()
    assert (await client.close_frame())[0] == 1012
    await within(running)
    assert said == ["lifespan.shutdown"]
    assert await refuses(address)
    await client.aclose()
    await until(lambda: asyncio.all_tasks() <= before)


async def test_serve_that_is_cancelled_while_it_starts():
    async def app(scope, receive, send):
        await receive()
        starting.set()
        await asyncio.Event().wait()

    starting, before = asyncio.Event(), asyncio.all_tasks()
    task = asyncio.ensure_future(Server(Config(app, port=0)).serve())
    await within(starting.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task)
    assert asyncio.all_tasks() <= before


async def test_should_exit_before_and_while_it_starts():
    """The startup completes, and the shutdown follows."""
    server = Server(Config(hello, port=0, lifespan="off"))
    server.should_exit = True
    await within(server.serve())
    assert not server.started


async def test_should_exit_after_the_loop_has_closed():
    server = Server(Config(hello, port=0, lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    await until(lambda: server.started)
    server.should_exit = True
    await asyncio.get_running_loop().run_in_executor(None, thread.join)
    server.should_exit = True
    server.cut()


async def test_the_lifespan_ends_last(serve, stage, connect):
    order = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            order.append("lifespan")
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await stage(scope, receive, send)
            order.append(scope["type"])

    server = await serve(app, lifespan="on")
    act, client = await open_pair(server, stage, connect)
    other = await connect(server)
    await other.raw(GET)
    request = await stage.next()
    task = shutting_down(server)
    assert (await act.disconnected())["code"] == 1012
    act.leave()
    assert (await client.close_frame())[0] == 1012
    await client.send_close(1012)
    await client.closed()
    await request.answer(b"done")
    assert (await other.response()).body == b"done"
    await within(task)
    assert order == ["websocket", "http", "lifespan"]


async def test_shutdown_twice(serve, connect):
    server = await serve(hello)
    assert (await (await connect(server)).get()).status == 200
    await within(server.server.shutdown())
    await within(server.server.shutdown())


async def test_nothing_stays_behind(serve, stage, connect):
    """No task and no transport of the server outlives its shutdown."""
    before = asyncio.all_tasks()
    server = await serve(stage)
    act, client = await open_pair(server, stage, connect)
    task = shutting_down(server)
    assert (await act.disconnected())["code"] == 1012
    act.leave()
    client.leave()
    await within(task)
    await until(lambda: asyncio.all_tasks() <= before)


# The command


each_loop = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


async def to(running) -> Client:
    return await Client.connect(running.address)


@posix
@each_loop
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
async def test_command_signal(command, number, loop):
    running = await command("support.helpers:slow", "--loop", loop)
    client = await to(running)
    await client.upgrade()
    running.signal(getattr(signal, number))
    assert (await client.close_frame())[0] == 1012
    await client.send_close(1012)
    await client.closed()
    await client.aclose()
    status, out, err = await running.wait()
    assert status == 0
    assert "disconnect 1012" in out
    assert "lifespan shutdown" in out
    assert out.index("disconnect 1012") < out.index("lifespan shutdown")
    assert number in err
    assert "Traceback" not in err


@posix
@each_loop
async def test_command_completes_requests(command, loop):
    running = await command("support.helpers:slow", "--loop", loop)
    client = await to(running)
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
    await client.head()
    await client.expect(b"5\r\nbegun\r\n")
    running.signal(signal.SIGTERM)
    await running.logged("SIGTERM")
    await client.raw(b"x")
    assert b"".join([chunk async for chunk in client.chunks()]) == b"done"
    await client.closed()
    await client.aclose()
    status, out, _ = await running.wait()
    assert status == 0
    assert "lifespan shutdown" in out


@posix
@each_loop
async def test_command_second_signal_cuts_short(command, loop):
    running = await command("support.helpers:slow", "--loop", loop, "--timeout-graceful-shutdown", "60")
    client = await to(running)
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
    await client.head()
    await client.expect(b"5\r\nbegun\r\n")
    running.signal(signal.SIGTERM)
    await running.logged("SIGTERM")
    running.signal(signal.SIGTERM)
    await client.rest()
    await client.aclose()
    _, _, err = await running.wait()
    assert "Traceback" not in err


@posix
async def test_command_is_bounded(command):
    running = await command("support.helpers:slow", "--timeout-graceful-shutdown", "300ms")
    client = await to(running)
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
    await client.head()
    await client.expect(b"5\r\nbegun\r\n")
    running.signal(signal.SIGTERM)
    await client.rest()
    await client.aclose()
    _, out, _ = await running.wait()
    assert "lifespan shutdown" in out


@posix
@each_loop
async def test_command_serves(command, loop):
    """The command over each loop, with what the in-process tests can't show: its own process and access log."""
    running = await command("support.helpers:echo", "--loop", loop)
    client = await to(running)
    assert (await client.get("/path")).status == 200
    await client.raw(UPGRADE.replace(b"GET / ", b"GET /ws ") + frame(TEXT, b"hello") + frame(PING, b"p"))
    assert (await client.head()).status == 101
    got = {await client.frame(), await client.frame()}
    assert {each.payload for each in got} == {b"hello", b"p"}
    await client.send_text("close")
    assert await client.close_frame() == (4000, "as you wish")
    await client.send_close(4000)
    await client.closed()
    await client.aclose()
    running.signal(signal.SIGTERM)
    status, out, err = await running.wait()
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 3
    assert "GET /path HTTP/1.1" in lines[0]
    assert "/ws" in lines[1]
    assert "4000" in lines[2]
    assert "Traceback" not in err


async def test_shutdown_with_no_connection(serve):
    server = await serve(echo, timeout_graceful_shutdown=10)
    await within(server.server.shutdown(), 2)


async def test_an_application_that_does_not_ask_does_not_hold_the_end(serve, connect):
    """Its WebSocket is gone, and it waits for something else: as one that only passes on what is published."""
    cancelled = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    server = await serve(app, timeout_graceful_shutdown=9)
    client = await connect(server)
    await client.upgrade()
    client.leave()
    began = time.monotonic()
    await within(server.server.shutdown())
    assert cancelled.is_set()
    assert time.monotonic() - began < 8  # it takes three seconds
