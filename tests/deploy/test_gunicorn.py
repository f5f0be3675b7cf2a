"""gunicorn -k flowserve.gunicorn.Worker, as its users start it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support.helpers import Client, until, within
from support.programs import DEPLOY, HERE, Program

pytest.importorskip("gunicorn")

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage

from flowserve import ConfigError
from flowserve.gunicorn import Worker

CHUNK = b"5\r\nhello\r\n"


class Gunicorn:
    def __init__(self, program: Program, host: str, port: int) -> None:
        self.program = program
        self.address = (host, port)
        self._open: list[Any] = []

    async def http(self) -> Client:
        client = await Client.connect(self.address)
        self._open.append(client.aclose)
        return client

    async def facts(self) -> Any:
        """What the application tells of a request over HTTP."""
        return json.loads((await (await self.http()).get()).body)

    async def upload(self) -> tuple[Client, AsyncIterator[bytes]]:
        """A request that is in progress, and the chunks of its response, which follow those of its body."""
        client = await self.http()
        await client.raw(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK)
        assert (await client.head()).status == 200
        chunks = client.chunks()
        assert await within(anext(chunks)) == b"hello"
        return client, chunks

    async def ws(self, **options: Any) -> tuple[ClientConnection, int]:
        """A WebSocket, and the process ID of its worker."""
        scheme, (host, port) = "wss" if "ssl" in options else "ws", self.address
        ws = await within(connect(f"{scheme}://{host}:{port}", proxy=None, **options).__aenter__())
        self._open.append(ws.close)
        return ws, json.loads(await within(ws.recv()))["pid"]

    async def aclose(self) -> None:
        for close in self._open:
            await within(close())


Start = Callable[..., Awaitable[Gunicorn]]


@pytest.fixture
async def gunicorn(start: Any, tmp_path: Any) -> AsyncIterator[Start]:
    """`running = await gunicorn("deployed:app", "--workers", "2")`: all workers serve."""
    running: list[Gunicorn] = []

    async def launch(app: str, *options: str, workers: int = 1, port: int = 0, cwd: Any = None, **env: str) -> Gunicorn:
        bind = ("--bind", f"127.0.0.1:{port}", "--workers", str(workers))
        command = (sys.executable, "-m", "gunicorn", "-k", "flowserve.gunicorn.Worker", *bind, *options, app)
        # gunicorn makes itself a control socket in the home folder
        program = await start(*command, cwd=cwd or HERE, HOME=str(tmp_path), **env)
        await program.logged("Listening on https?://", workers)
        found = await program.logged(r"Listening on https?://([0-9.]+):(\d+)")
        running.append(Gunicorn(program, found[1], int(found[2])))
        return running[-1]

    yield launch
    for each in running:
        await each.aclose()


async def closed(ws: ClientConnection) -> tuple[int | None, str]:
    """What the server closed the WebSocket with."""
    with pytest.raises(ConnectionClosed):
        await within(ws.recv())
    return ws.close_code, ws.close_reason or ""


# Serving and ending


async def test_two_workers_serve_and_term_ends_them(gunicorn):
    """WebSocket and HTTP over two workers; SIGTERM closes with 1012, lets a request complete, and exits 0."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        running = await gunicorn("deployed:app", "--reuse-port", "--access-logfile", "-", workers=2, port=port)
        opened = [await running.ws()]
        while len({pid for _, pid in opened}) < 2 and len(opened) < 200:
            opened.append(await running.ws())
        pids = {pid for _, pid in opened}
        assert len(pids) == 2
        for ws, _ in opened:
            await ws.send("hello")
            assert await within(ws.recv()) == "hello"
            await ws.send(b"\x00" * 100_000)
            assert await within(ws.recv()) == b"\x00" * 100_000
        assert (await running.facts())["pid"] in pids
        upload, chunks = await running.upload()
        running.program.signal(signal.SIGTERM)
        for ws, _ in opened:
            assert await closed(ws) == (1012, "the server is shutting down")
        await upload.raw(CHUNK + b"0\r\n\r\n")
        assert [chunk async for chunk in chunks] == [b"hello"]
        await upload.closed()
        log = await running.program.stop()
    assert log.count("lifespan shutdown") == 2
    assert '"GET / HTTP/1.1" 200' in log
    assert log.count('"WebSocket /" closed 1012') == len(opened)


