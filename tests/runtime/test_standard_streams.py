"""Standard streams that are closed, or None as under pythonw: the server serves as ever, in each role."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.helpers import Client, within

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are inherited")

TESTS = Path(__file__).parents[1]

COMMAND = """
import os, sys
for number in CLOSED:
    os.close(number)
os.execv(sys.executable, [sys.executable, "-m", "flowserve", "support.helpers:echo", *sys.argv[1:]])
"""

RUN = """
import sys, flowserve
sys.stdin = sys.stdout = sys.stderr = None
fd, role = int(sys.argv[2]), sys.argv[3:]
options = {"workers": 2} if "--workers" in role else {"reload": "--reload" in role}
flowserve.run("support.helpers:echo", fd=fd, lifespan="off", **options)
"""

ROLES = pytest.mark.parametrize("role", [(), ("--workers", "2"), ("--reload", "--reload-dir", "support")])


async def serves_until_stopped(code: str, role: tuple[str, ...]) -> None:
    """Start it on a socket that it inherits, have it echo, send SIGTERM; it must end with status 0."""
    environment = {key: value for key, value in os.environ.items() if key == "FLOWSERVE_PURE" or "FLOWSERVE" not in key}
    with socket.create_server(("127.0.0.1", 0)) as sock:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, "--fd", str(sock.fileno()), *role),
            cwd=TESTS,
            env=environment,
            pass_fds=[sock.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            client = await Client.connect(sock.getsockname())
            await within(client.upgrade(), 20)
            await client.send_text("hello")
            assert await client.message() == "hello"
            await client.aclose()
            process.send_signal(signal.SIGTERM)
            assert await within(process.wait(), 20) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@ROLES
@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
async def test_closed(role, closed):
    await serves_until_stopped(COMMAND.replace("CLOSED", str(closed)), role)


@ROLES
async def test_none(role):
    await serves_until_stopped(RUN, role)


@pytest.mark.parametrize("role", [(), ("--workers", "2")])
def test_an_application_that_fails(role, tmp_path):
    """Nobody sees why, but the exit status tells."""
    (tmp_path / "broken.py").write_text("1 / 0")
    code = COMMAND.replace("CLOSED", "[2]").replace("support.helpers:echo", "broken:app")
    process = subprocess.run([sys.executable, "-c", code, "--port", "0", *role], cwd=tmp_path, timeout=20, check=False)
    assert process.returncode == 1
