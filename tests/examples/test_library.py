"""The library's examples, each as a program of its own: a server among them beside a client among them."""

from __future__ import annotations

import asyncio
import builtins
import json
import os
import re
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trustme
from helpers import within

import flowserve
from flowserve import WebSocket, serve

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "library"
Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`process = await start("client.py", "ws://…")`; whatever still runs at the end is killed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLOWSERVE_") or k == "FLOWSERVE_PURE"}
    started: list[asyncio.subprocess.Process] = []

    async def run(name: str, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            name,
            *arguments,
            cwd=FOLDER,
            env=environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await within(process.stdout.readline())).decode().rstrip("\n")


async def output(process: asyncio.subprocess.Process, given: str | None = None) -> str:
    """What a client prints until its end, which must be a good one."""
    out, err = await within(process.communicate(None if given is None else given.encode()))
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files in PEM: ca, cert, key."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    files = {"ca": authority.cert_pem, "key": leaf.private_key_pem}
    for name, blob in files.items():
        blob.write_to_path(str(folder / f"{name}.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return {name: str(folder / f"{name}.pem") for name in ("ca", "cert", "key")}


async def test_client_and_echo_server(start: Start) -> None:
    uri = await line(await start("echo_server.py", "0"))
    client = await start("client.py", uri)
    assert client.stdin is not None
    client.stdin.write("hello\n\N{SNOWMAN}\n".encode())
    assert await line(client) == "hello"
    assert await line(client) == "\N{SNOWMAN}"
    assert await output(client, "") == ""  # the end of its input


async def test_client_and_server_over_tls(start: Start, certificates: dict[str, str]) -> None:
    uri = await line(await start("echo_server_tls.py", certificates["cert"], certificates["key"], "0"))
    said = await output(await start("client_tls.py", uri, certificates["ca"]))
    assert re.fullmatch(r"hello\na ping took \d+\.\d ms\n", said)


async def test_fragmented_client(start: Start) -> None:
    uri = await line(await start("echo_server.py", "0"))
    said = await output(await start("fragmented_client.py", uri))
    assert said.startswith(f"{sum(len(f'{n} ') for n in range(100_000))} characters")


async def test_simple_server(start: Start) -> None:
    server = await start("simple_server.py", "0")
    uri = await line(server)
    async with flowserve.connect(uri) as one, flowserve.connect(uri) as two:
        assert re.fullmatch(r"\S{36} came, from 127.0.0.1", await line(server))
        assert re.fullmatch(r"\S{36} came, from 127.0.0.1", await line(server))
        await one.send("to you")
        assert await within(two.receive()) == "to you"
        await two.close(4001, "bye")
        assert re.fullmatch(r"\S{36} left: 4001 bye", await line(server))
        one.abort()
        assert re.fullmatch(r"\S{36} failed: .+", await line(server))
        assert re.fullmatch(r"\S{36} left: 1006 ", await line(server))


async def test_simple_server_over_tls(start: Start, certificates: dict[str, str]) -> None:
    uri = await line(await start("simple_server_tls.py", certificates["cert"], certificates["key"], "0"))
    async with flowserve.connect(uri, ca_file=certificates["ca"]) as ws:
        for number in (1, 2):
            await ws.send("x")
            assert await within(ws.receive()) == f"message {number}"


async def test_feed_client(start: Start, certificates: dict[str, str]) -> None:
    """Against a stand-in for the public feed, over TLS, that is lost once."""
    visits = 0

    async def feed(ws: WebSocket) -> None:
        nonlocal visits
        visits += 1
        await ws.send(json.dumps({"s": "BTCUSDT", "p": f"{visits}000.50", "q": "0.25000000"}))
        if visits == 1:
            ws.abort()
        await ws.wait_closed()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates["cert"], certificates["key"])
    async with serve(feed, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        client = await start("feed_client.py", f"wss://localhost:{port}/ws/btcusdt@trade", certificates["ca"])
        seen = [await line(client)]
        while seen[-1] != "BTCUSDT 2,000.50 x 0.25":
            assert seen[-1] == "BTCUSDT 1,000.50 x 0.25"
            seen.append(await line(client))


async def test_autobahn_client_and_server(start: Start) -> None:
    """The client against a stand-in with three cases that Autobahn has, too; the server against a client."""
    reported = asyncio.Event()
    echoed: list[str | bytes] = []

    async def cases(ws: WebSocket) -> None:
        assert ws.request is not None
        path = ws.request.path
        if path == "/getCaseCount":
            await ws.send("2")
        elif path.startswith("/runCase?case=1&agent=me"):
            await ws.send("*" * 70_000)
            echoed.append(await ws.receive())
        elif path.startswith("/runCase?case=2&agent=me"):
            ws.session.connection.send_fragment(False, b"a continuation of nothing", False, True)
            ws.session.flush()
            await ws.wait_closed()
            assert ws.close_code == 1002
        elif path == "/updateReports?agent=me":
            reported.set()

    async with serve(cases, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        said = await output(await start("autobahn_client.py", f"ws://127.0.0.1:{port}", "me"))
    assert said == "case 1 of 2\ncase 2 of 2\n"
    assert echoed == ["*" * 70_000]
    assert reported.is_set()

    uri = await line(await start("autobahn_server.py", "0"))
    async with flowserve.connect(uri) as ws:
        await ws.send(b"\x00" * 70_000)
        assert await within(ws.receive()) == b"\x00" * 70_000


def test_every_example_is_in_the_list() -> None:
    listed = re.findall(r"^\| \[(\w+\.py)\]", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in FOLDER.glob("*.py"))


def test_the_names_in_the_table_are_there() -> None:
    text = (FOLDER / "README.md").read_text()
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `")]
    assert len(rows) > 40
    options = {name.removeprefix("ws_") for name in flowserve.Config.__slots__} | {"compression"}
    for name in {name for row in rows for name in re.findall(r"`([A-Za-z]\w*)(?=[`(,=])", row)}:
        assert name in options or hasattr(flowserve, name) or hasattr(builtins, name), name
    for name in {name for row in rows for name in re.findall(r"ws\.(\w+)", row)}:
        assert hasattr(WebSocket, name), name
