"""What the tests of draining and recycling share: an application for the real command, the command on a port of its
own, and clients that take no failure for an answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.helpers import Client, echo, hello, within

TESTS = Path(__file__).parents[1]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """HTTP: 'hello'. WebSocket: echoes. Prints what of it ends: each WebSocket, and the lifespan."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shutdown", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        await hello(scope, receive, send)
    else:
        with contextlib.suppress(OSError):
            await echo(scope, receive, send)
        print("disconnect", flush=True)


hoard: list[bytes] = []


async def hoarder(scope: Any, receive: Any, send: Any) -> None:
    """Takes 128 MiB of memory with the first request."""
    if scope["type"] == "http" and not hoard:
        hoard.append(os.urandom(1 << 20) * 128)
    await hello(scope, receive, send)


class Launched:
    """The command, listening on a port that it chose itself: inherited sockets can be closed with less loss."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log = ""
        self.address: tuple[str, int] = ("", 0)

    async def logged(self, words: str) -> str:
        """Read the log up to a line that has `words` in it."""
        assert self.process.stderr is not None
        while line := (await within(self.process.stderr.readline())).decode():
            self.log += line
            if words in line:
                return line
        raise AssertionError(f"{words!r} was not logged: {self.log}")

    async def wait(self) -> tuple[int, str]:
        """Wait for the end, and give exit status and stdout; `log` is complete then."""
        out, err = await within(self.process.communicate(), 20)
        self.log += err.decode()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode()


@contextlib.asynccontextmanager
async def launched(app: str, *options: str) -> AsyncIterator[Launched]:
    """The command that serves `app`, killed at the end if it still runs."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FLOWSERVE_")}
    if "FLOWSERVE_PURE" in os.environ:
        environment["FLOWSERVE_PURE"] = os.environ["FLOWSERVE_PURE"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flowserve", app, "--bind", "127.0.0.1:0", "--app-dir", str(TESTS), "--no-access-log"),
        *options,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=TESTS,
    )
    running = Launched(process)
    try:
        found = re.search(r"://([\d.]+):(\d+)", await running.logged("Listening on"))
        assert found
        running.address = found[1], int(found[2])
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await within(process.communicate())


class Traffic:
    """Requests one after the other until nobody listens any more. None may fail: what is connected is answered."""

    def __init__(self, address: Any) -> None:
        self.address = address
        self.answered = 0

    async def keep_alive(self) -> None:
        """On connections that stay open as long as the server likes.

        One may end without an answer only if this process was held up so long that it was idle.
        """
        time = asyncio.get_running_loop().time
        while (client := await self._connect()) is not None:
            closing, answered = False, time()
            while not closing:
                begin = time()
                try:
                    response = await client.get()
                except (OSError, asyncio.IncompleteReadError):
                    assert begin - answered > 0.4
                    break
                answered = time()
                closing = response.header("connection") == "close"
                self._count(response)
            await client.aclose()

    async def one_each(self) -> None:
        """Each on a connection of its own."""
        while (client := await self._connect()) is not None:
            self._count(await client.get("/", "Connection: close"))
            await client.aclose()

    def _count(self, response: Any) -> None:
        assert (response.status, response.body) == (200, b"hello")
        self.answered += 1

    async def _connect(self) -> Client | None:
        try:
            return await Client.connect(self.address)
        except ConnectionRefusedError:
            return None
