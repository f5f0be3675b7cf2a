"""Draining: WebSockets are closed one after the other over --timeout-drain, the application is told, nothing that is
under way is lost."""

from __future__ import annotations

import asyncio
import json
import selectors
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.documents import blocks, section
from support.draining import Traffic, launched
from support.helpers import PATIENCE, UPGRADE, Client, echo, until, within

import flowserve
from flowserve import Config
from flowserve.asgi.context import Context
from flowserve.server.drain import drain
from flowserve.session.session import Session
from flowserve.transport.bases import Stream
from flowserve.transport.flush_queue import FlushQueue
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


# The plan, under a clock that jumps to whatever is due next


class Jumps(selectors.DefaultSelector):
    """Lets time pass where others wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = Jumps()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


class Nowhere(Stream):
    """Takes everything."""

    def __init__(self) -> None:
        self.write_paused = False
        self.half_open = True

    def nothing(self, *_: Any) -> int:
        return 0

    write = writelines = progressed = unsent = nothing
    pause_reading = resume_reading = end_writing = close = abort = lost = nothing


class Told(Session):
    """Notes when it was told."""

    def shutdown(self) -> None:
        self.told.append((self.context.loop.time(), self.number))
        super().shutdown()


@pytest.fixture
def loop() -> Iterator[JumpingLoop]:
    loop = JumpingLoop()
    yield loop
    loop.close()


class Plan:
    """Sessions in a context, and when each was closed: `told` has (seconds, number)."""

    def __init__(self, loop: JumpingLoop, count: int, seconds: float) -> None:
        options = {"ws_ping_interval": None, "ws_ping_timeout": None, "ws_close_timeout": 1e6}
        self.loop = loop
        self.seconds = seconds
        self.context = Context(echo, Config(echo, **options), loop, FlushQueue(loop))
        self.told: list[tuple[float, int]] = []
        self.sessions = [self.session() for _ in range(count)]
        self.cut = False

    def session(self) -> Told:
        session = Told(Connection(Role.SERVER, 1000, 10, None), Nowhere(), self.context)
        session.told, session.number = self.told, len(self.context.live)
        return session

    def run(self) -> float:
        """Drain, and give the seconds that it took."""
        begin = self.loop.time()
        self.loop.run_until_complete(drain(self.context, self.seconds, lambda: self.cut))
        return self.loop.time() - begin

    def within(self, begin: float, end: float) -> int:
        """How many were closed in that part of the time, as fractions."""
        return sum(begin * self.seconds <= at < end * self.seconds for at, _ in self.told)


@pytest.mark.parametrize("seconds", [0.2, 3.0, 25.0, 300.0])
@pytest.mark.parametrize("count", [1, 2, 7, 100, 3000])
def test_closes_are_spread_evenly(loop, count, seconds):
    plan = Plan(loop, count, seconds)
    assert plan.run() <= seconds + 0.1
    assert sorted(number for _, number in plan.told) == [session.number for session in plan.sessions]
    assert all(0 <= at <= seconds + 0.1 for at, _ in plan.told)
    for tenth in range(1, 10):
        done = plan.within(0, tenth / 10)
        assert abs(done - count * tenth / 10) <= 2 + count / 10, plan.told
    assert all(session.close_code == 1012 for session in plan.sessions)


def test_a_single_close_comes_at_any_time(loop):
    """So that those of several workers with few connections don't all come at the same moment."""
    moments = []
    for _ in range(40):
        plan = Plan(loop, 1, 10.0)
        begin = loop.time()
        plan.run()
        moments.append(plan.told[0][0] - begin)
    assert 5 < sum(moment < 5 for moment in moments) < 35
    assert max(moments) - min(moments) > 4


def test_the_order_is_random(loop):
    plan = Plan(loop, 50, 10.0)
    plan.run()
    order = [number for _, number in plan.told]
    assert order not in (sorted(order), sorted(order, reverse=True))


def test_those_that_end_meanwhile_are_skipped(loop):
    """They make the closes rarer, not earlier."""
    plan = Plan(loop, 200, 20.0)
    gone = plan.sessions[:100]
    loop.call_later(2.0, lambda: [session.connection_lost(None) for session in gone[:50]])
    loop.call_later(2.0, lambda: [session.close(4000) for session in gone[50:]])
    plan.run()
    later = [number for at, number in plan.told if at > 3]
    assert not {session.number for session in gone} & set(later)
    assert {session.number for session in plan.sessions[100:]} <= {number for _, number in plan.told}
    assert 30 < plan.within(0.2, 0.6) < 55
    assert 30 < plan.within(0.6, 1.1) < 55


