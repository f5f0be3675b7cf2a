"""The real command with several processes, and an application that tells which of them answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.helpers import Client, Response, within
from support.processes import LONG
from support.topic_fixtures import redis

__all__ = ["redis"]

APP = '''\
import os, time

VERSION = "old"

async def app(scope, receive, send):
    """HTTP: process and version; /block never ends. WebSocket: the process, then each message back."""
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        if scope["path"] == "/block":
            with open("blocking", "w") as file:
                file.write(str(os.getpid()))
            os.rename("blocking", "blocked")
            time.sleep(3600)
        body = f"{os.getpid()} {VERSION}".encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": str(os.getpid())})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({**message, "type": "websocket.send"})
'''


class Program:
    """`flowserve` in a process of its own, with its log."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.lines: list[str] = []
        self.out: list[str] = []
        self._news = asyncio.Condition()
        self._ended = False
        loop = asyncio.get_running_loop()
        self._readers = [loop.create_task(self._read()), loop.create_task(self._read_out())]
        self.address: Any = None
        self._clients: list[Client] = []
        self._tasks: list[asyncio.Task[Any]] = []

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            async with self._news:
                self.lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()
        async with self._news:
            self._ended = True
            self._news.notify_all()

    async def _read_out(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.out.append(line.decode().rstrip("\n"))

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    async def logged(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until `times` lines match the pattern; give the last of them."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.lines if (match := re.search(pattern, line))]

        async def wait() -> None:
            async with self._news:
                await self._news.wait_for(lambda: len(found()) >= times or self._ended)

        try:
            await within(wait(), LONG)
            return found()[times - 1]
        except (AssertionError, IndexError):
            raise AssertionError(f"{pattern!r} was not logged {times} times:\n{self.log}") from None

    async def serving(self) -> None:
        """Wait until all workers serve, and learn where."""
        found = await self.logged(r"http://([0-9.]+):(\d+)")
        self.address = found[1], int(found[2])

    async def connect(self) -> Client:
        """A connection, dropped at the end of the test."""
        self._clients.append(await Client.connect(self.address))
        return self._clients[-1]

    async def get(self, target: str = "/") -> Response:
        """One request on a connection of its own."""
        client = await Client.connect(self.address)
        try:
            return await client.get(target, "Connection: close")
        finally:
            await client.aclose()

    async def identity(self) -> tuple[int, str]:
        """Process and version of the worker that answers."""
        response = await self.get()
        assert response.status == 200
        pid, version = response.body.decode().split()
        return int(pid), version

    async def workers(self, count: int, without: frozenset[int] | set[int] = frozenset()) -> set[int]:
        """Ask until `count` workers other than those in `without` have answered, and no other does."""
        deadline = asyncio.get_running_loop().time() + LONG
        seen: list[int] = []
        while True:
            seen = [*seen, (await self.identity())[0]][-16 * count :]
            if len(seen) == 16 * count and len(set(seen)) == count and not set(seen) & set(without):
                return set(seen)
            assert asyncio.get_running_loop().time() < deadline, f"{set(seen)}\n{self.log}"

    async def open_ws(self) -> tuple[Client, int]:
        """A WebSocket and the process that holds it."""
        client = await self.connect()
        await client.upgrade()
        return client, int(await client.message())

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def wait(self) -> int:
        """Wait for the end; give the exit status."""
        status = await within(self.process.wait(), LONG)
        await within(asyncio.gather(*self._readers), LONG)
        return status

    def background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it beside; it is cancelled at the end of the test at the latest."""
        self._tasks.append(asyncio.get_running_loop().create_task(work))
        return self._tasks[-1]

    async def _drop_clients(self) -> None:
        while pending := [task for task in self._tasks if not task.done()]:
            for task in pending:
                task.cancel()  # again, as asyncio.wait_for loses one that comes together with a result
            await asyncio.wait(pending, timeout=0.1)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            await client.aclose()

    async def stop(self, tracebacks: int = 0) -> None:
        """SIGTERM, when its clients have gone; it must end well."""
        await self._drop_clients()
        self.signal(signal.SIGTERM)
        assert await self.wait() == 0, self.log
        assert self.log.count("Traceback") == tracebacks, self.log

    async def aclose(self) -> None:
        await self._drop_clients()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # all of them, also those that a test has stopped
        await within(self.process.wait(), LONG)
        await within(asyncio.gather(*self._readers), LONG)


Start = Callable[..., Awaitable[Program]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """`program = await start("--workers", "2")`: serves APP, which lies in `program.folder`, on a free port."""
    running: list[Program] = []
    (tmp_path / "application.py").write_text(APP)

    async def launch(
        *options: str,
        app: str = "application:app",
        script: str | None = None,
        interpreter: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
        folders: Sequence[str] = (),
        bytecode: bool = False,
        place: Sequence[str] = ("--port", "0"),
        serving: bool = True,
    ) -> Program:
        for name in folders:
            (tmp_path / name).mkdir(parents=True)
        for name, text in (files or {}).items():
            (tmp_path / name).write_text(text)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("FLOWSERVE_")}
        if "FLOWSERVE_PURE" in os.environ:
            environment["FLOWSERVE_PURE"] = os.environ["FLOWSERVE_PURE"]
        if not bytecode:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"  # it would hide a change of the same length and second
        command = ("-m", "flowserve", app, "--no-access-log", *place, *options)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *interpreter, *([script] if script else command)),
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        running.append(Program(process, tmp_path))
        if serving:
            await running[-1].serving()
        return running[-1]

    yield launch
    for program in running:
        await program.aclose()