TALK = """
import os
from flowserve import topics

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await topics.publish("t", "hello")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""


async def test_topics_of_each_worker_are_its_own(gunicorn, tmp_path):
    """Each worker that uses them says so, once."""
    (tmp_path / "talk.py").write_text(TALK)
    running = await gunicorn("talk:app", workers=2, cwd=tmp_path)
    assert "Topics" not in running.program.log
    pids = {(await (await running.http()).get()).body for _ in range(20)}
    await running.program.logged("reach those who are subscribed in the others; set FLOWSERVE_TOPICS_URL=", len(pids))
    await running.aclose()
    running.program.signal(signal.SIGTERM)
    assert await running.program.ended() == 0
    assert running.program.log.count("FLOWSERVE_TOPICS_URL=redis://HOST") == len(pids)


@pytest.mark.parametrize(("workers", "env"), [(1, {}), (2, {"FLOWSERVE_TOPICS_URL": "memory:"})])
async def test_nothing_is_said_of_topics_where_they_are_as_wanted(gunicorn, tmp_path, workers, env):
    (tmp_path / "talk.py").write_text(TALK)
    running = await gunicorn("talk:app", workers=workers, cwd=tmp_path, **env)
    assert (await (await running.http()).get()).status == 200
    await running.aclose()
    assert "Topics" not in await running.program.stop()


STREAM = """
import asyncio, signal

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while not signal.getsignal(signal.SIGTERM).__self__.should_exit:
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"over"})
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_libraries_find_the_server_by_its_signal_handler(gunicorn, tmp_path, loop):
    """As sse-starlette does, to end its streams."""
    (tmp_path / "streams.py").write_text(STREAM)
    running = await gunicorn("streams:app", cwd=tmp_path, FLOWSERVE_LOOP=loop)
    client = await Client.connect(running.address)
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.head()
    await client.expect(b"5\r\nbegun\r\n")
    running.program.signal(signal.SIGTERM)
    assert b"".join([chunk async for chunk in client.chunks()]) == b"over"
    await client.aclose()
    await running.program.stop()


async def test_repeated_term_does_not_hurry_a_worker(gunicorn):
    """gunicorn sends SIGTERM every second to a worker too many; a request in progress completes all the same."""
    running = await gunicorn("deployed:app")
    ws, pid = await running.ws()
    upload, chunks = await running.upload()
    for _ in range(3):
        os.kill(pid, signal.SIGTERM)
        for _ in range(20):
            await upload.raw(CHUNK)
            assert await within(anext(chunks)) == b"hello"
            await asyncio.sleep(0.005)  # as time passes for the worker as well
    assert (await closed(ws))[0] == 1012
    await upload.raw(b"0\r\n\r\n")
    assert [chunk async for chunk in chunks] == []
    await running.program.logged("Listening on http", 2)  # gunicorn wants one worker
    assert (await running.facts())["pid"] != pid
    await running.program.stop()


async def test_hup_brings_new_workers(gunicorn):
    """With the example's configuration file."""
    options = ("-c", str(DEPLOY / "gunicorn.conf.py"), "--env", "FLOWSERVE_TIMEOUT_DRAIN=100ms")
    running = await gunicorn("deployed:app", *options, "--env", "FLOWSERVE_HEALTH_PATH=/-/health", workers=2)
    ws, pid = await running.ws()
    assert (await (await running.http()).get("/-/health")).status == 200
    running.program.signal(signal.SIGHUP)
    assert (await closed(ws))[0] == 1012
    await running.program.logged("Listening on http", 4)
    await running.program.logged("Worker exiting", 2)
    assert (await running.facts())["pid"] != pid
    log = await running.program.stop()
    assert "/-/health" not in log


async def test_max_requests(gunicorn):
    """WebSockets count, and are told when their worker is replaced."""
    running = await gunicorn("deployed:app", "--max-requests", "3")
    ws, pid = await running.ws()
    client = await running.http()
    for _ in range(2):
        assert json.loads((await client.get()).body)["pid"] == pid
    assert (await closed(ws))[0] == 1012
    await running.program.logged("Listening on http", 2)
    assert (await running.facts())["pid"] != pid
    log = await running.program.stop()
    assert "after 3 requests" in log
    assert '"GET / HTTP/1.1"' not in log  # gunicorn's access log is off by default


async def test_sigquit_is_quick(gunicorn):
    """No wait for a request that does not end, but a word to WebSockets."""
    running = await gunicorn("deployed:app", FLOWSERVE_TIMEOUT_DRAIN="20s", FLOWSERVE_ACCESS_LOG="on")
    ws, _ = await running.ws()
    await running.upload()
    running.program.signal(signal.SIGQUIT)
    assert (await closed(ws))[0] == 1012
    assert await running.program.ended() == 0
    assert "Traceback" not in running.program.log
    assert '"WebSocket /" closed 1012' in running.program.log


