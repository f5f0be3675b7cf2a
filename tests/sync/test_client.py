"""Connecting from threads: what fails, reconnecting, other servers."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable

import aiohttp.web
import pytest
from support.helpers import PATIENCE, within
from support.scripted import Certificates, Scripted, nothing_left, silent, talk
from support.threads import Interrupted, echo, interrupted_by, served

import flowserve
from flowserve.sync import WebSocket, connect, reconnect, unix_connect
from flowserve.sync.loop_thread import loop_thread


def test_tls():
    certificates = Certificates()
    with (
        served(echo, ssl=certificates.server()) as uri,
        connect(uri, ssl=certificates.client(), proxy=None) as ws,
    ):
        ws.send("x")
        assert ws.receive(PATIENCE) == "x"


def test_without_a_block():
    with served(echo) as uri:
        ws = connect(uri)
        assert isinstance(ws, WebSocket)
        ws.close(1001, "bye")
        assert (ws.close_code, ws.close_reason) == (1001, "bye")


def test_what_fails_is_raised_here():
    with pytest.raises(flowserve.InvalidURI):
        connect("http://example.com")
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        connect("ws://example.com", colour="red")
    with pytest.raises(flowserve.ConfigError, match="max_redirects"):
        reconnect("ws://example.com", max_redirects=-1)
    with pytest.raises(ConnectionRefusedError):
        connect("ws://127.0.0.1:1")
    with served(echo, process_request=lambda ws, request: ws.respond(404, "none")) as uri:
        with pytest.raises(flowserve.HandshakeError, match="404") as caught:
            connect(uri)
        assert caught.value.body == b"none"


@pytest.mark.parametrize("function", [connect, reconnect, unix_connect])
def test_the_signature_is_that_of_the_asynchronous_one(function):
    model = flowserve.unix_connect if function is unix_connect else flowserve.connect
    assert inspect.signature(function) == inspect.signature(model)


async def test_a_server_that_says_nothing():
    loop_thread()  # which stays
    async with nothing_left(), Scripted(silent) as server:
        with pytest.raises(TimeoutError, match="waiting for the answer"):
            await asyncio.to_thread(connect, server.url(), open_timeout=0.05)


def test_interrupted_while_it_connects():
    asked, stop = threading.Event(), threading.Event()

    def slow(ws, request):
        asked.set()
        stop.wait(PATIENCE)

    with served(echo, process_request=slow) as uri:
        with pytest.raises(Interrupted), interrupted_by(asked):
            connect(uri)
        stop.set()


async def test_unix_sockets(tmp_path):
    path = str(tmp_path / "s")
    async with Scripted(talk, path=path):

        def visit() -> None:
            with unix_connect(path) as ws:
                assert ws.receive(PATIENCE) == "hello"

        await within(asyncio.to_thread(visit))


async def test_aiohttp(aiohttp_server: Callable[[], str]):
    def visit(uri: str) -> None:
        with connect(uri) as ws:
            ws.send("x" * 100_000)
            assert ws.receive(PATIENCE) == "x" * 100_000
            ws.send(b"\x00" * 100_000)
            assert ws.receive(PATIENCE) == b"\x00" * 100_000
            assert ws.ping(timeout=PATIENCE) > 0
        assert ws.close_code == 1000

    await within(asyncio.to_thread(visit, aiohttp_server))


@pytest.fixture
async def aiohttp_server():
    async def handler(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        ws = aiohttp.web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await (ws.send_str if message.type is aiohttp.WSMsgType.TEXT else ws.send_bytes)(message.data)
        return ws

    application = aiohttp.web.Application()
    application.router.add_get("/", handler)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


def test_reconnecting():
    """After a loss, after the body has ended, and not after the loop was left."""
    visits = []

    def count(ws):
        visits.append(ws)
        ws.send(str(len(visits)))
        if len(visits) == 1:
            ws.close(1011)
        else:
            list(ws)

    with served(count) as uri:
        got = []
        for ws in reconnect(uri, reconnect_delays=lambda: [0, 0, 0]):
            got.append(ws.receive(PATIENCE))
            if got == ["1"]:
                with pytest.raises(flowserve.ConnectionClosedError):
                    ws.receive(PATIENCE)
                continue
            if len(got) == 3:
                break
        del ws
        assert got == ["1", "2", "3"]
        assert len(visits) == 3


def test_reconnecting_ends():
    def close(ws):
        ws.close(1011)

    with served(close) as uri:
        codes = []
        for ws in reconnect(uri, reconnect_delays=lambda: [0]):
            ws.wait_closed(PATIENCE)
            codes.append(ws.close_code)
        assert codes == [1011, 1011]
    with pytest.raises(ConnectionRefusedError):
        next(reconnect(uri, reconnect_delays=lambda: [0]))


def test_callbacks_must_not_wait_for_themselves():
    def process(error: Exception) -> Exception | None:
        try:
            connect("ws://127.0.0.1:1")
        except RuntimeError as said:
            return said
        return None

    with pytest.raises(RuntimeError, match=r"a callback can't use flowserve\.sync"):
        next(reconnect("ws://127.0.0.1:1", process_exception=process))
