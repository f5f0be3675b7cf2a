"""Programs around flowserve, gunicorn and nginx among them: what they print, and how they end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from pathlib import Path

from support.helpers import within

HERE = Path(__file__).parent
"""Where programs run, beside deployed.py."""
DEPLOY = HERE.parents[1] / "examples" / "deploy"
PATIENCE = 30.0
"""Seconds; programs of several processes on a machine that does other things, too."""


class Program:
    """A running program: what it writes, on stdout and stderr, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._more = asyncio.Condition()
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            async with self._more:
                self.lines.append(line.decode(errors="replace").rstrip())
                self._more.notify_all()
        async with self._more:
            self._more.notify_all()

    async def logged(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait for the line in which `pattern` is found for the `times`th time."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.lines if (match := re.search(pattern, line))]

        async def come() -> None:
            async with self._more:
                await self._more.wait_for(lambda: len(found()) >= times or self._reading.done())

        try:
            await within(come(), PATIENCE)
        finally:
            assert len(found()) >= times, f"{pattern!r} was not logged:\n{self.log}"
        return found()[times - 1]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait until the program and all its children are gone: its exit status."""
        status = await within(self.process.wait(), PATIENCE)
        await within(self._reading, PATIENCE)
        return status

    async def stop(self) -> str:
        """SIGTERM; the end must be clean and nothing must have gone wrong. Returns all that it wrote."""
        self.signal(signal.SIGTERM)
        assert await self.ended() == 0, self.log
        assert not re.search(r"ERROR|WARNING|CRITICAL|Traceback", self.log), self.log
        return self.log

    async def kill(self) -> None:
        """End it and its children, whatever they do."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        await self.ended()


def clean_environment() -> dict[str, str]:
    """That of this process without settings for flowserve or gunicorn."""
    keep = ("FLOWSERVE_PURE",)
    foreign = ("FLOWSERVE_", "GUNICORN_", "LISTEN_", "NOTIFY_", "FORWARDED_")
    return {k: v for k, v in os.environ.items() if k in keep or not k.startswith(foreign)}


def listening(address: str | tuple[str, int] = ("127.0.0.1", 0)) -> socket.socket:
    """A socket that listens, on a free port or a path, for a program that inherits it."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.bind(address)
    sock.listen(128)
    return sock


def messages(log: str) -> list[str]:
    """The messages of log lines, without time and level."""
    return [re.sub(r"\A[-\d]+ [:.\d]+ [A-Z]+: +", "", line) for line in log.splitlines()]
