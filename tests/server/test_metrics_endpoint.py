"""--metrics over real sockets: the figures are what the clients counted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time

import aiohttp
import pytest
import websockets
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from support.helpers import LONGEST_TEST, PING, PONG, TEXT, Client, echo, until, within
from support.scraping import Figures, get, place_in, scrape

from flowserve import Config, Server
from flowserve.errors import ConfigError
from flowserve.session.metered import MeteredSession
from flowserve.session.session import Session

SIZES = [0, 1, 64, 65, 256, 1024, 5000, 70000]


@pytest.fixture
def measured(serve, logs):
    """`server, place = await measured(app)`: with metrics at `place`."""

    async def start(app, **options):
        server = await serve(app, metrics="127.0.0.1:0", **options)
        return server, place_in(logs.lines())

    return start


async def until_figures(place, condition, seconds=10.0) -> Figures:
    """Scrape until the condition holds: an end that the client has seen may not have come to the server yet."""
    deadline = time.monotonic() + seconds
    while not condition(figures := await scrape(place)):
        assert time.monotonic() < deadline, "the figures never came true"
    return figures


# What was counted


@pytest.mark.both_loops
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_messages_are_what_the_clients_counted(measured, compression):
    server, place = await measured(echo)
    before = await scrape(place)
    texts = ["é" * (size // 2) + "a" * (size % 2) for size in SIZES]
    blobs = [b"b" * size for size in SIZES[2:]]

    async def client():
        async with websockets.connect(server.ws_url, compression=compression) as ws:
            for message in texts + blobs:
                await ws.send(message)
                assert await within(ws.recv()) == message

    await asyncio.gather(*(client() for _ in range(3)))
    figures = await until_figures(place, lambda f: f.value("open_connections", kind="websocket") == 0)
    for kind, messages in (("text", texts), ("binary", blobs)):
        count, total = 3 * len(messages), 3 * sum(SIZES[-len(messages) :])
        for way, direction in (("received", "in"), ("sent", "out")):
            assert figures.grown(before, f"websocket_messages_{way}_total", type=kind) == count
            assert figures.grown(before, f"websocket_{way}_bytes_total", type=kind) == total
            assert figures.value("websocket_message_size_bytes_count", direction=direction, type=kind) == count
            assert figures.value("websocket_message_size_bytes_sum", direction=direction, type=kind) == total
            for bound in (64, 256, 65536, 262144):
                below = 3 * sum(size <= bound for size in SIZES[-len(messages) :])
                labels = {"direction": direction, "type": kind, "le": f"{bound}.0"}
                assert figures.value("websocket_message_size_bytes_bucket", **labels) == below
    assert figures.grown(before, "connections_total", kind="websocket") == 3
    assert figures.grown(before, "connections_total", kind="http") == 3
    assert figures.value("websocket_closes_total", code="1000") == 3
    assert figures.value("worker_websocket_messages_total", worker="1", direction="in") == 3 * len(texts + blobs)
    assert figures.value("worker_websocket_bytes_total", worker="1", direction="out") == 3 * sum(SIZES + SIZES[2:])


async def test_messages_that_a_thread_compresses_are_counted(measured, stage):
    server, place = await measured(stage)

    async def open_client():
        return await websockets.connect(server.ws_url)

    opening = asyncio.ensure_future(open_client())
    act = await stage.next()
    await act.accept()
    async with await within(opening) as ws:
        await act.send_text("é" * 100_000)
        await act.send({"type": "websocket.send", "bytes": b"b" * 100_000})
        assert len(await within(ws.recv())) == len(await within(ws.recv())) == 100_000
        figures = await scrape(place)
        assert figures.value("websocket_sent_bytes_total", type="text") == 200_000
        assert figures.value("websocket_sent_bytes_total", type="binary") == 100_000
        assert figures.value("websocket_messages_sent_total", type="text") == 1
        act.leave()


async def test_requests_by_method_and_status(measured, stage):
    server, place = await measured(stage)
    asked = [("GET", 200), ("GET", 200), ("POST", 404), ("PROPFIND", 418), ("GET", 299), ("GET", 500)]
    async with aiohttp.ClientSession() as session:
        for method, status in asked:
            response = asyncio.ensure_future(session.request(method, server.url))
            await (await stage.next()).answer(b"x", status)
            assert (await within(response)).status == status
    figures = await scrape(place)
    found = {key: value for key, value in figures.samples.items() if key[0] == "flowserve_http_requests_total"}
    assert {tuple(sorted(dict(labels).items())): value for (_, labels), value in found.items()} == {
        (("method", "GET"), ("status", "200")): 2,
        (("method", "POST"), ("status", "404")): 1,
        (("method", "other"), ("status", "418")): 1,
        (("method", "GET"), ("status", "2xx")): 1,
        (("method", "GET"), ("status", "500")): 1,
    }
    for group, count in (("2xx", 3), ("4xx", 2), ("5xx", 1)):
        assert figures.value("http_request_duration_seconds_count", status_class=group) == count
        assert figures.value("http_request_duration_seconds_bucket", status_class=group, le="+Inf") == count
        assert figures.value("http_request_duration_seconds_sum", status_class=group) > 0
    assert figures.value("worker_http_requests_total", worker="1") == len(asked)


async def test_a_client_that_leaves_its_request_is_499(measured, stage, connect):
    server, place = await measured(stage)
    client = await connect(server)
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await stage.next()
    client.reset()
    await until_figures(place, lambda f: f.value("http_requests_total", method="GET", status="499") == 1)


async def test_close_codes(measured, stage, open_ws):
    server, place = await measured(stage)

    async def end(code=None, *, by_server=None):
        client = await open_client()
        if by_server is not None:
            await client[1].close(by_server)
            assert (await client[0].close_frame())[0] == by_server
        await client[0].send_close(code if by_server is None else by_server)
        await client[0].rest()

    async def open_client():
        opening = asyncio.ensure_future(open_ws(server))
        act = await stage.next()
        await act.accept()
        return await opening, act

    for code in (1000, 1001, 3000, 3999, 4001, 4002, None):
        await end(code)
    await end(by_server=4999)
    client, _ = await open_client()
    client.leave()
    expected = {"1000": 1, "1001": 1, "3000-3999": 2, "4000-4999": 3, "1005": 1, "1006": 1}
    await until_figures(place, lambda f: f.labelled("websocket_closes_total", "code") == expected)


async def test_ping_round_trips(measured, stage, open_ws):
    server, place = await measured(stage, ws_ping_interval=0.05, ws_ping_timeout=None)
    opening = asyncio.ensure_future(open_ws(server))
    await (await stage.next()).accept()
    client: Client = await opening
    answered = 0
    while answered < 3:
        frame = await client.frame()
        assert frame.opcode == PING
        for _ in range(2):  # the second answers nothing
            await client.send_frame(PONG, frame.payload)
        answered += 1
    await client.send_frame(PONG, b"unasked")
    figures = await until_figures(place, lambda f: f.value("websocket_ping_round_trip_seconds_count") == answered)
    assert 0 < figures.value("websocket_ping_round_trip_seconds_sum") < 10
    assert figures.value("websocket_ping_round_trip_seconds_bucket", le="+Inf") == answered


# What is now


async def test_queue_and_paused_reading(measured, stage, open_ws):
    server, place = await measured(stage, ws_max_queue=4)
    opening = asyncio.ensure_future(open_ws(server))
    act = await stage.next()
    await act.accept()
    client = await opening
    for number in range(10):
        await client.send_text(str(number))
    figures = await until_figures(place, lambda f: f.value("websocket_paused", direction="in") == 1)
    queued = figures.value("websocket_queued_messages")
    assert queued > 4
    assert figures.value("open_connections", kind="websocket") == 1
    assert figures.value("worker_open_connections", worker="1", kind="websocket") == 1
    for _ in range(10):
        await act.receive()
    figures = await until_figures(place, lambda f: f.value("websocket_queued_messages") == 0)
    assert figures.value("websocket_paused", direction="in") == 0


async def test_a_client_that_does_not_read(measured, stage, open_ws):
    server, place = await measured(stage)
    opening = asyncio.ensure_future(open_ws(server, receive_buffer=4096))
    act = await stage.next()
    await act.accept()
    client = await opening
    client.writer.transport.pause_reading()

    async def flood():
        while True:
            await act.raw_send({"type": "websocket.send", "bytes": bytes(65536)})

    flooding = asyncio.ensure_future(flood())
    await until_figures(place, lambda f: f.value("websocket_paused", direction="out") == 1)
    client.leave()
    with contextlib.suppress(OSError):
        await within(flooding)
    await until_figures(place, lambda f: f.value("websocket_paused", direction="out") == 0)


async def test_dropped_messages_stay_counted(measured, stage, open_ws):
    options = {"ws_slow_consumer": "drop", "ws_slow_consumer_mark": 65536, "ws_ping_interval": None}
    server, place = await measured(stage, **options)
    opening = asyncio.ensure_future(open_ws(server, receive_buffer=4096))
    act = await stage.next()
    await act.accept()
    client = await opening
    client.writer.transport.pause_reading()
    count = 400
    for _ in range(count):
        await act.send({"type": "websocket.send", "bytes": bytes(65536)})
    figures = await scrape(place)
    dropped = figures.value("websocket_dropped_messages_total")
    assert 0 < dropped < count
    assert figures.value("websocket_messages_sent_total", type="binary") == count - dropped
    client.leave()
    figures = await until_figures(place, lambda f: f.value("open_connections", kind="websocket") == 0)
    assert figures.value("websocket_dropped_messages_total") == dropped


async def test_refusals(measured, stage, connect):
    server, place = await measured(stage, allowed_hosts=("good",), ws_allowed_origins=("https://good",))
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    version = "Sec-WebSocket-Version: 13\r\n"

    async def ask(*lines, host="good"):
        client = await connect(server)
        await client.raw(f"GET / HTTP/1.1\r\nHost: {host}\r\n{''.join(lines)}\r\n".encode())
        return client

    assert (await (await ask(host="bad")).response()).status == 400
    assert (await (await ask(upgrade, version)).response()).status == 400
    assert (await (await ask(upgrade, key, version, "Origin: https://bad\r\n")).response()).status == 403
    client = await ask(upgrade, key, version)
    act = await stage.next()
    assert (await act.receive())["type"] == "websocket.connect"
    await act.close()
    assert (await client.response()).status == 403
    act.leave()
    client = await ask(upgrade, key, version)
    act = await stage.next()
    await act.receive()
    await act.send({"type": "websocket.http.response.start", "status": 401, "headers": []})
    await act.send({"type": "websocket.http.response.body", "body": b"no"})
    assert (await client.response()).status == 401
    act.leave()
    client = await ask(upgrade, key, version)
    await stage.next()
    client.reset()
    figures = await until_figures(place, lambda f: f.value("refusals_total", reason="client_left") == 1)
    assert figures.labelled("refusals_total", "reason") == {
        "host_not_allowed": 1,
        "bad_handshake": 1,
        "origin_not_allowed": 1,
        "denied": 2,
        "client_left": 1,
    }
    assert figures.labelled("http_requests_total", "status") == {"400": 2, "403": 2, "401": 1, "499": 1}
    assert figures.value("connections_total", kind="websocket") == 0


async def test_event_loop_lag(measured):
    _, place = await measured(echo)
    before = await scrape(place)
    time.sleep(1.3)  # noqa: ASYNC251  (to be noticed)
    figures = await until_figures(place, lambda f: f.grown(before, "event_loop_lag_seconds_count") >= 1)
    slow = figures.value("event_loop_lag_seconds_count") - figures.value("event_loop_lag_seconds_bucket", le="0.5")
    assert slow == 1
    assert figures.value("worker_event_loop_lag_max_seconds", worker="1") >= 0.8


async def test_the_worker(measured):
    _, place = await measured(echo)
    figures = await scrape(place)
    assert figures.value("workers") == 1
    assert 5e6 < figures.value("worker_resident_memory_bytes", worker="1") < 5e9
    now = time.time()
    assert now - 60 < figures.value("start_time_seconds") <= now
    assert now - 60 < figures.value("worker_start_time_seconds", worker="1") <= now
    assert figures.value("worker_draining", worker="1") == 0
    assert list(figures.labelled("info", "version").values()) == [1]


# The page


async def test_everything_says_what_it_is(measured):
    server, place = await measured(echo)
    async with websockets.connect(server.ws_url) as ws:
        await ws.send("x")
        await within(ws.recv())
    for family in (await scrape(place)).families:
        assert family.name.startswith("flowserve_")
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")


async def test_openmetrics_where_it_is_asked_for(measured):
    _, place = await measured(echo)
    plain = await get(place)
    assert plain.header("content-type").startswith("text/plain; version=0.0.4")
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    response = await get(place, "/metrics", f"Accept: {accept}")
    assert response.header("content-type").startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in openmetrics(response.body.decode())}
    assert {"flowserve_connections", "flowserve_open_connections"} <= names


async def test_other_paths_and_methods(measured, connect):
    server, place = await measured(echo)
    for target in ("/", "/metrics/", "/other?x"):
        response = await get(place, target)
        assert (response.status, response.body) == (404, b"The metrics are at /metrics\n")
    client = await Client.connect(place)
    await client.raw(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    response = await client.response()
    assert (response.status, response.header("allow")) == (405, "GET, HEAD")
    await client.raw(b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    head = await client.response("HEAD")
    assert head.status == 200
    assert int(head.header("content-length")) > 1000
    await client.aclose()
    client = await Client.connect(place)
    await client.raw(b"GET /metrics?a=b HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response()).status == 200
    await client.aclose()
    assert (await (await connect(server)).get("/metrics")).body == b"", "the application has its own"
    figures = await scrape(place)
    assert figures.labelled("http_requests_total", "method") == {"GET": 1}, "scrapes are not counted"


async def test_no_websocket_there(measured):
    _, place = await measured(echo)
    client = await Client.connect(place)
    await client.raw(
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert (await client.response()).status == 403
    await client.aclose()


async def test_over_a_unix_socket(serve, logs, tmp_path):
    path = str(tmp_path / "metrics.sock")
    await serve(echo, metrics=f"unix:{path}")
    assert any(line.endswith(f"unix:{path}/metrics") for line in logs.lines())
    figures = await scrape(path, family=socket.AF_UNIX)
    assert figures.value("workers") == 1


async def test_the_page_is_there_during_the_drain(stage, logs):
    config = Config(stage, port=0, lifespan="off", metrics="127.0.0.1:0", timeout_graceful_shutdown=20)
    server = Server(config)
    await within(server.startup())
    place = place_in(logs.lines())
    client = await Client.connect(server.sockets[0].getsockname())
    opening = asyncio.ensure_future(client.upgrade())
    act = await stage.next()
    await act.accept()
    await within(opening)
    ending = asyncio.ensure_future(server.shutdown())
    assert (await client.close_frame())[0] == 1012  # not answered yet, so the server waits
    figures = await scrape(place)
    assert figures.value("worker_draining", worker="1") == 1
    assert figures.value("open_connections", kind="websocket") == 1
    await client.send_close(1012)
    act.leave()
    await within(ending)
    assert server.snapshot()["flowserve_websocket_closes_total"] == {"1012": 1}
    with pytest.raises(OSError):
        await scrape(place)
    await client.aclose()


# What goes wrong at the start


async def test_an_address_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        server = Server(Config(echo, port=0, lifespan="off", metrics=where))
        with pytest.raises(ConfigError, match=r"^metrics: can't listen on 127.0.0.1 port \d+: the address is in use"):
            await server.startup()


async def test_a_host_that_is_not_here():
    server = Server(Config(echo, port=0, lifespan="off", metrics="no.such.host.invalid:9100"))
    with pytest.raises(ConfigError, match=r"^metrics: 'no.such.host.invalid' is not an address of this machine"):
        await server.startup()


def flowserve_without(module: str, *args: str) -> subprocess.CompletedProcess[str]:
    """The command in a Python that can't import `module`."""
    code = f"import sys; sys.modules[{module!r}] = None; from flowserve.cli import main; main(sys.argv[1:])"
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=LONGEST_TEST / 2)


