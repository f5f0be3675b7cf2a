"""Foreign clients against flowserve, and the frameworks that it is made for behind it.

A client that is not installed is skipped; with FLOWSERVE_CI set that is a failure.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import shutil
import subprocess
import urllib.request

import pytest
from support.helpers import LONGEST_TEST, echo, hello, within


def need(condition: object, what: str) -> None:
    """Skip without `what`, except where everything must be there."""
    if not condition:
        if os.environ.get("FLOWSERVE_CI"):
            pytest.fail(f"{what} is not installed here")
        pytest.skip(f"{what} is not installed")


def need_module(name: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        need(None, name)


def need_program(name: str) -> str:
    path = shutil.which(name)
    need(path, name)
    assert path is not None
    return path


async def run(*command: str, stdin: bytes | None = None) -> bytes:
    """The standard output of a program that must succeed."""
    # A pipe only for a program that reads it: writing to one that has ended already is an error.
    source = subprocess.DEVNULL if stdin is None else subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = await within(process.communicate(stdin), LONGEST_TEST / 2)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return out


# websockets


@pytest.mark.both_loops
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_websockets(serve, compression):
    client = need_module("websockets.asyncio.client")
    server = await serve(echo)
    async with client.connect(server.ws_url, compression=compression, subprotocols=["chat"], proxy=None) as ws:
        assert ws.subprotocol == "chat"
        for message in ("", "hello", b"", bytes(range(256)) * 1000, "\u03ba" * 70_000):
            await ws.send(message)
            assert await within(ws.recv()) == message
        await ws.send(["frag", "ment", "ed"])
        assert await within(ws.recv()) == "fragmented"
        await within(await ws.ping())
        await ws.send("close")
        with pytest.raises(importlib.import_module("websockets.exceptions").ConnectionClosed) as closed:
            await within(ws.recv())
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "as you wish")


async def test_websockets_closes(serve, stage):
    client = need_module("websockets.asyncio.client")
    server = await serve(stage)
    connecting = asyncio.ensure_future(client.connect(server.ws_url, proxy=None).__aenter__())
    act = await stage.next()
    await act.accept()
    ws = await within(connecting)
    closing = asyncio.ensure_future(ws.close(4001, "bye"))
    assert await act.receive() == {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}
    act.leave()
    await within(closing)
    assert ws.close_code == 4001


async def test_websockets_sees_a_denial(serve):
    client = need_module("websockets.asyncio.client")
    exceptions = importlib.import_module("websockets.exceptions")

    async def app(scope, receive, send):
        await receive()
        headers = [(b"content-type", b"text/plain"), (b"x-why", b"because")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"who are you?"})

    server = await serve(app)
    with pytest.raises(exceptions.InvalidStatus) as denied:
        await within(client.connect(server.ws_url, proxy=None))
    assert denied.value.response.status_code == 401
    assert denied.value.response.headers["x-why"] == "because"
    assert denied.value.response.body == b"who are you?"


async def test_websockets_many_at_once(serve):
    client = need_module("websockets.asyncio.client")
    server = await serve(echo)

    async def visit(number: int) -> None:
        async with client.connect(server.ws_url, proxy=None) as ws:
            for turn in range(20):
                await ws.send(f"{number} {turn}")
                assert await ws.recv() == f"{number} {turn}"

    await within(asyncio.gather(*(visit(number) for number in range(50))), 30)


# aiohttp


@pytest.mark.both_loops
async def test_aiohttp_websocket(serve):
    aiohttp = need_module("aiohttp")
    server = await serve(echo)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(server.url, protocols=["chat"], compress=15) as ws,
    ):
        assert ws.protocol == "chat"
        await ws.send_str("hello")
        assert await ws.receive_str(timeout=10) == "hello"
        await ws.send_bytes(bytes(100_000))
        assert await ws.receive_bytes(timeout=10) == bytes(100_000)
        await ws.ping(b"x")
        await ws.close(code=4002, message=b"bye")
        assert ws.close_code == 4002


async def test_aiohttp_requests(serve):
    aiohttp = need_module("aiohttp")
    server = await serve(echo)

    async def parts():
        for number in range(100):
            yield b"%d " % number

    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.post(server.url, data=parts()) as response:
                assert response.status == 200
                assert await response.read() == b"".join(b"%d " % number for number in range(100))
        async with session.post(server.url, data=b"x" * 100_000, expect100=True) as response:
            assert await response.read() == b"x" * 100_000


# picows


async def test_picows(serve):
    picows = need_module("picows")
    server = await serve(echo)
    frames: asyncio.Queue = asyncio.Queue()

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport, frame):
            if frame.msg_type == picows.WSMsgType.CLOSE:
                frames.put_nowait((frame.get_close_code(), frame.get_close_message()))
                transport.send_close(frame.get_close_code())
                transport.disconnect()
            else:
                frames.put_nowait((frame.msg_type, frame.get_payload_as_bytes()))

    transport, _ = await within(picows.ws_connect(Listener, server.ws_url))
    transport.send(picows.WSMsgType.TEXT, b"hello")
    assert await within(frames.get()) == (picows.WSMsgType.TEXT, b"hello")
    transport.send(picows.WSMsgType.BINARY, bytes(100_000))
    assert await within(frames.get()) == (picows.WSMsgType.BINARY, bytes(100_000))
    transport.send_ping(b"p")
    assert await within(frames.get()) == (picows.WSMsgType.PONG, b"p")
    transport.send(picows.WSMsgType.TEXT, b"close")
    code, reason = await within(frames.get())
    assert code == 4000
    assert reason in ("as you wish", b"as you wish")
    await within(transport.wait_disconnected())


# httpx and the standard library


async def test_httpx(serve):
    httpx = need_module("httpx")
    server = await serve(echo)

    async def parts():
        for number in range(100):
            yield b"%d " % number

    expected = b"".join(b"%d " % number for number in range(100))
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        for _ in range(3):
            response = await client.post("/", content=parts())
            assert (response.status_code, response.content) == (200, expected)
            assert (await client.put("/", content=b"x" * 300_000)).content == b"x" * 300_000
        assert (await client.head("/")).content == b""
        async with client.stream("POST", "/", content=parts()) as response:
            assert b"".join([part async for part in response.aiter_bytes()]) == expected


async def test_urllib(serve):
    server = await serve(echo)

    def ask(data: bytes | None) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(server.url, data=data), timeout=10) as response:
            assert response.status == 200
            return response.read()

    for data in (None, b"hello", b"x" * 300_000):
        assert await asyncio.get_running_loop().run_in_executor(None, ask, data) == (data or b"")


# curl


def curl(*arguments: str) -> tuple[str, ...]:
    return need_program("curl"), "--silent", "--show-error", "--noproxy", "*", "--max-time", "20", *arguments


@pytest.mark.both_loops
async def test_curl(serve):
    server = await serve(echo)
    assert await run(*curl("--data-binary", "hello", server.url)) == b"hello"
    assert await run(*curl("--http1.0", "--data-binary", "hello", server.url)) == b"hello"
    assert await run(*curl("-H", "Transfer-Encoding: chunked", "--data-binary", "hello", server.url)) == b"hello"
    big = b"0123456789abcdef" * 200_000  # curl asks with Expect: 100-continue
    assert await run(*curl("--data-binary", "@-", server.url), stdin=big) == big
    assert await run(*curl("-H", "Transfer-Encoding: chunked", "-T", "-", server.url), stdin=big) == big


async def test_curl_keeps_the_connection(serve):
    server = await serve(hello)
    out = await run(*curl("-w", "%{num_connects},", server.url, server.url, server.url))
    assert out == b"hello1,hello0,hello0,"


async def test_curl_head_and_upgrade(serve):
    server = await serve(hello)
    out = await run(*curl("--head", server.url))
    assert out.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 5\r\n" in out.lower()
    assert await run(*curl("--http2", server.url)) == b"hello"  # Upgrade: h2c


@pytest.mark.skipif(not hasattr(asyncio, "open_unix_connection"), reason="UNIX sockets")
async def test_curl_over_a_unix_socket(serve, tmp_path):
    path = str(tmp_path / "s")
    await serve(hello, uds=path)
    assert await run(*curl("--unix-socket", path, "http://localhost/")) == b"hello"


# node


NODE = """
const url = process.argv[1];
const ws = new WebSocket(url, ["chat"]);
ws.binaryType = "arraybuffer";
const got = [];
ws.onopen = () => { ws.send("hello"); };
ws.onmessage = (event) => {
  if (typeof event.data === "string") {
    got.push(event.data);
    ws.send(event.data === "hello" ? new Uint8Array(70000).fill(7) : "close");
  } else {
    got.push(new Uint8Array(event.data).reduce((sum, each) => sum + each, 0));
    ws.send("last");
  }
};
ws.onclose = (event) => {
  const {code, reason, wasClean} = event;
  console.log(JSON.stringify({got, protocol: ws.protocol, code, reason, wasClean}));
};
ws.onerror = (event) => { console.error(event.message); process.exit(1); };
"""


async def node(script: str, *arguments: str) -> bytes:
    path = need_program("node")
    major = int(re.match(r"v(\d+)", (await run(path, "--version")).decode())[1])
    need(major >= 20, "a node with WebSocket")
    return await run(path, *(["--experimental-websocket"] if major < 22 else []), "-e", script, *arguments)


@pytest.mark.both_loops
async def test_node_websocket(serve):
    out = json.loads(await node(NODE, (await serve(echo)).ws_url))
    assert out == {
        "got": ["hello", 490000, "last"],
        "protocol": "chat",
        "code": 4000,
        "reason": "as you wish",
        "wasClean": True,
    }


async def test_node_fetch(serve):
    script = """
    const response = await fetch(process.argv[1], {method: "POST", body: "hello".repeat(10000)});
    console.log(response.status, (await response.text()).length);
    """
    server = await serve(echo)
    out = await node(f"(async () => {{{script}}})().catch((e) => {{ console.error(e); process.exit(1); }})", server.url)
    assert out == b"200 50000\n"


# Frameworks


async def test_starlette(serve):
    websockets = need_module("websockets.asyncio.client")
    httpx = need_module("httpx")
    need_module("starlette")
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocketDisconnect

    ended: asyncio.Queue = asyncio.Queue()
    worked = asyncio.Event()

    async def numbers(request):
        async def body():
            for number in range(5):
                yield f"{number}\n"
                await asyncio.sleep(0)

        return StreamingResponse(body())

    async def posted(request):
        data = await request.json()
        return JSONResponse(data, background=BackgroundTask(worked.set))

    async def room(websocket):
        if websocket.query_params.get("key") != "secret":
            return await websocket.send_denial_response(PlainTextResponse("no key", 401))
        await websocket.accept(subprotocol="chat", headers=[(b"x-room", b"1")])
        try:
            while True:
                await websocket.send_json({"you said": await websocket.receive_text()})
        except WebSocketDisconnect as left:
            ended.put_nowait((left.code, left.reason))

    routes = [Route("/numbers", numbers), Route("/post", posted, methods=["POST"]), WebSocketRoute("/room", room)]
    server = await serve(Starlette(routes=routes), lifespan="on")
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        assert (await client.get("/numbers")).text == "0\n1\n2\n3\n4\n"
        assert (await client.post("/post", json={"a": 1})).json() == {"a": 1}
        await within(worked.wait())
        assert (await client.get("/nowhere")).status_code == 404
    async with websockets.connect(f"{server.ws_url}/room?key=secret", subprotocols=["chat"], proxy=None) as ws:
        assert ws.response.headers["x-room"] == "1"
        await ws.send("hello")
        assert json.loads(await within(ws.recv())) == {"you said": "hello"}
        await ws.close(4001, "bye")
    assert await within(ended.get()) == (4001, "bye")
    with pytest.raises(importlib.import_module("websockets.exceptions").InvalidStatus) as denied:
        await within(websockets.connect(f"{server.ws_url}/room", proxy=None))
    assert (denied.value.response.status_code, denied.value.response.body) == (401, b"no key")


async def test_fastapi(serve):
    websockets = need_module("websockets.asyncio.client")
    httpx = need_module("httpx")
    need_module("fastapi")
    from fastapi import FastAPI, WebSocket, WebSocketDisconnect

    app = FastAPI()
    ended: asyncio.Queue = asyncio.Queue()

    async def add(a: int, b: int):
        return {"sum": a + b}

    async def echo_json(websocket: WebSocket):
        await websocket.accept()
        try:
            async for data in websocket.iter_json():
                await websocket.send_json(data)
        except WebSocketDisconnect:
            pass
        ended.put_nowait("ended")

    app.add_api_route("/add", add)
    echo_json.__annotations__["websocket"] = WebSocket
    app.add_api_websocket_route("/ws", echo_json)
    server = await serve(app, lifespan="on", root_path="")
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        assert (await client.get("/add", params={"a": 1, "b": 2})).json() == {"sum": 3}
        assert (await client.get("/add", params={"a": "x"})).status_code == 422
        assert (await client.get("/openapi.json")).status_code == 200
    async with websockets.connect(f"{server.ws_url}/ws", proxy=None) as ws:
        for data in ({"a": [1, 2]}, "text", None):
            await ws.send(json.dumps(data))
            assert json.loads(await within(ws.recv())) == data
    assert await within(ended.get()) == "ended"
