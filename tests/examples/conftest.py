"""The examples, started as examples/README.md says: `flowserve examples.echo:app` in the checkout."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from support.helpers import within

ROOT = Path(__file__).parents[2]


class Example:
    """A running `flowserve APP`."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url
        self.ws_url = "ws" + url.removeprefix("http")

    async def stop(self) -> str:
        """SIGTERM; return what it printed on stdout. The end must be clean and nothing must have gone wrong."""
        self.process.send_signal(signal.SIGTERM)
        out, err = await within(self.process.communicate())
        assert self.process.returncode == 0, err.decode()
        assert "ERROR" not in err.decode()
        assert "WARNING" not in err.decode()
        return out.decode()


@pytest.fixture
async def example() -> AsyncIterator[Callable[..., Awaitable[Example]]]:
    """`running = await example("echo:app")`; it accepts connections. It is stopped at the end of the test, cleanly.

    It listens on a free port, or on `sock` if given.
    """
    command = Path(sysconfig.get_path("scripts"), "flowserve")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLOWSERVE_") or k == "FLOWSERVE_PURE"}
    started: list[Example] = []

    async def start(app: str, *options: str, sock: socket.socket | None = None) -> Example:
        where = ("--port", "0") if sock is None else ("--fd", str(sock.fileno()))
        process = await asyncio.create_subprocess_exec(
            *(str(command), f"examples.{app}", *where, *options),
            pass_fds=() if sock is None else (sock.fileno(),),
            cwd=ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        printed = b""
        while line := await within(process.stderr.readline()):
            printed += line
            if found := re.search(r"Listening on (http://127\.0\.0\.1:\d+)", line.decode()):
                started.append(Example(process, found[1]))
                return started[-1]
        raise AssertionError(f"it did not start: {printed.decode()}")

    yield start
    for each in started:
        if each.process.returncode is None:
            await each.stop()
