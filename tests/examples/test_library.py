"""The library's examples, each as a program of its own: a server among them beside a client among them."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import json
import re
import runpy
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
import websockets
from support.helpers import within
from support.terminal import Terminal
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

import flowserve
from flowserve import ConnectionClosedError, WebSocket, WebSocketServer, connect, serve
from flowserve.library.properties import session_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "library"
Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


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


async def test_feed(start: Start) -> None:
    uri = await line(await start("feed_server.py", "0"))
    client = await start("feed_client.py", uri)
    for _ in range(2):
        assert re.fullmatch(r"ACME [\d,]+\.\d\d x \d+", await line(client))


async def test_feed_client_over_a_loss(start: Start, certificates: dict[str, str]) -> None:
    """Against a stand-in for the feed, over TLS, that is lost once."""
    visits = 0

    async def feed(ws: WebSocket) -> None:
        nonlocal visits
        visits += 1
        await ws.send(json.dumps({"symbol": "ACME", "price": visits * 1000 + 0.5, "quantity": 25}))
        if visits == 1:
            ws.abort()
        await ws.wait_closed()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates["cert"], certificates["key"])
    async with serve(feed, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        client = await start("feed_client.py", f"wss://localhost:{port}/", certificates["ca"])
        seen = [await line(client)]
        while seen[-1] != "ACME 2,000.50 x 25":
            assert seen[-1] == "ACME 1,000.50 x 25"
            seen.append(await line(client))


async def frame(ws: WebSocket) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await within(ws.receive()))
    return found


def visitors(frame: dict[str, Any]) -> dict[int, list[float] | None]:
    """Their lures, by number."""
    return {visitor["number"]: visitor["lure"] for visitor in frame["visitors"]}


async def test_flock(start: Start) -> None:
    server = await start("flock_server.py", "0")
    found = re.fullmatch(r"Open (http://127\.0\.0\.1:\d+) in two windows; Ctrl-C stops it", await line(server))
    assert found
    uri = f"ws{found[1].removeprefix('http')}/flock"
    async with flowserve.connect(uri) as one, flowserve.connect(uri) as two:
        assert (await frame(one), await frame(two)) == ({"you": 1}, {"you": 2})
        assert {await line(server), await line(server)} == {f"{number} came, from 127.0.0.1" for number in (1, 2)}
        await one.send('{"lure": [0.25, 0.75]}')
        await one.send('{"clap": [1, 0]}')
        seen = [await frame(two)]
        while visitors(seen[-1]) != {1: [0.25, 0.75], 2: None} or not any(each["claps"] for each in seen):
            seen.append(await frame(two))
        assert [each["claps"] for each in seen if each["claps"]] == [[[1, 0]]]
        birds = [tuple(each["birds"]) for each in seen]
        assert len(set(birds)) == len(birds)  # they fly
        assert all(len(each) == 180 for each in birds)
        await one.send('{"lure": null}')
        while visitors(await frame(two))[1] is not None:
            pass
        await one.close(4001, "bye")
        assert await line(server) == "1 left: 4001 bye"
        while 1 in visitors(await frame(two)):
            pass
        client = await start("flock_client.py", uri)
        assert re.fullmatch(r"visitor 3, 2 here, \d+ frames a second, a ping took \d+\.\d ms", await line(client))


async def test_the_flock_says_what_it_understands(start: Start) -> None:
    url = (await line(await start("flock_server.py", "0"))).split()[1]
    for given in ("no JSON", "[]", '{"lure": 5}', '{"lure": [2, 0]}', '{"clap": [NaN, 0]}', b"\xff"):
        async with flowserve.connect(f"ws{url.removeprefix('http')}/flock") as ws:
            await ws.send(given)
            with suppress(ConnectionClosedError):
                while True:
                    await frame(ws)
            end = (ws.close_code, ws.close_reason)
        assert end == (1008, 'Send {"lure": [0.5, 0.5]} or {"clap": [0.5, 0.5]}'), given


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
            session_of(ws).connection.send_fragment(False, b"a continuation of nothing", False, True)
            session_of(ws).flush()
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


# As newcomers start them


SERVERS = {
    "echo_server.py": [],
    "simple_server.py": [],
    "feed_server.py": [],
    "flock_server.py": [],
    "autobahn_server.py": [],
    "echo_server_tls.py": ["cert", "key"],
    "simple_server_tls.py": ["cert", "key"],
}
CLIENTS = {
    "client.py": [],
    "sync_client.py": [],
    "client_tls.py": ["ca"],
    "fragmented_client.py": [],
    "autobahn_client.py": [],
}
PROGRAMS = sorted(path.name for path in FOLDER.glob("*.py"))


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`status, out, err = run("client.py", "ws://…")`: a program that ends at once, in this process: the many of them
    would take their time to start. Those that go on are started as programs."""

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(FOLDER / name), run_name="__main__")
        out, err = capsys.readouterr()
        if isinstance(end.value.code, str):  # which the interpreter prints
            return 1, out, f"{err}{end.value.code}\n"
        return end.value.code or 0, out, err

    return run


