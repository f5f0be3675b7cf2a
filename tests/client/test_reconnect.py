"""async for ws in connect(): what is worth another try, after how long, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import socket
import ssl
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from support.helpers import TEXT, frame, until, within
from support.scripted import Peer, Scripted, closed, descriptors, nothing_left, talk

from flowserve.client import reconnect
from flowserve.client.connect import connect
from flowserve.client.reconnect import Schedule, backoff, process_exception, retry_after
from flowserve.errors import (
    ConfigError,
    ConnectionClosed,
    ConnectionClosedError,
    HandshakeError,
    InvalidProxy,
    InvalidURI,
    ProxyError,
)


def soon():
    return itertools.repeat(0.001)


async def hello_and_cut(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(TEXT, b"hello", mask=None))
    peer.cut()


def objects() -> int:
    """What there is of everything that connections are made of; but for timers that were cancelled, of which asyncio
    keeps up to a hundred until their time."""
    rooms = ("flowserve", "asyncio", "_asyncio", "uvloop", "_ssl", "_contextvars", "builtins.coroutine")
    return sum(
        f"{type(each).__module__}.{type(each).__name__}".startswith(rooms)
        for each in gc.get_objects()
        if not (issubclass(type(each), asyncio.TimerHandle) and each.cancelled())  # a proxy may raise for its class
    )


@pytest.mark.both_loops
async def test_a_hundred_losses(logs):
    """A server that is stopped and started again on its port, with all that this does to connections."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        while (await receive())["type"] == "websocket.receive":
            pass

    from flowserve import Config, Server

    async def start(port: int) -> Server:
        server = Server(
            Config(app, host="127.0.0.1", port=port, lifespan="off", ws_close_timeout=0.2, access_log=False)
        )
        await within(server.startup())
        return server

    server = await start(0)
    port = server.sockets[0].getsockname()[1]
    losses, restarts = 0, 0
    counts: list[tuple[int, int, int]] = []
    try:
        async for ws in connect(f"ws://127.0.0.1:{port}/", reconnect_delays=soon, close_timeout=0.5):
            assert await within(ws.recv()) == "hello"
            if losses == 100:
                break
            if losses % 10 == 5:
                down = asyncio.create_task(server.shutdown())
                with pytest.raises(ConnectionClosed):
                    await within(ws.recv())
                await within(down)
                server = await start(port)
                restarts += 1
            else:
                for each in list(server._context.live):
                    each.abort()
                with pytest.raises(ConnectionClosedError):
                    await within(ws.recv())
            losses += 1
            if losses in (20, 100):
                gc.collect()
                counts.append((len(asyncio.all_tasks()), descriptors(), objects()))
        await until(lambda: ws.close_code is not None)
    finally:
        await within(server.shutdown())
    assert (losses, restarts) == (100, 10)
    (tasks, files, things), (tasks_after, files_after, things_after) = counts
    assert tasks_after <= tasks
    assert files_after <= files + 1  # the socket of the loss before may be closed a turn later
    assert things_after <= things + 40, "less than one for each of 80 connections"
    assert len([line for line in logs.lines() if "was lost (1006); connecting again in 0.0 s" in line]) == 90


@pytest.mark.both_loops
async def test_leaving_the_loop_closes():
    """By break, by an error, and by being cancelled."""
    codes: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.open()
        codes.append(await closed(peer))

    async with nothing_left(), Scripted(script) as server:
        async for _ in connect(server.url()):
            break
        await until(lambda: len(codes) == 1)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async for _ in connect(server.url()):
                raise ZeroDivisionError
        await until(lambda: len(codes) == 2)
        inside = asyncio.Event()

        async def client() -> None:
            async for _ in connect(server.url()):
                inside.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(client())
        await within(inside.wait())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: len(codes) == 3)
    assert codes == [1000, 1000, 1000]


