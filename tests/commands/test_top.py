"""`flowserve top`: on real servers, with a terminal and without."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import click
import pytest
import websockets
from click.testing import CliRunner
from support.helpers import echo, hello, within

from flowserve import Config, Server, topics
from flowserve.cli import main
from flowserve.commands import top
from flowserve.commands.figures import (
    Change,
    MetricsAddress,
    Scrape,
    parse_address,
    quantile,
    scrape,
    show_count,
    show_seconds,
    show_size,
)

ROOT = Path(__file__).parents[2]
INF = float("inf")
ENVIRONMENT = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1"}


async def flowserve_top(*args: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flowserve", "top", *args),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    out, err = await within(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


# Pieces


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("localhost:9100", MetricsAddress(url="http://localhost:9100/metrics")),
        ("[::1]:9100", MetricsAddress(url="http://[::1]:9100/metrics")),
        ("http://example.com", MetricsAddress(url="http://example.com/metrics")),
        ("https://example.com/", MetricsAddress(url="https://example.com/metrics")),
        ("http://example.com:1/behind/metrics", MetricsAddress(url="http://example.com:1/behind/metrics")),
        ("unix:/run/m.sock", MetricsAddress(path="/run/m.sock")),
    ],
)
def test_places(text, place):
    assert parse_address(text) == place


@pytest.mark.parametrize("text", ["", "localhost", "9100", "ftp://a:1", "http://", "a:b", "http://[::1", "unix"])
def test_no_places(text):
    with pytest.raises(click.BadParameter, match="is no address of metrics; write host:port, a URL or unix:PATH"):
        parse_address(text)


def test_numbers_as_they_are_shown():
    assert [show_count(n) for n in (0, 8, 999, 999.6, 8200, 81_900, 8.2e6, 5e16)] == [
        *("0", "8", "999", "1.0k", "8.2k", "82k", "8.2M", "50000T")
    ]
    assert [show_size(n) for n in (0, 812, 1000, 3400, 120e6, 2e9)] == [
        "0B",
        "812B",
        "1.0kB",
        "3.4kB",
        "120MB",
        "2.0GB",
    ]
    seconds = (None, 0, 0.00042, 0.025, 0.9996, 1.5, 15, 300, 11_000, 180_000)
    assert [show_seconds(s) for s in seconds] == [
        *("-", "0.0ms", "0.4ms", "25ms", "1.0s", "1.5s", "15s", "5m", "3h", "2d")
    ]


def test_quantiles():
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0, INF: 0}, 0.5) is None
    assert quantile({1.0: 10, 2.0: 10, INF: 10}, 0.5) == 0.5
    assert quantile({1.0: 0, 2.0: 10, INF: 10}, 0.5) == 1.5
    assert quantile({1.0: 5, 2.0: 10, INF: 10}, 0.9) == pytest.approx(1.8)
    assert quantile({1.0: 5, 2.0: 5, INF: 10}, 0.99) == 2.0, "what lies above all bounds"


def histogram(at: float, **buckets: float) -> Scrape:
    return Scrape(at, {"h_bucket": [({"le": le.replace("Inf", "+Inf")}, count) for le, count in buckets.items()]})


def test_quantiles_of_what_is_new():
    before, now = histogram(0, **{"1": 100, "2": 100, "Inf": 100}), histogram(1, **{"1": 100, "2": 110, "Inf": 110})
    assert Change(before, now).quantile("h", 0.5) == 1.5
    assert Change(now, now).quantile("h", 0.5) == pytest.approx(0.55), "nothing new: of all"
    assert Change(now, histogram(2, **{"1": 4, "2": 4, "Inf": 4})).quantile("h", 0.5) == 0.5, "begun anew"


def test_counters_that_begin_anew():
    before, now = Scrape(0, {"c": [({}, 100)]}), Scrape(2, {"c": [({}, 10)]})
    assert Change(before, now).rate("c") == 5
    assert Change(now, before).count("c") == 90


# On real servers


@pytest.fixture
async def measured(serve, tmp_path):
    """`server, address = await measured(app)`"""

    async def start(app, **options):
        path = tmp_path / "metrics.sock"
        return await serve(app, metrics=f"unix:{path}", **options), f"unix:{path}"

    return start


async def test_the_figures_of_an_interval(measured):
    server, address = await measured(echo)
    place = parse_address(address)
    async with websockets.connect(server.ws_url) as ws:
        before = await asyncio.to_thread(scrape, place)
        for _ in range(30):
            await ws.send("four")
            await within(ws.recv())
        now = await asyncio.to_thread(scrape, place)
    change = Change(before, now)
    seconds = now.at - before.at
    shown = top.metrics
    assert change.rate(shown.WORKER_MESSAGES, worker="1", direction="in") == pytest.approx(30 / seconds)
    assert change.count(shown.SENT_BYTES) == 120
    assert now.total(shown.WORKER_OPEN, kind="websocket") == 1
    lines = text_of(place, Change(before, Scrape(before.at + 10, now.values))).splitlines()
    (row,) = [line.split() for line in lines if line.startswith("1 ")]
    assert row[:9] == ["1", "serving", "0", "1", "0", "3", "3", "12B", "12B"]
    assert any(line.split() == ["opened", "http", "1,", "websocket", "1"] for line in lines)


def text_of(place: MetricsAddress, change: Change) -> str:
    from rich.console import Console

    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(top.view(place, change))
    return capture.get()


async def room(scope, receive, send):
    """Publishes to a topic what its subscribers, the clients, send."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    await topics.subscribe(scope, "room:1")
    while (event := await receive())["type"] == "websocket.receive":
        await topics.publish("room:1", event["text"])


