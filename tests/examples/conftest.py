"""The examples, started as their pages say, in the checkout; and a browser.

Tests with the browser are skipped without Chromium; with FLOWSERVE_CI set that is a failure. FLOWSERVE_SCREENSHOTS
names a folder for pictures.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.devtools import START, Browser, Page
from support.helpers import within
from support.topic_fixtures import redis

__all__ = ["redis"]

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("FLOWSERVE_") or k == "FLOWSERVE_PURE"}


class Example:
    """A running `flowserve APP`."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url
        self.ws_url = "ws" + url.removeprefix("http")

    async def stop(self, *expected: str) -> str:
        """SIGTERM; return what it printed on stdout. The end must be clean, and nothing must have gone wrong but what
        `expected` says: parts of lines in the log."""
        self.process.send_signal(signal.SIGTERM)
        out, err = await within(self.process.communicate())
        assert self.process.returncode == 0, err.decode()
        problems = [line for line in err.decode().splitlines() if re.search("ERROR|WARNING|Traceback", line)]
        assert [line for line in problems if not any(part in line for part in expected)] == []
        return out.decode()


@pytest.fixture
async def example() -> AsyncIterator[Callable[..., Awaitable[Example]]]:
    """`running = await example("echo:app")`; it accepts connections. It is stopped at the end of the test, cleanly.

    It listens on a free port, or on `sock` if given.
    """
    command = Path(sysconfig.get_path("scripts"), "flowserve")
    started: list[Example] = []

    async def start(app: str, *options: str, sock: socket.socket | None = None) -> Example:
        where = ("--port", "0") if sock is None else ("--fd", str(sock.fileno()))
        process = await asyncio.create_subprocess_exec(
            *(str(command), f"examples.{app}", *where, *options),
            pass_fds=() if sock is None else (sock.fileno(),),
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        printed = b""
        while line := await within(process.stderr.readline(), START):
            printed += line
            if found := re.search(r"(?:Listening|workers serve) on (http://127\.0\.0\.1:\d+)", line.decode()):
                started.append(Example(process, found[1]))
                return started[-1]
        raise AssertionError(f"it did not start: {printed.decode()}")

    yield start
    for each in started:
        if each.process.returncode is None:
            await each.stop()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[asyncio.subprocess.Process]]]:
    """`process = await start("client.py", "ws://…")`; whatever still runs at the end is killed."""
    started: list[asyncio.subprocess.Process] = []

    async def run(name: str, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            name,
            *arguments,
            cwd=ROOT / "examples" / "library",
            env=ENVIRONMENT,
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


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("FLOWSERVE_CI"):
            pytest.fail("chromium is not installed here")
        pytest.skip("chromium is not installed")
    browser = await Browser.launch(path, tmp_path / "profile")
    yield browser
    await browser.aclose()


@pytest.fixture
def picture() -> Iterator[Callable[..., Awaitable[None]]]:
    """`await picture(page, name)`: the page as a file, where FLOWSERVE_SCREENSHOTS names a folder for it."""

    async def take(page: Page, name: str, **options: Any) -> None:
        if "FLOWSERVE_SCREENSHOTS" in os.environ:
            taken[name] = await page.screenshot(**options)

    taken: dict[str, bytes] = {}
    yield take
    for name, data in taken.items():
        Path(os.environ["FLOWSERVE_SCREENSHOTS"], f"{name}.png").write_bytes(data)