async def test_the_bodys_end_closes_and_the_next_comes_at_once(logs):
    """There is no reason to wait where nothing was lost."""
    codes: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.open()
        codes.append(await closed(peer))

    async with nothing_left(), Scripted(script) as server:
        count = 0
        async for ws in connect(server.url(), reconnect_delays=lambda: itertools.repeat(60.0)):
            count += 1
            if count == 2:
                await ws.close(1001)
            if count == 4:
                break
        await until(lambda: len(codes) == 4)
    assert codes == [1000, 1001, 1000, 1000]
    assert logs.lines() == []


async def test_tries_again_until_it_works(logs):
    """Each of these may pass."""

    async def cut(peer: Peer) -> None:
        peer.cut()

    async def busy(peer: Peer) -> None:
        await peer.refuse("503 Service Unavailable", "Retry-After: 0")

    async def often(peer: Peer) -> None:
        await peer.refuse("429 Too Many Requests")

    async def silent(peer: Peer) -> None:
        await peer.gone()

    async with nothing_left(), Scripted(cut, busy, often, silent, talk) as server:
        async for ws in connect(server.url(), reconnect_delays=soon, open_timeout=0.1):
            assert await within(ws.recv()) == "hello"
            break
        await until(lambda: ws.close_code is not None)
    lines = logs.lines()
    assert len(lines) == 4
    assert all(
        line.startswith(f"Could not connect to {server_url(lines[0])}; trying again in 0.0 s: ") for line in lines
    )
    assert lines[1].endswith("503: the server did not open a WebSocket")
    assert "timed out after 0.1 s" in lines[3]


def server_url(line: str) -> str:
    return line.split("; ")[0].removeprefix("Could not connect to ")


@pytest.mark.parametrize("status", ["400 Bad", "401 Who", "403 No", "404 Where", "501 What", "200 OK"])
async def test_does_not_try_again(status, logs):
    async def script(peer: Peer) -> None:
        await peer.refuse(status)

    async with nothing_left(), Scripted(script) as server:
        with pytest.raises(HandshakeError, match=status[:3]):
            async for _ in connect(server.url(), reconnect_delays=soon):
                pass
        assert len(server.peers) == 1
    assert logs.lines() == []


async def test_process_exception_decides():
    async def no(peer: Peer) -> None:
        await peer.refuse("403 No")

    async def busy(peer: Peer) -> None:
        await peer.refuse("503 Busy")

    seen: list[Exception] = []

    def patient(error: Exception) -> Exception | None:
        seen.append(error)
        return None

    async with nothing_left(), Scripted(no, talk) as server:
        async for _ in connect(server.url(), reconnect_delays=soon, process_exception=patient):
            break
        assert [error.status for error in seen] == [403]
    async with nothing_left(), Scripted(busy) as server:
        with pytest.raises(KeyError) as caught:
            async for _ in connect(server.url(), process_exception=lambda error: KeyError("mine")):
                pass
        assert caught.value.__cause__.status == 503

        def raising(error: Exception) -> None:
            raise KeyError("mine") from error

        with pytest.raises(KeyError, match="mine"):
            async for _ in connect(server.url(), process_exception=raising):
                pass
        with pytest.raises(HandshakeError, match="503"):
            async for _ in connect(server.url(), process_exception=lambda error: error):
                pass


async def test_the_delays_end():
    async def busy(peer: Peer) -> None:
        await peer.refuse("503 Busy")

    async with nothing_left(), Scripted(busy) as server:
        with pytest.raises(HandshakeError, match="503"):
            async for _ in connect(server.url(), reconnect_delays=lambda: [0.001, 0.001]):
                pass
        assert len(server.peers) == 3
    async with nothing_left(), Scripted(hello_and_cut) as server:
        count = 0
        async for ws in connect(server.url(), reconnect_delays=lambda: [0.001, 0.001]):
            count += 1
            with contextlib.suppress(ConnectionClosed):
                await within(ws.recv())
                await within(ws.recv())
        assert count == 3