def test_it_is_over_when_all_have_left(loop):
    plan = Plan(loop, 100, 600.0)
    loop.call_later(3.0, lambda: [session.connection_lost(None) for session in plan.sessions])
    assert plan.run() < 10


def test_late_ones_are_closed_too(loop):
    plan = Plan(loop, 100, 20.0)
    loop.call_later(10.0, lambda: plan.sessions.extend(plan.session() for _ in range(100)))
    plan.run()
    assert len(plan.told) == 200
    assert 40 < plan.within(0, 0.5) < 60
    assert 60 < plan.within(0.55, 0.8) < 90
    assert 60 < plan.within(0.75, 1.0) < 90


def test_it_can_be_cut_short(loop):
    plan = Plan(loop, 100, 20.0)

    def cut() -> None:
        plan.cut = True

    loop.call_later(5.0, cut)
    assert 5 <= plan.run() < 5.2
    assert len(plan.told) == 100
    assert 15 < plan.within(0, 0.249) < 35


def test_no_seconds(loop):
    plan = Plan(loop, 100, 0.0)
    assert plan.run() == 0
    assert len(plan.told) == 100


# Over real sockets


async def open_all(server, stage, open_ws, count):
    opening = [asyncio.ensure_future(open_ws(server)) for _ in range(count)]
    acts = []
    for _ in range(count):
        act = await stage.next()
        await act.accept()
        acts.append(act)
    return acts, [await each for each in opening]


def shutting_down(server) -> asyncio.Task:
    return asyncio.ensure_future(server.server.shutdown())


def draining(act) -> asyncio.Event:
    assert act.scope["extensions"]["flowserve.draining"] == {}
    assert act.scope["state"] == {}
    event = act.variables.run(flowserve.draining)
    assert isinstance(event, asyncio.Event)
    return event


@pytest.mark.both_loops
async def test_closes_over_the_drain(serve, stage, open_ws):
    options = {"ws_shutdown_code": 1001, "ws_shutdown_reason": "moving on"}
    server = await serve(stage, timeout_drain=1.5, **options)
    acts, clients = await open_all(server, stage, open_ws, 40)
    events = [draining(act) for act in acts]
    assert not any(event.is_set() for event in events)
    loop = asyncio.get_running_loop()
    moments: list[float] = []

    async def told(act, client) -> None:
        assert await client.close_frame() == (1001, "moving on")
        moments.append(loop.time())
        assert events[0].is_set()
        message = await act.disconnected()
        assert (message["code"], message["reason"]) == (1001, "moving on")
        act.leave()
        await client.send_close(1001)
        await client.closed()

    begin = loop.time()
    telling = [asyncio.ensure_future(told(*pair)) for pair in zip(acts, clients, strict=True)]
    task = shutting_down(server)
    await within(events[0].wait())
    assert not moments
    with pytest.raises(OSError):
        await Client.connect(server.address)
    await within(asyncio.gather(*telling))
    await within(task)
    assert 5 <= sum(moment - begin < 0.75 for moment in moments) <= 35
    assert max(moments) - min(moments) > 0.5