async def test_topics(measured):
    server, address = await measured(room)
    place = parse_address(address)
    before = await asyncio.to_thread(scrape, place)
    async with websockets.connect(server.ws_url) as one, websockets.connect(server.ws_url) as two:
        for _ in range(30):
            await one.send("x")
            for ws in (one, two):
                await within(ws.recv())
        now = await asyncio.to_thread(scrape, place)
    shown = text_of(place, Change(before, Scrape(before.at + 10, now.values)))
    assert "topics            3/s published, 6/s delivered to 2 subscribers" in shown
    assert "published" not in text_of(place, Change(before, before)), "nobody has used topics"


async def served_room(scope, receive, send):
    """A member of a topic, which may publish to it."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    await topics.subscribe(scope, "room:1", envelope="json", member="ada")
    allow = {"room:1": ("subscribe", "publish")}
    await topics.serve(scope, receive=receive, send=send, allow=allow)


async def test_presence_and_clients_of_topics(measured):
    server, address = await measured(served_room)
    place = parse_address(address)
    before = await asyncio.to_thread(scrape, place)
    async with websockets.connect(server.ws_url) as ws:
        for number, topic in enumerate(["room:1"] * 10 + ["another"] * 10):
            await ws.send(json.dumps({"id": number, "type": "publish", "topic": topic, "data": "x"}))
            while "id" not in json.loads(await within(ws.recv())):
                pass
        now = await asyncio.to_thread(scrape, place)
    shown = text_of(place, Change(before, Scrape(before.at + 10, now.values)))
    rows = dict(
        re.split(r"  +", line.rstrip(), maxsplit=1) for line in shown.splitlines() if re.search(r"\w  +\w", line)
    )
    assert rows["presence"] == "1 members, 0/s joined, 0/s left; 0/s messages to other processes, 0/s from them"
    assert rows["topics' clients"] == "1, 2/s requests, 1/s published"
    assert rows["their requests"] == "forbidden 10 (+10), ok 10 (+10)"
    assert "members" not in text_of(place, Change(before, before)), "nobody has used them"


def test_several_workers_have_a_line_of_sums():
    def figures(factor: float) -> Scrape:
        page: dict[str, list[tuple[dict[str, str], float]]] = {top.metrics.START: [({}, time.time() - 100)]}
        for worker in ("1", "2"):
            page.setdefault(top.metrics.WORKER_START, []).append(({"worker": worker}, time.time() - 50))
            page.setdefault(top.metrics.WORKER_LAG, []).append(({"worker": worker}, float(worker) / 5))
            page.setdefault(top.metrics.WORKER_OPEN, []).append(({"worker": worker, "kind": "websocket"}, 7))
            page.setdefault(top.metrics.WORKER_DRAINING, []).append(({"worker": worker}, float(worker == "2")))
            page.setdefault(top.metrics.WORKER_REQUESTS, []).append(({"worker": worker}, 100 * factor))
        page[top.metrics.REQUESTS] = [({"method": "GET", "status": "200"}, 300 * factor)]  # a third one has ended
        return Scrape(factor, page)

    lines = text_of(MetricsAddress(url="http://a/"), Change(figures(1), figures(2))).splitlines()
    rows = {row[0]: row[1:] for line in lines if (row := line.split())[:1] in (["1"], ["2"], ["all"])}
    assert rows["1"][:4] == ["serving", "0", "7", "100"]
    assert rows["2"][0] == "draining"
    assert rows["all"][:5] == ["2", "workers", "0", "14", "300"]
    assert rows["2"][8:] == ["400ms", "0B", "50s"]
    assert rows["all"][9] == "400ms"


async def test_without_a_terminal_one_interval_is_printed(measured):
    server, address = await measured(echo)
    async with websockets.connect(server.ws_url) as ws:
        await ws.send("x")
        await within(ws.recv())
        status, out, err = await flowserve_top(address, "--interval", "0.2")
    assert (status, err) == (0, "")
    assert out.startswith(f"flowserve {top.metrics.__version__} at {address}, up ")
    assert out.count("worker") == 1
    assert "opened            http 1, websocket 1" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("unix:/no/such/socket", "can't read metrics from unix:/no/such/socket: No such file or directory"),
        ("127.0.0.1:1", "can't read metrics from http://127.0.0.1:1/metrics: Connection refused"),
    ],
)
async def test_nobody_is_there(address, words):
    assert await flowserve_top(address) == (1, "", f"flowserve: error: {words}\n")


async def test_something_else_is_there(serve, measured):
    url = (await serve(hello)).url
    wanted = f"flowserve: error: what {url}/metrics answers are no metrics of flowserve; is it what --metrics says?\n"
    assert await flowserve_top(url) == (1, "", wanted)
    server, _ = await measured(echo, root_path="")
    status, _, err = await flowserve_top(f"{server.url}/ws")
    assert (status, err.count("\n")) == (1, 1)


def test_wrong_usage_is_one_line():
    for args in ([], ["nowhere"], ["a:1", "--interval", "0"], ["a:1", "b:2"], ["a:1", "--no-such"]):
        run = CliRunner().invoke(main, ["top", *args])
        assert (run.exit_code, run.stdout) == (2, "")
        assert run.stderr.startswith("flowserve: error: ")
        assert run.stderr.endswith("(see flowserve top --help)\n")
        assert run.stderr.count("\n") == 1


async def test_rich_is_missing(measured):
    _, address = await measured(echo)
    code = "import sys; sys.modules['rich'] = None; from flowserve.cli import main; main(['top', sys.argv[1]])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, address, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    out, err = await within(process.communicate(), 30)
    assert (process.returncode, out) == (1, b"")
    assert err == b"flowserve: error: rich or prometheus-client is missing; pip install rich prometheus-client\n"


class Terminal:
    """`flowserve top` in a terminal; `frames` are what it has drawn so far."""

    def __init__(self, *args: str) -> None:
        self.own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
        os.set_blocking(self.own, False)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flowserve", "top", *args],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=ENVIRONMENT,
            start_new_session=True,
            # as a shell does for what it starts in the foreground, also where these tests run in the background
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(theirs)
        self.seen = b""

    async def shows(self, *words: str, without: str | None = None, seconds: float = 20.0) -> None:
        """Wait for one whole picture with all the words in it, newer than what was waited for before."""
        deadline = time.monotonic() + seconds
        while True:
            *pictures, self.seen = self.seen.split(b"\x1b[H")
            for index, picture in enumerate(pictures):
                shown = " ".join(re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", picture.decode("utf-8", "replace")).split())
                if all(word in shown for word in words) and (without is None or without not in shown):
                    self.seen = b"\x1b[H".join([*pictures[index + 1 :], self.seen])
                    return
            assert time.monotonic() < deadline, (words, self.seen)
            await asyncio.sleep(0.01)
            self.read()

    def read(self) -> None:
        try:
            self.seen += os.read(self.own, 65536)
        except (BlockingIOError, OSError):
            pass

    async def end(self) -> int:
        """Press Ctrl-C and wait for the end: the exit status."""
        self.process.send_signal(signal.SIGINT)
        for _ in range(1000):
            self.read()
            if self.process.poll() is not None:
                break
            await asyncio.sleep(0.01)
        self.read()
        return self.process.wait(1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.own)


async def test_live_in_a_terminal_also_while_the_server_is_away(tmp_path):
    path = tmp_path / "metrics.sock"
    config = Config(echo, port=0, lifespan="off", metrics=f"unix:{path}", timeout_graceful_shutdown=3)
    server = Server(config)
    await within(server.startup())
    terminal = Terminal(f"unix:{path}", "--interval", "0.1")
    try:
        await terminal.shows("flowserve", "worker", "serving", "closes none")
        ws = await websockets.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await terminal.shows("websocket 1")
        await ws.close()
        await terminal.shows("closes 1000 1")
        await within(server.shutdown())
        await terminal.shows("can't read metrics from unix:", "trying again", "closes 1000 1")
        server = Server(config)
        await within(server.startup())
        await terminal.shows("serving", "closes none", without="trying again")
        assert await terminal.end() == 0
        assert terminal.seen.endswith(b"\x1b[?25h\x1b[?1049l"), "cursor and screen are as before"
        assert b"Traceback" not in terminal.seen
    finally:
        terminal.close()
        await within(server.shutdown())