async def test_workers_stop_when_gunicorn_is_killed(gunicorn):
    running = await gunicorn("deployed:app", workers=2)
    ws, _ = await running.ws()
    running.program.signal(signal.SIGKILL)
    assert (await closed(ws))[0] == 1012
    assert await running.program.ended() == -signal.SIGKILL  # which waits for the workers too


def beaten_file(pid: int) -> str:
    """The file without a name whose time a worker sets for gunicorn as a sign of life."""
    for each in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{each}"
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if "/wgunicorn-" in os.readlink(path):
                return path
    raise AssertionError("the worker has no such file")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
async def test_heartbeats(gunicorn):
    """A worker whose event loop turns says so again and again; one that hangs is replaced."""
    running = await gunicorn("deployed:app", "--timeout", "2")
    ws, pid = await running.ws()
    beaten = beaten_file(pid)
    for _ in range(2):
        before = os.stat(beaten).st_mtime
        await until(lambda before=before: os.stat(beaten).st_mtime > before)
    await ws.send("hang")
    await running.program.logged(rf"WORKER TIMEOUT \(pid:{pid}\)")
    await running.program.logged("Listening on http", 2)
    assert (await running.facts())["pid"] != pid


async def test_tls(gunicorn, tmp_path):
    """gunicorn's settings for TLS, mutual at that; a flowserve option from the environment."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@example.com")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    files = ("--certfile", "cert.pem", "--keyfile", "key.pem", "--ca-certs", "ca.pem", "--cert-reqs", "2")
    running = await gunicorn(
        "deployed:app",
        *files,
        *("--chdir", str(tmp_path), "--pythonpath", str(HERE)),
        FLOWSERVE_SSL_VERSION_MIN="TLSv1.3",
    )
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    client.configure_cert(context)
    ws, _ = await running.ws(ssl=context)
    await ws.send("hello")
    assert await within(ws.recv()) == "hello"
    for wrong in (ssl.create_default_context(cafile=str(tmp_path / "ca.pem")), context):
        if wrong is context:
            wrong.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError, InvalidMessage)):
            await running.ws(ssl=wrong)
    await running.program.stop()


# Reloading


async def change(file: Path, text: str, seen: Awaitable[Any]) -> Any:
    """Write the file, until what that should bring about has come: the reloader may begin to look later than this."""
    task = asyncio.ensure_future(seen)
    write(file, text)
    while not (await asyncio.wait({task}, timeout=0.5))[0]:
        touch(file)
    return await task


def write(file: Path, text: str) -> None:
    file.write_text(text)


def touch(file: Path) -> None:
    later = file.stat().st_mtime + 1
    os.utime(file, (later, later))


async def test_reload(gunicorn, tmp_path):
    """New code though a WebSocket and a request are open; code that can't be imported is waited out."""
    source = (HERE / "deployed.py").read_text()
    file = tmp_path / "reloaded.py"
    file.write_text(source)
    running = await gunicorn("reloaded:app", "--reload", cwd=tmp_path)
    ws, pid = await running.ws()
    await running.upload()
    assert (await change(file, "import nothing_of_this_name\n", closed(ws)))[0] == 1012
    await running.program.logged("No module named 'nothing_of_this_name'")
    await running.program.logged("Waiting for a file to change")
    await change(file, source, running.program.logged("Listening on http", 2))
    assert (await running.facts())["pid"] != pid


async def test_a_failing_start_is_waited_out(start, tmp_path):
    """With --reload; SIGTERM ends the wait."""
    command = (sys.executable, "-m", "gunicorn", "-k", "flowserve.gunicorn.Worker", "--bind", "127.0.0.1:0")
    program = await start(*command, "--reload", "deployed:failing", HOME=str(tmp_path))
    await program.logged("application startup failed: the database is away")
    await program.logged("Waiting for a file to change")
    program.signal(signal.SIGTERM)
    assert await program.ended() == 0
    assert program.log.count("Booting worker") == 1


# What can't start


async def failure(start: Any, tmp_path: Any, app: str, *options: str, **environment: str) -> tuple[int, str]:
    command = (sys.executable, "-m", "gunicorn", "-k", "flowserve.gunicorn.Worker", "--bind", "127.0.0.1:0")
    program = await start(*command, *options, app, HOME=str(tmp_path), **environment)
    status = await program.ended()
    return status, program.log