@pytest.mark.parametrize("seconds", [0, 60])
async def test_the_application_says_goodbye(serve, connect, seconds):
    """The notice comes before the first close, whatever the drain; and a drain ends when all have left."""

    async def app(scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        notice = asyncio.ensure_future(flowserve.draining().wait())
        incoming = asyncio.ensure_future(receive())
        await asyncio.wait({notice, incoming}, return_when=asyncio.FIRST_COMPLETED)
        await send({"type": "websocket.send", "text": "see you"})
        if seconds:
            await send({"type": "websocket.close", "code": 4001, "reason": "bye"})
        await incoming

    server = await serve(app, timeout_drain=seconds)
    clients = [await connect(server) for _ in range(5)]
    for client in clients:
        await client.upgrade()
    task = shutting_down(server)
    for client in clients:
        assert await client.message() == "see you"
        code, _ = await client.close_frame()
        assert code == (4001 if seconds else 1012)
        await client.send_close(code)
        await client.closed()
    await within(task)


async def test_lifespan_has_the_event_and_ends_last(serve, connect):
    order: list[str] = []
    events: list[asyncio.Event] = []

    async def app(scope, receive, send):
        events.append(flowserve.draining())
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await events[0].wait()
            order.append("notice")
            await receive()
            order.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await echo(scope, receive, send)
            order.append("closed")

    server = await serve(app, lifespan="on", timeout_drain=0.2)
    clients = [await connect(server) for _ in range(3)]
    for client in clients:
        await client.upgrade()
    assert len(set(events)) == 1
    task = shutting_down(server)
    for client in clients:
        assert (await client.close_frame())[0] == 1012
        await client.send_close(1012)
    await within(task)
    assert order == ["notice", "closed", "closed", "closed", "shutdown"]


async def test_cut_ends_the_drain(serve, stage, open_ws):
    server = await serve(stage, timeout_drain=60, timeout_graceful_shutdown=60, ws_close_timeout=60)
    acts, clients = await open_all(server, stage, open_ws, 3)
    task = shutting_down(server)
    await within(draining(acts[0]).wait())
    server.server.cut()
    await within(task)
    for act, client in zip(acts, clients, strict=True):
        assert act.cancelled
        await client.rest()


# HTTP meanwhile


@pytest.fixture
async def busy(serve, stage, open_ws):
    """A server that drains for a minute, as one WebSocket stays open, and what ends it."""
    server = await serve(stage, timeout_drain=60)
    (act,), (client,) = await open_all(server, stage, open_ws, 1)
    tasks: list[asyncio.Task] = []

    async def begin() -> None:
        tasks.append(shutting_down(server))
        await within(draining(act).wait())

    server.begin, server.tasks = begin, tasks
    yield server
    act.leave()
    client.leave()
    for task in tasks:
        await within(task)


async def get(client, stage):
    await client.raw(GET)
    act = await stage.next()
    await act.answer(b"ok")
    return await client.response()


async def test_idle_connections_end_during_the_drain(busy, stage, connect):
    kept, fresh = await connect(busy), await connect(busy)
    assert (await get(kept, stage)).header("connection") is None
    await busy.begin()
    await kept.closed()
    await fresh.closed()
    assert not busy.tasks[0].done()


async def test_a_request_that_was_on_its_way_is_answered(busy, stage, connect):
    """On a connection that was busy, on one that is new, and on one where half of it had come."""
    kept, fresh, half = [await connect(busy) for _ in range(3)]
    assert (await get(kept, stage)).status == 200
    await half.raw(GET[:20])
    await until(lambda: len(busy.server._context.live) == 4)
    await busy.begin()
    for client, request in ((kept, GET), (fresh, GET), (half, GET[20:])):
        await client.raw(request)
        await (await stage.next()).answer(b"still here")
        response = await client.response()
        assert (response.status, response.body) == (200, b"still here")
        assert response.header("connection") == "close"
        await client.closed()
        await client.aclose()


async def test_a_connection_that_was_promised_to_stay(busy, stage, connect):
    """The head of the response said nothing of closing: the client may send its next request."""
    client = await connect(busy)
    await client.raw(GET)
    act = await stage.next()
    await act.start()
    await act.body(b"begun", more=True)
    assert (await client.head()).header("connection") is None
    await busy.begin()
    await act.body(b"done")
    act.leave()
    assert b"".join([chunk async for chunk in client.chunks()]) == b"begundone"
    response = await get(client, stage)
    assert (response.status, response.header("connection")) == (200, "close")
    await client.closed()
    await client.aclose()


async def test_a_slow_head_is_not_waited_for(busy, connect):
    client = await connect(busy)
    await client.raw(GET[:20])
    await until(lambda: len(busy.server._context.live) == 2)
    await busy.begin()
    assert (await client.response()).status == 408
    await client.closed()
    await client.aclose()


async def test_handshakes_on_kept_connections_are_refused(busy, stage, connect):
    client = await connect(busy)
    assert (await get(client, stage)).status == 200
    await busy.begin()
    await client.raw(UPGRADE)
    response = await client.response()
    assert (response.status, response.header("connection")) == (503, "close")
    await client.closed()
    await client.aclose()


async def test_a_handshake_under_way_is_completed(serve, stage, connect, open_ws):
    """Two that had begun and one whose connection had: they open, are told like the others, and last no longer."""
    server = await serve(stage, timeout_drain=1)
    clients = [await connect(server) for _ in range(4)]
    for client in clients[:3]:
        await client.raw(UPGRADE)
    acts = [await stage.next() for _ in range(3)]
    task = shutting_down(server)
    await within(draining(acts[0]).wait())
    await clients[3].raw(UPGRADE)
    acts.append(await stage.next())
    for act in acts[1:]:
        await act.accept()
    for client in clients[1:]:
        assert (await client.head()).status == 101
        assert (await client.close_frame())[0] == 1012
        await client.send_close(1012)
        await client.closed()
    for act in acts:
        assert (await act.disconnected())["code"] in (1012, 1006)
        act.leave()
    assert (await clients[0].response()).status == 503
    await clients[0].aclose()
    await within(task)


async def test_without_a_drain_handshakes_get_a_moment(serve, stage, connect):
    """One whose connection is there may still open, to be told at once; one that takes long is refused."""
    server = await serve(stage)
    client, fresh = await connect(server), await connect(server)
    await client.raw(UPGRADE)
    act = await stage.next()
    task = shutting_down(server)
    await within(draining(act).wait())
    await fresh.raw(UPGRADE)
    late = await stage.next()
    await late.accept()
    assert (await fresh.head()).status == 101
    assert (await fresh.close_frame())[0] == 1012
    await fresh.send_close(1012)
    assert (await client.response()).status == 503
    for each in (client, fresh):
        await each.aclose()
    act.leave()
    late.leave()
    await within(task)


# The command


@posix
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_sigterm_under_load(loop):
    options = ["--timeout-drain", "2", "--ws-shutdown-code", "1001", "--ws-shutdown-reason", "come again"]
    async with launched("support.draining:app", "--loop", loop, *options) as running:
        clients = [await Client.connect(running.address) for _ in range(150)]
        for client in clients:
            await client.upgrade()
        traffic = Traffic(running.address)
        requests = [asyncio.ensure_future(traffic.keep_alive()) for _ in range(3)]
        requests += [asyncio.ensure_future(traffic.one_each()) for _ in range(2)]
        await until(lambda: traffic.answered > 100 or any(request.done() for request in requests))
        time = asyncio.get_running_loop().time
        moments: list[float] = []

        async def told(client: Client) -> None:
            assert await client.close_frame() == (1001, "come again")
            moments.append(time())
            await client.send_close(1001)
            await client.closed()
            await client.aclose()

        telling = [asyncio.ensure_future(told(client)) for client in clients]
        begin = time()
        running.process.send_signal(signal.SIGTERM)
        await within(asyncio.gather(*telling), 2 * PATIENCE)
        await within(asyncio.gather(*requests))
        status, out = await running.wait()
    assert status == 0
    assert out.split() == ["disconnect"] * 150 + ["shutdown"]
    assert "Closing 150 open WebSockets over 2s" in running.log
    assert "Cutting" not in running.log
    assert "Traceback" not in running.log
    assert 15 <= sum(moment - begin < 1 for moment in moments) <= 135
    assert max(moments) - min(moments) > 0.8


@posix
async def test_a_second_signal_cuts_the_drain_short():
    options = ["--timeout-drain", "10m", "--timeout-graceful-shutdown", "10m"]
    async with launched("support.draining:app", *options) as running:
        client = await Client.connect(running.address)
        await client.upgrade()
        running.process.send_signal(signal.SIGTERM)
        await running.logged("Closing 1 open WebSocket over 600s")
        running.process.send_signal(signal.SIGTERM)
        await client.rest()
        await client.aclose()
        await running.wait()
    assert "SIGTERM again" in running.log
    assert "Traceback" not in running.log


@posix
async def test_starlette_says_goodbye(tmp_path):
    """The example of flowserve/asgi/README.md."""
    (example,) = blocks(section("flowserve/asgi/README.md", "flowserve.draining"), "python")
    (tmp_path / "farewell.py").write_text(example, "utf-8")
    async with launched("farewell:app", "--app-dir", str(tmp_path), "--timeout-drain", "300ms") as running:
        client = await Client.connect(running.address)
        await client.upgrade()
        await client.send_text("hello")
        assert await client.message() == "hello"
        running.process.send_signal(signal.SIGTERM)
        notice = json.loads(await client.message())
        assert notice["restarting"] is True
        assert 0 <= notice["reconnect_after"] <= 10
        assert (await client.close_frame())[0] == 1012
        await client.send_close(1012)
        await client.closed()
        await client.aclose()
        status, _ = await running.wait()
    assert status == 0
    assert "Traceback" not in running.log