async def test_the_delays_begin_anew_after_a_connection_that_held(monkeypatch):
    async with nothing_left(), Scripted(hello_and_cut) as server:
        for held, delays in ((60.0, [0.001, 0.002, 0.003]), (0.0, [0.001] * 3)):
            monkeypatch.setattr("flowserve.client.connect.STABLE_SECONDS", held)
            waited: list[float] = []

            def series():
                for delay in (0.001, 0.002, 0.003, 60.0):
                    waited.append(delay)  # noqa: B023
                    yield delay

            count = 0
            async for ws in connect(server.url(), reconnect_delays=series):
                count += 1
                if count == 4:
                    break
                with contextlib.suppress(ConnectionClosed):
                    await within(ws.recv())
                    await within(ws.recv())
            assert waited == delays


@pytest.mark.both_loops
async def test_cancelled_while_it_waits_for_the_next_try():
    async def busy(peer: Peer) -> None:
        await peer.refuse("503 Busy", "Retry-After: 60")

    async with nothing_left(), Scripted(busy) as server:

        async def client() -> None:
            async for _ in connect(server.url()):
                pass

        task = asyncio.create_task(client())
        await until(lambda: len(server.peers) == 1)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_what_is_worth_another_try():
    lost = HandshakeError(0, "closed")
    lost.__cause__ = EOFError()
    for error in (
        *(ConnectionResetError(), socket.gaierror(), TimeoutError(), asyncio.TimeoutError(), lost),
        *(ssl.SSLCertVerificationError(), ProxyError(502, "x")),
        *(HandshakeError(status, "x") for status in (429, 500, 502, 503, 504)),
    ):
        assert process_exception(error) is None
    for error in (
        *(InvalidURI("x"), InvalidProxy("x"), ConfigError("x"), ValueError(), HandshakeError(0, "no HTTP")),
        *(ProxyError(407, "x"), *(HandshakeError(status, "x") for status in (101, 302, 400, 401, 403, 404, 501))),
    ):
        assert process_exception(error) is error


def test_backoff_grows_up_to_its_bound_with_jitter():
    series = [list(itertools.islice(backoff(5, 3, 20, 2), 7)) for _ in range(200)]
    for first, *others in series:
        assert 0 <= first <= 5
        for delay, most in zip(others, (3, 6, 12, 20, 20, 20), strict=True):
            assert most / 2 <= delay <= most
    assert len({each[0] for each in series}) > 150
    schedule = Schedule(lambda: [1.0, 2.0])
    assert [schedule.next(), schedule.next(), schedule.next()] == [1.0, 2.0, None]
    schedule.reset()
    assert schedule.next() == 1.0


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (b"7", 7, 7),
        (b"0", 0, 0),
        (b"99999999999999999999", 300, 300),
        pytest.param(b"9" * 5000, 300, 300, id="more digits than int() takes"),
        pytest.param(b"Sun, 06 Nov " + b"9" * 5000 + b" 08:49:37 GMT", 0, 0, id="a year of as many"),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 0, 0),
        (b"Sun, 06 Nov 9994 08:49:37 GMT", 300, 300),
        (b"soon", 0, 0),
        (b"-5", 0, 0),
        (b"", 0, 0),
        ("²".encode("latin-1"), 0, 0),
    ],
)
def test_retry_after(value, least, most):
    assert least <= retry_after(HandshakeError(503, "x", [(b"retry-after", value)])) <= most
    assert retry_after(OSError()) == 0
    assert reconnect.LONGEST_RETRY_AFTER == 300


def test_retry_after_a_date():
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    assert 60 < retry_after(HandshakeError(503, "x", [(b"retry-after", date.encode())])) <= 100


async def test_retry_after_is_waited_for(monkeypatch, logs):
    async def busy(peer: Peer) -> None:
        await peer.refuse("503 Busy", "Retry-After: 3600")

    monkeypatch.setattr(reconnect, "LONGEST_RETRY_AFTER", 0.25)
    async with nothing_left(), Scripted(busy, talk) as server:
        began = asyncio.get_running_loop().time()
        async for _ in connect(server.url(), reconnect_delays=soon):
            break
        assert asyncio.get_running_loop().time() - began >= 0.24
    assert "trying again in 0.2 s" in logs.lines()[0]