def last_line(status: int, ended: tuple[int, str, str]) -> str:
    """The one line that a program ends with, behind how it is used where that was wrong."""
    assert ended[:2] == (status, "")
    *usage, last = ended[2].splitlines()
    assert all(each.startswith(("usage: ", " ")) for each in usage), ended[2]
    return last


@pytest.mark.parametrize("name", PROGRAMS)
def test_wrong_arguments(run: Run, name: str) -> None:
    said = last_line(2, run(name, *["1"] * 3, "--color"))
    assert re.search("error: unrecognized arguments: .*--color", said)
    status, out, err = run(name, "--help")
    assert (status, err) == (0, "")
    assert name in out


@pytest.mark.parametrize("name", [name for name, files in {**SERVERS, **CLIENTS}.items() if files])
def test_missing_arguments(run: Run, name: str) -> None:
    assert "the following arguments are required: " in last_line(2, run(name))


@pytest.mark.parametrize("name", SERVERS)
def test_a_port_that_is_in_use(run: Run, certificates: dict[str, str], name: str) -> None:
    files = [certificates[each] for each in SERVERS[name]]
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = last_line(1, run(name, *files, str(other.getsockname()[1])))
    assert said.startswith(f"{name}: can't listen on 127.0.0.1 port ")
    assert "invalid int value: 'http'" in last_line(2, run(name, *files, "http"))


@pytest.mark.parametrize("name", ["echo_server_tls.py", "simple_server_tls.py"])
def test_certificates_that_are_not_there(run: Run, name: str) -> None:
    assert last_line(1, run(name, "no.pem", "none.pem")).startswith("no.pem, none.pem: [Errno 2]")


@pytest.mark.parametrize("name", [*CLIENTS, "feed_client.py", "flock_client.py"])
def test_a_wrong_uri(run: Run, certificates: dict[str, str], name: str) -> None:
    files = [certificates[each] for each in CLIENTS.get(name, [])]
    said = last_line(1, run(name, "127.0.0.1:9002", *files))
    assert said == f"{name}: '127.0.0.1:9002' should begin with ws:// or wss://" or "/getCaseCount" in said


@pytest.mark.parametrize("name", CLIENTS)
def test_no_server(run: Run, certificates: dict[str, str], name: str) -> None:
    files = [certificates[each] for each in CLIENTS[name]]
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        scheme = "wss" if files else "ws"
        uri = f"{scheme}://127.0.0.1:{bound.getsockname()[1]}"
        assert last_line(1, run(name, uri, *files)).startswith(f"{name}: [Errno ")


async def failure(process: asyncio.subprocess.Process) -> str:
    """The one line that a program ends with, which has failed."""
    out, err = await within(process.communicate(), 30)
    assert process.returncode is not None
    return last_line(1, (process.returncode, out.decode(), err.decode()))