def test_prometheus_client_is_missing():
    args = [
        "--app-dir",
        "tests",
        "support.helpers:echo",
        "--port",
        "0",
        "--metrics",
        "127.0.0.1:0",
        "--lifespan",
        "off",
    ]
    ended = flowserve_without("prometheus_client", *args)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "flowserve: error: --metrics: prometheus-client is missing; pip install prometheus-client"
    )
    assert "Traceback" not in ended.stderr


# Off


async def test_off_nothing_is_measured(serve, stage, open_ws):
    server = await serve(stage)
    opening = asyncio.ensure_future(open_ws(server))
    await (await stage.next()).accept()
    client = await opening
    await client.send_frame(TEXT, b"x")
    context = server.server._context
    assert context.metrics is None
    assert [type(each) for each in context.live] == [Session]
    assert server.server.snapshot() == {}


async def test_on_sessions_count(measured, stage, open_ws):
    server, _ = await measured(stage)
    opening = asyncio.ensure_future(open_ws(server))
    await (await stage.next()).accept()
    await opening
    await until(lambda: [type(each) for each in server.server._context.live] == [MeteredSession])


def test_off_prometheus_client_is_not_imported():
    code = "import flowserve.cli, flowserve.server.server, sys; print('prometheus_client' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONGEST_TEST / 2)
    assert ended.stdout == "False\n", ended.stderr
