"""Servers and clients for end-to-end tests: real sockets on port 0, in the test's own event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
import pytest

pytest.register_assert_rewrite("support")
sys.path.append(str(Path(__file__).resolve().parents[1]))  # compliance is not installed

from support.forks import Forks  # noqa: E402
from support.helpers import LONGEST_TEST, Client, Running, Stage, within  # noqa: E402  (so that its assertions explain themselves)

TESTS = Path(__file__).parent
ROOT = TESTS.parent
# Where this is set, as in many containers, each interpreter that a test starts would compile the whole package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Machines are busy, and interpreters sanitized.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")


def stale_extensions(package: Path) -> list[Path]:
    """Compiled modules under `package` that are older than the .py or .pxd that they were made of."""
    stale = []
    for compiled in package.rglob("*.so"):
        stem = compiled.name.partition(".")[0]
        sources = [compiled.with_name(stem + suffix) for suffix in (".py", ".pxd")]
        if any(source.exists() and source.stat().st_mtime > compiled.stat().st_mtime for source in sources):
            stale.append(compiled)
    return stale


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "app_fails: the application misbehaves on purpose; the server must log an error")
    config.addinivalue_line("markers", "both_loops: run on asyncio's own event loop and on uvloop")
    config.addinivalue_line("markers", "builds: the package, which takes minutes where others keep the cores busy")


def pytest_sessionstart(session: pytest.Session) -> None:
    stale = [] if os.environ.get("FLOWSERVE_PURE") == "1" else stale_extensions(ROOT / "flowserve")
    if stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in sorted(stale))
        pytest.exit(f"older than their source, which they would hide: {names}. Build again: pip install -e .", 4)


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """asyncio's own loop; uvloop beside it where a test asks for both, or for all with FLOWSERVE_TEST_LOOP=uvloop."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if sys.platform != "win32":
        import uvloop

        if os.environ.get("FLOWSERVE_TEST_LOOP") == "uvloop":
            return {"uvloop": uvloop.new_event_loop}
        if item.get_closest_marker("both_loops"):
            loops["uvloop"] = uvloop.new_event_loop
    return loops


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End a test that hangs, be it in a loop that no event loop interrupts: bounded waits can't help there."""
    if not hasattr(signal, "setitimer"):
        return (yield)

    longest = LONGEST_TEST * (5 if item.get_closest_marker("builds") else 1)

    def too_long(number: int, where: FrameType | None) -> None:
        raise AssertionError(f"longer than {longest} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, longest, LONGEST_TEST / 12)  # again, for a test that has caught it
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """`ended = forks.run(code, *arguments, cwd=folder)`: a process of its own, with flowserve loaded already."""
    forks = Forks()
    yield forks
    forks.close()


class Logs(logging.Handler):
    """What flowserve and asyncio logged."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def lines(self, logger: str = "flowserve", level: int = logging.DEBUG) -> list[str]:
        """The messages of exactly `logger` from `level` upward."""
        return [r.getMessage() for r in self.records if r.name == logger and r.levelno >= level]

    @property
    def errors(self) -> list[str]:
        return [f"{r.name}: {r.getMessage()}" for r in self.records if r.levelno >= logging.ERROR]


@pytest.fixture
def logs() -> Iterator[Logs]:
    """All that is logged, whatever a test before this one made of the loggers."""
    handler = Logs()
    flowserve, access, loop = map(logging.getLogger, ("flowserve", "flowserve.access", "asyncio"))
    before = [(logger, logger.level, logger.propagate, logger.handlers[:]) for logger in (flowserve, access, loop)]
    flowserve.setLevel(logging.INFO)
    flowserve.handlers[:] = [handler]
    access.setLevel(logging.NOTSET)
    access.handlers.clear()
    access.propagate = True
    loop.addHandler(handler)
    yield handler
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


@pytest.fixture
async def serve(request: pytest.FixtureRequest, logs: Logs) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    """`server = await serve(app, **options)`: started on a free port, shut down at the end of the test.

    At its end the server must have logged no error, or some if the test is marked with app_fails.
    """
    from flowserve import Config, Server

    servers: list[Server] = []

    async def start(app: Any, *, sockets: list[socket.socket] | None = None, **options: Any) -> Running:
        defaults = {"port": 0, "lifespan": "off", "timeout_graceful_shutdown": 3.0, "ws_close_timeout": 2.0}
        server = Server(Config(app, **{**defaults, **options}))
        await within(server.startup(sockets))
        servers.append(server)
        return Running(server)

    yield start
    for server in reversed(servers):
        await within(server.shutdown())
    if request.node.get_closest_marker("app_fails"):
        assert logs.errors
    else:
        assert not logs.errors


@pytest.fixture
async def stage(serve: Any) -> AsyncIterator[Stage]:
    """An application that the test plays."""
    stage = Stage()
    yield stage
    await stage.aclose()


@pytest.fixture
async def connect(stage: Stage) -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """`client = await connect(server)`: a raw connection, dropped at the end of the test."""
    clients: list[Client] = []

    async def open_client(server: Running, **options: Any) -> Client:
        client = await Client.connect(server.address, family=server.family, **options)
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        await client.aclose()


@pytest.fixture
async def open_ws(stage: Stage, connect: Any) -> Callable[..., Awaitable[Client]]:
    """`client = await open_ws(server)`: a raw connection with the opening handshake done."""

    async def open_client(server: Running, target: str = "/", *headers: str, **options: Any) -> Client:
        client: Client = await connect(server, **options)
        await client.upgrade(target, *headers)
        return client

    return open_client


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the machine may have is none of these tests' business."""
    for name in ("http", "https", "ws", "wss", "socks", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


class Command:
    """`flowserve` as its users start it, in a process of its own, on a socket that it inherits."""

    def __init__(self, process: asyncio.subprocess.Process, address: Any) -> None:
        self.process = process
        self.address = address
        self.family = socket.AF_INET
        self.output: tuple[str, str] | None = None

    @property
    def host(self) -> str:
        return str(self.address[0])

    @property
    def port(self) -> int:
        return int(self.address[1])

    async def logged(self, words: str) -> str:
        """Read the log up to a line that has `words` in it."""
        assert self.process.stderr is not None
        seen = b""
        while line := await within(self.process.stderr.readline()):
            seen += line
            if words in line.decode():
                return line.decode()
        raise AssertionError(f"{words!r} was not logged: {seen.decode()}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def wait(self) -> tuple[int, str, str]:
        """Wait for the end: (exit status, stdout, the rest of stderr)."""
        out, err = await within(self.process.communicate())
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@pytest.fixture
async def command(connect: Any) -> AsyncIterator[Callable[..., Awaitable[Command]]]:
    """`running = await command("support.helpers:echo", "--loop", "uvloop")`; it accepts connections at once."""
    running: list[Command] = []

    async def launch(app: str, *options: str) -> Command:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen(128)
            environment = {key: value for key, value in os.environ.items() if not key.startswith("FLOWSERVE_")}
            if "FLOWSERVE_PURE" in os.environ:
                environment["FLOWSERVE_PURE"] = os.environ["FLOWSERVE_PURE"]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "flowserve", app, "--fd", str(sock.fileno()), "--app-dir", str(TESTS)),
                *options,
                pass_fds=[sock.fileno()],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
            running.append(Command(process, sock.getsockname()))
        return running[-1]

    yield launch
    for command in running:
        if command.process.returncode is None:
            command.process.kill()
        await within(command.process.communicate())