@pytest.mark.parametrize("name", ["client.py", "sync_client.py", "fragmented_client.py"])
async def test_a_server_that_leaves(start: Start, name: str) -> None:
    async def leave(ws: WebSocket) -> None:
        await ws.receive()
        ws.abort()

    async with serve(leave, "127.0.0.1", 0) as server:
        client = await start(name, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert client.stdin is not None
        client.stdin.write(b"hello\n")
        out, err = await within(client.communicate() if name != "client.py" else ended(client))
    assert (client.returncode, out) == (1, b"")
    assert err.decode() == f"{name}: the connection was lost without a close frame\n"


async def ended(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """What it says until its end, its input being left open."""
    assert process.stdout is not None
    assert process.stderr is not None
    said = await process.stdout.read(), await process.stderr.read()
    await process.wait()
    return said


async def test_a_server_that_is_no_websocket_server(start: Start) -> None:
    async with serve(echo, "127.0.0.1", 0, process_request=lambda handshake, _: handshake.respond(404, "")) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert (await failure(await start("client.py", uri))).startswith("client.py: 404: ")


async def test_the_autobahn_client_without_a_fuzzing_server(start: Start) -> None:
    async def say_hello(ws: WebSocket) -> None:
        await ws.send("hello")

    async with serve(say_hello, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert "is no fuzzing server" in await failure(await start("autobahn_client.py", uri))


async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@pytest.mark.parametrize("name", ["client.py", "sync_client.py"])
async def test_a_line_that_is_piped_in_comes_back(start: Start, name: str) -> None:
    """`echo hello | python client.py URI`, of which the end comes with the line."""
    given = ("hello\n", "hello", "1\n2\n3\n" * 100, "")
    async with serve(echo, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        clients = [await start(name, uri) for _ in given]
        said = await asyncio.gather(*map(output, clients, given))
    assert [each.splitlines() for each in said] == [each.splitlines() for each in given]


async def test_whoever_reads_the_output_may_leave(start: Start) -> None:
    uri = await line(await start("echo_server.py", "0"))
    client = await start("client.py", uri)
    assert client.stdin is not None
    client.stdin.write(b"hello\n")
    assert await line(client) == "hello"
    client._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    client.stdin.write(b"hello\n" * 3)
    assert client.stderr is not None
    assert await within(client.stderr.read()) == b""
    assert await within(client.wait()) == 0


@pytest.mark.parametrize("name", SERVERS)
async def test_ctrl_c_ends_a_server(certificates: dict[str, str], name: str) -> None:
    files = [certificates[each] for each in SERVERS[name]]
    terminal = Terminal(*files, "0", program=(str(FOLDER / name),))
    try:
        await terminal.shows("//")
        await terminal.shows("\n")
        terminal.type("\x03")
        assert await terminal.end() == 0
        assert "Traceback" not in terminal.text
    finally:
        terminal.close()


@pytest.mark.parametrize("name", ["client.py", "feed_client.py", "flock_client.py", "autobahn_client.py"])
async def test_ctrl_c_ends_a_client(name: str) -> None:
    """In a terminal, where a thread waits for what is typed; and while the server says nothing."""
    visited = asyncio.Event()

    async def visit(ws: WebSocket) -> None:
        visited.set()
        await ws.wait_closed()

    async with serve(visit, "127.0.0.1", 0) as server:
        terminal = Terminal(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", program=(str(FOLDER / name),))
        try:
            await within(visited.wait(), 20)
            terminal.type("\x03")
            assert await terminal.end() == 130
            assert terminal.text.strip() == "^C"
        finally:
            terminal.close()


async def test_lines_that_are_typed(start: Start) -> None:
    uri = await line(await start("echo_server.py", "0"))
    terminal = Terminal(uri, program=(str(FOLDER / "client.py"),))
    try:
        terminal.type("hello\n")
        await terminal.shows("hello")
        await terminal.shows("hello")
        terminal.type("\x04")
        assert await terminal.end() == 0
    finally:
        terminal.close()


def test_examples_talk_to_what_is_started_beside_them() -> None:
    for path in FOLDER.glob("*.py"):
        for host in re.findall(r"wss?://([\w.]+)", path.read_text()):
            assert host in ("127.0.0.1", "localhost"), path


@pytest.mark.parametrize("name", ["echo", "chat", "ticker"])
def test_an_application_says_how_it_is_started(run: Run, name: str) -> None:
    assert last_line(1, run(f"../{name}.py")) == f"Start it with: flowserve examples.{name}:app"


def test_every_example_is_in_the_list() -> None:
    listed = re.findall(r"^\| \[(\w+\.py)\]", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in FOLDER.glob("*.py"))


def test_the_names_in_the_table_are_there() -> None:
    text = (FOLDER / "README.md").read_text().split("## What differs from websockets")[0]
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `")]
    assert len(rows) > 40
    options = {name.removeprefix("ws_") for name in flowserve.Config.__slots__} | {"compression"}
    for name in {name for row in rows for name in re.findall(r"`([A-Za-z]\w*)(?=[`(,=])", row)}:
        assert name in options or hasattr(flowserve, name) or hasattr(builtins, name), name
    for name in {name for row in rows for name in re.findall(r"ws\.(\w+)", row)}:
        assert hasattr(WebSocket, name), name


@pytest.mark.skipif(int(websockets.__version__.split(".")[0]) < 17, reason="the table is of websockets 17")
def test_whatever_differs_from_websockets_is_in_the_table() -> None:
    """Name by name: what its asyncio side has is here under the same name, or in the table; and nothing is in the table
    that is the same."""
    table = (FOLDER / "README.md").read_text().split("## What differs from websockets")[1]
    left = " ".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| "))
    listed = set(re.findall(r"`(\w+)`", left))
    theirs, ours = ServerConnection, WebSocket
    missing = set(websockets.__all__) - set(flowserve.__all__)
    missing |= (public(theirs) | public(ClientConnection)) - public(asyncio.Protocol) - public(ours)
    missing |= public(websockets.Server) - public(WebSocketServer)
    missing |= public(websockets.Headers) - public(flowserve.Headers)
    missing |= public(websockets.Close) - public(flowserve.Close)
    options = {name.removeprefix("ws_") for name in flowserve.Config.__slots__} | {"compression"}
    for call, own in ((websockets.connect.__init__, connect.__init__), (websockets.serve, serve)):
        missing |= set(inspect.signature(call).parameters) - set(inspect.signature(own).parameters) - options
    assert missing <= listed, sorted(missing - listed)
    assert not {name for name in listed if name in flowserve.__all__} - {"Server", "Headers", "Close"}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}