@pytest.mark.parametrize(
    ("app", "options", "environment", "line"),
    [
        ("deployed:failing", (), {}, "[ERROR] application startup failed: the database is away"),
        (
            "deployed:wsgi",
            (),
            {},
            "looks like a WSGI application; use --interface wsgi (here --interface is FLOWSERVE_I",
        ),
        ("deployed:app", ("--certfile", "deployed.py"), {}, "(here --ssl-certfile is gunicorn's --certfile)"),
        ("deployed:app", (), {"FLOWSERVE_WS_MAX_SIZE": "big"}, "[ERROR] FLOWSERVE_WS_MAX_SIZE: 'big' is not a size"),
    ],
)
async def test_a_failure_stops_gunicorn(start, tmp_path, app, options, environment, line):
    """One clear line, gunicorn's own status for it, no worker again and again."""
    status, log = await failure(start, tmp_path, app, *options, **environment)
    assert status == 3, log
    assert line in log
    assert "Traceback" not in log
    assert log.count("Booting worker") == 1
    assert "Reason: Worker failed to boot." in log


async def test_an_unknown_application(start, tmp_path):
    status, log = await failure(start, tmp_path, "deployed:nothing")
    assert status == 4
    assert "Failed to find attribute 'nothing' in 'deployed'" in log


async def test_term_while_the_application_starts(start, tmp_path):
    """A start that takes for ever does not hold up the end."""
    command = (sys.executable, "-m", "gunicorn", "-k", "flowserve.gunicorn.Worker", "--bind", "127.0.0.1:0")
    program = await start(*command, "deployed:never_ready", HOME=str(tmp_path))
    await program.logged("starting")
    await program.stop()


# How settings become options


def worker(kind: type[Worker] = Worker, **settings: Any) -> Worker:
    """A worker as gunicorn makes it from these settings."""

    class Application(BaseApplication):
        def load_config(self) -> None:
            for name, value in settings.items():
                self.cfg.set(name, value)

    application = Application()
    cfg = application.cfg
    made = kind(1, os.getpid(), [], application, cfg.timeout / 2, cfg, Logger(cfg))
    made.wsgi = print
    made.tmp.close()
    return made


@pytest.fixture
def bare(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("FLOWSERVE_", "FORWARDED_")) and name != "FLOWSERVE_PURE":
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("settings", "option", "value"),
    [
        ({}, "timeout_keep_alive", 2.0),
        ({"keepalive": 75}, "timeout_keep_alive", 75.0),
        ({}, "timeout_graceful_shutdown", 23.0),
        ({"graceful_timeout": 5}, "timeout_graceful_shutdown", 2.5),
        ({}, "limit_max_requests", None),
        ({"max_requests": 10}, "limit_max_requests", 10),
        ({"forwarded_allow_ips": "127.0.0.1,::1"}, "forwarded_allow_ips", ("127.0.0.1", "::1", "unix")),
        ({"forwarded_allow_ips": "*"}, "forwarded_allow_ips", ("*", "unix")),
        ({"forwarded_allow_ips": "10.0.0.0/8, 10.1.1.1"}, "forwarded_allow_ips", ("10.0.0.0/8", "10.1.1.1", "unix")),
        ({}, "proxy_protocol", False),
        ({"proxy_protocol": True}, "proxy_protocol", True),
        ({"limit_request_fields": 7}, "h1_max_header_count", 7),
        ({"limit_request_fields": 0}, "h1_max_header_count", 32768),
        ({"loglevel": "DEBUG"}, "log_level", "debug"),
        ({}, "access_log", False),
        ({"accesslog": "-"}, "access_log", True),
        ({"certfile": "c", "keyfile": "k", "cert_reqs": 1, "ca_certs": "a"}, "ssl_cert_reqs", "optional"),
        ({"certfile": "c", "ciphers": "ECDHE"}, "ssl_ciphers", "ECDHE"),
        ({"backlog": 5}, "backlog", 5),
    ],
)
def test_settings_become_options(bare, settings, option, value):
    assert getattr(worker(**settings)._config(), option) == value


def test_jitter_is_gunicorns(bare):
    made = worker(max_requests=10, max_requests_jitter=5)
    assert 10 <= made.max_requests <= 15
    assert made._config().limit_max_requests == made.max_requests


