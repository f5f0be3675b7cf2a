"""The units of examples/deploy, and what systemd does with them: sockets passed on, readiness told, signals sent."""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.helpers import Client, within
from support.programs import DEPLOY, HERE, PATIENCE, listening

from flowserve import Config
from flowserve.server.shutdown import max_shutdown_time

FLOWSERVE = str(Path(sysconfig.get_path("scripts"), "flowserve"))

# What systemd does between fork and exec: sd_listen_fds(3) wants the sockets from 3 on, and the process named.
LIKE_SYSTEMD = """
import os, sys
count = int(sys.argv[1])
found = list(map(int, sys.argv[2 : 2 + count]))
for place, each in enumerate([os.dup(each) for each in found], 3):
    os.dup2(each, place)
    os.set_inheritable(place, True)
os.environ["LISTEN_FDS"] = str(count)
os.environ["LISTEN_PID"] = str(os.getpid())
command = sys.argv[2 + count :]
os.execv(command[0], command)
"""


def is_there(path: str) -> bool:
    return os.path.exists(path)


def unit(name: str) -> configparser.RawConfigParser:
    """A unit file, which is an INI file as far as it goes here."""
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOY / name)
    return parser


def exec_start(*options: str) -> list[str]:
    """The service's command, with paths and application of this test, and `options` instead of its own numbers."""
    program, *words = shlex.split(unit("flowserve.service")["Service"]["ExecStart"])
    assert program == "/srv/myapp/.venv/bin/flowserve"
    assert words[-1] == "myapp:app"
    return [FLOWSERVE, *words[:-1], *options, "--app-dir", str(HERE), "deployed:app"]


class Manager:
    """The socket that systemd opens for the service, and the one where it hears of readiness."""

    def __init__(self, start: Any, folder: Path) -> None:
        assert unit("flowserve.socket")["Socket"]["ListenStream"].endswith(".sock")
        self.path = str(folder / "flowserve.sock")
        self.listener = listening(self.path)
        self._start = start
        self._notify_path = str(folder / "notify")
        self._heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._heard.setblocking(False)
        self._heard.bind(self._notify_path)

    async def start(self, command: list[str], *more: socket.socket) -> Any:
        sockets = (self.listener.fileno(), *(each.fileno() for each in more))
        words = (sys.executable, "-c", LIKE_SYSTEMD, str(len(sockets)), *map(str, sockets), *command)
        return await self._start(*words, fds=sockets, NOTIFY_SOCKET=self._notify_path)

    async def told(self) -> str:
        """What the service has told."""
        return (await within(asyncio.get_running_loop().sock_recv(self._heard, 4096), PATIENCE)).decode()

    async def facts(self) -> Any:
        client = await Client.connect(self.path, family=socket.AF_UNIX)
        try:
            return json.loads((await client.get()).body)
        finally:
            await client.aclose()

    async def until_gone(self, pid: int) -> None:
        """Send requests, all of which must be answered, until a worker's process is no more."""
        while is_there(f"/proc/{pid}"):
            await self.facts()

    def close(self) -> None:
        self.listener.close()
        self._heard.close()


@pytest.fixture
def systemd(start: Any, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(start, tmp_path)
    yield manager
    manager.close()


async def test_the_service(systemd):
    """ExecStart, ExecReload and the stop, as the unit has them."""
    service = unit("flowserve.service")["Service"]
    assert (service["Type"], service["ExecReload"]) == ("notify", "/bin/kill -HUP $MAINPID")
    waiting = asyncio.ensure_future(systemd.facts())  # before anybody accepts
    program = await systemd.start(exec_start("--workers", "2", "--timeout-drain", "0"))
    first = await within(waiting, PATIENCE)
    assert await systemd.told() == "READY=1"
    assert first["pid"] != program.process.pid
    program.signal(signal.SIGHUP)
    await within(systemd.until_gone(first["pid"]), PATIENCE)
    assert (await systemd.facts())["pid"] not in (first["pid"], program.process.pid)
    program.signal(signal.SIGTERM)
    assert await systemd.told() == "STOPPING=1"
    assert await program.ended() == 0
    assert "Traceback" not in program.log
    # the socket is systemd's: whoever comes now waits for the next start
    waiting = asyncio.ensure_future(systemd.facts())
    program = await systemd.start(exec_start("--workers", "2", "--timeout-drain", "0"))
    assert (await within(waiting, PATIENCE))["pid"] != first["pid"]


async def test_one_process_and_two_sockets(systemd):
    """One process tells of readiness too; sockets of two families, taken without being asked for."""
    with listening() as tcp:
        program = await systemd.start([FLOWSERVE, "--app-dir", str(HERE), "deployed:app"], tcp)
        assert await systemd.told() == "READY=1"
        assert (await systemd.facts())["pid"] == program.process.pid
        client = await Client.connect(tcp.getsockname())
        assert json.loads((await client.get()).body)["pid"] == program.process.pid
        await client.aclose()
        program.signal(signal.SIGTERM)
        assert await systemd.told() == "STOPPING=1"
        await program.stop()
    assert is_there(systemd.path)


async def test_nobody_to_tell(start):
    """A service manager that is gone is no reason to stop."""
    program = await start(FLOWSERVE, "--port", "0", "deployed:app", NOTIFY_SOCKET="@nobody/listens/here")
    await program.logged("The service manager could not be told READY=1: Connection refused")
    program.signal(signal.SIGTERM)
    assert await program.ended() == 0


def test_systemd_has_nothing_against_the_units(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    for name in ("flowserve.service", "flowserve.socket"):
        text = (DEPLOY / name).read_text().replace("/srv/myapp/.venv/bin/flowserve", FLOWSERVE)
        (tmp_path / name).write_text(text)
    command = (analyze, "verify", "./flowserve.service", "./flowserve.socket")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_there_is_time_for_the_end():
    """systemd kills no sooner than flowserve comes to its end by itself."""
    words = shlex.split(unit("flowserve.service")["Service"]["ExecStart"])
    drain = float(words[words.index("--timeout-drain") + 1].removesuffix("s"))
    limit = float(unit("flowserve.service")["Service"]["TimeoutStopSec"])
    assert limit > max_shutdown_time(Config("deployed:app", timeout_drain=drain))
