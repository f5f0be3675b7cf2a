"""Descriptors run short: newcomers wait, nobody is reset, the log says so in few lines, and it recovers by itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
from support.helpers import LONGEST_TEST, UPGRADE, within

from flowserve.server import descriptors

LIMIT = 128
CLIENTS = 300
"""More than twice as many as there are descriptors."""
SAID = b"No descriptors are left"
GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
LIBRARY = """
import asyncio, logging, sys
from flowserve import serve
logging.basicConfig(level="INFO")
async def echo(ws):
    async for message in ws:
        await ws.send(message)
async def main():
    async with serve(echo, "127.0.0.1", 0) as server:
        print("Listening on http://127.0.0.1:%d" % server.sockets[0].getsockname()[1], file=sys.stderr, flush=True)
        await server.serve_forever()
asyncio.run(main())
"""


def low() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))


async def listening(log: asyncio.StreamReader) -> int:
    while line := await within(log.readline(), LONGEST_TEST / 2):
        if found := re.search(rb"(?:Listening|workers serve) on http://[\d.]+:(\d+)", line):
            return int(found[1])
    raise AssertionError("it did not start")


class Crowd:
    """Clients that come at once, and stay when they have their answer, until there are no descriptors any more."""

    def __init__(self, port: int, request: bytes) -> None:
        self.port = port
        self.request = request
        self.answered = 0
        self.full = asyncio.Event()

    async def visit(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(self.request)
            head = await reader.readuntil(b"\r\n\r\n")  # a reset raises
            assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101")), head
            self.answered += 1
            await self.full.wait()
        finally:
            writer.transport.abort()

    async def watch(self, log: asyncio.StreamReader) -> list[bytes]:
        """Open the way as soon as the log says so; return what it says."""
        lines = []
        while line := await log.readline():
            lines.append(line)
            if SAID in line:
                self.full.set()
        return lines


@pytest.mark.parametrize(
    "options",
    [("--loop", "uvloop"), ("--loop", "asyncio"), ("--loop", "uvloop", "--workers", "2"), ("library",)],
    ids=["uvloop", "asyncio", "workers", "library"],
)
async def test_newcomers_wait_until_others_have_ended(options: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flowserve", "--app-dir", str(Path(__file__).parent.parent), "--port", "0"]
    command += ["--no-access-log", *options, "support.helpers:hello"]
    request = GET
    if options == ("library",):
        command, request = [sys.executable, "-c", LIBRARY], UPGRADE
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, preexec_fn=low)
    assert process.stderr is not None
    try:
        crowd = Crowd(await listening(process.stderr), request)
        watching = asyncio.ensure_future(crowd.watch(process.stderr))
        await within(asyncio.gather(*(crowd.visit() for _ in range(CLIENTS))), 40)
        assert crowd.answered == CLIENTS
        late = Crowd(crowd.port, request)
        late.full.set()
        await within(late.visit())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    lines = await within(watching)
    await within(process.wait())
    assert 1 <= sum(SAID in line for line in lines) <= 20, lines
    assert not [line for line in lines if b"Traceback" in line or b"Errno" in line], lines


def test_what_is_left_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Linux says is what there is; before 6.2 it is counted."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[Any] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
        told = descriptors.descriptors_in_use()
        counted = descriptors.count_free_descriptors(1000)
        if told:
            assert abs(counted - (200 - told)) <= 2  # it needs one itself
        gc.collect()
        first = descriptors.spare_descriptors()
        held += [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
        assert descriptors.spare_descriptors() == first - 10
        monkeypatch.setattr(descriptors, "descriptors_in_use", lambda: 0)
        assert abs(descriptors.spare_descriptors() - (first - 11)) <= 1
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        assert descriptors.spare_descriptors() < 0
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