def test_a_context_of_ones_own(bare):
    """gunicorn's hook gets what it gets from gunicorn: its settings, and what makes the default."""
    seen = []

    def hook(conf, default):
        seen.append(conf)
        return default()

    made = worker(certfile="c", ssl_context=hook)
    factory = made._config().ssl_context_factory
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert factory(None, lambda: context) is context
    assert seen == [made.cfg]
    assert worker(certfile="c")._config().ssl_context_factory is None


def test_sources_of_options(bare):
    """The environment, before the class attribute, before gunicorn's settings; what is gunicorn's stays its own."""

    class Mine(Worker):
        options: ClassVar = {"ws_max_size": "1KiB", "timeout_keep_alive": 7, "health_path": "/here", "workers": 3}

    assert worker(Mine, keepalive=75)._config().timeout_keep_alive == 7
    bare.setenv("FLOWSERVE_TIMEOUT_KEEP_ALIVE", "9s")
    bare.setenv("FLOWSERVE_PORT", "1")
    config = worker(Mine, keepalive=75)._config()
    assert (config.timeout_keep_alive, config.ws_max_size, config.health_path) == (9, 1024, "/here")
    assert (config.workers, config.port) == (1, 8000)


def test_the_drain_is_part_of_the_graceful_timeout(bare):
    bare.setenv("FLOWSERVE_TIMEOUT_DRAIN", "20s")
    config = worker()._config()
    assert (config.timeout_drain, config.timeout_graceful_shutdown) == (20, 6.4)
    with pytest.raises(ConfigError, match="FLOWSERVE_TIMEOUT_DRAIN: gunicorn kills workers 15s after"):
        worker(graceful_timeout=15)._config()


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"loglevel": "loud"}, {}, "gunicorn's --log-level: 'loud' is not one of"),
        ({"proxy_protocol": True, "proxy_allow_ips": "10.0.0.1"}, {}, "must be the same"),
        ({"keyfile": "k"}, {}, "TLS needs a certificate too"),
        ({}, {"ws_max_sise": 1}, "Mine.options: there is no option 'ws_max_sise'"),
    ],
)
def test_wrong_settings(bare, settings, options, message):
    mine = type("Mine", (Worker,), {"options": options})
    with pytest.raises(ConfigError, match=message):
        worker(mine, **settings)._config()


def test_threads_are_those_of_a_wsgi_application(bare, caplog):
    assert worker(threads=4)._config().wsgi_threads == 40
    bare.setenv("FLOWSERVE_INTERFACE", "wsgi")
    assert worker()._config().wsgi_threads == 40
    made = worker(threads=4)
    assert made._config().wsgi_threads == 4
    Worker.check_config(made.cfg, logging.getLogger("test"))
    assert not any("--threads" in line for line in caplog.messages)
    bare.setenv("FLOWSERVE_WSGI_THREADS", "8")
    assert made._config().wsgi_threads == 8


def test_what_has_no_effect_is_said(bare, caplog):
    class Mine(Worker):
        options: ClassVar = {"pid_file": "x"}

    made = worker(Mine, limit_request_line=100, threads=4)
    log = logging.getLogger("test")
    bare.setenv("FLOWSERVE_METRICS", "127.0.0.1:9000")
    Mine.check_config(made.cfg, log)
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "Mine.options",
        "FLOWSERVE_METRICS has no effect here",
        "--limit-request-line has no effect with this worker",
        "--threads has no effect with this worker",
    ]
    caplog.clear()
    Worker.check_config(worker().cfg, log)
    assert len(caplog.messages) == 1


def test_a_worker_class_that_was_written_for_uvicorn(bare, caplog):
    """Its options are taken, and the name that they had there is named."""
    theirs: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "ws": "auto", "lifespan": "off"}
    theirs["h11_max_incomplete_event_size"] = 9000
    bare.setenv("UVICORN_BACKLOG", "1")
    mine = type("Mine", (Worker,), {"options": theirs, "CONFIG_KWARGS": theirs})
    made = worker(mine)
    mine.check_config(made.cfg, logging.getLogger("test"))
    assert caplog.messages == [
        "UVICORN_BACKLOG is not read; write FLOWSERVE_BACKLOG",
        "Mine.options: http httptools has no effect: flowserve has one HTTP implementation; leave it out",
        "Mine.CONFIG_KWARGS is not read; call it options",
    ]
    config = made._config()
    assert (config.loop, config.lifespan, config.h1_max_header_size) == ("uvloop", "off", 9000)
