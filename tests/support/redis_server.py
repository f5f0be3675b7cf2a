"""Redis servers and Sentinels of a test's own."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import hiredis
import pytest

from flowserve.topics.names import CONTROL
from support.helpers import until, within

redis_needed = pytest.mark.skipif(
    shutil.which("redis-server") is None and os.environ.get("FLOWSERVE_CI") != "1",
    reason="redis-server is not installed",
)
sentinel_needed = pytest.mark.skipif(
    shutil.which("redis-sentinel") is None and os.environ.get("FLOWSERVE_CI") != "1",
    reason="redis-sentinel is not installed",
)


class RedisServer:
    """A server on a UNIX socket, which keeps nothing over a restart unless its options say so."""

    def __init__(self, *options: str, port: int = 0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="redis")  # a short path, for the socket
        self.folder = Path(self._folder.name)
        self.port = port
        self.tls = False
        """Whether the port speaks TLS alone, so that the test itself uses the socket."""
        self.socket = self.folder / "redis.sock"
        self._options = options
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis+unix://{self.socket}"

    async def start(self) -> None:
        log = self.folder / "redis.log"
        log.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *("redis-server", *self._head(), "--daemonize", "no", "--dir", str(self.folder), "--logfile", str(log)),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket), *self._options),
        )
        ready = re.compile("ready to accept|Sentinel ID", re.I)
        await until(lambda: log.exists() and ready.search(log.read_text()) is not None)

    def _head(self) -> list[str]:
        return ["--save", ""]

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await within(self._process.wait())

    async def call(self, *command: str | int) -> Any:
        """The answer to a command."""
        if self.port and not self.tls:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        else:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        parser = hiredis.Reader(encoding="utf-8", errors="replace", notEnoughData=...)
        try:
            writer.write(hiredis.pack_command(command))  # type: ignore[arg-type]
            while (answer := parser.gets()) is ...:
                data = await within(reader.read(65536))
                assert data, "Redis closed the connection"
                parser.feed(data)
            return answer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def close(self) -> None:
        """Kill it, and remove its files."""
        await self.kill()
        self._folder.cleanup()


async def until_channels(redis: RedisServer, channels: list[str]) -> None:
    """Wait until these are subscribed to, beside that of presence."""

    async def come() -> None:
        while sorted(each for each in await redis.call("PUBSUB", "CHANNELS") if CONTROL not in each) != channels:
            pass

    await within(come())


class SentinelServer(RedisServer):
    """A Sentinel that watches one master."""

    def __init__(self, service: str, master: int, port: int) -> None:
        """`master` is the port of the server that it watches first."""
        super().__init__(port=port)
        (self.folder / "sentinel.conf").write_text(
            f"sentinel monitor {service} 127.0.0.1 {master} 1\n"
            f"sentinel down-after-milliseconds {service} 500\n"
            f"sentinel failover-timeout {service} 5000\n"
        )

    def _head(self) -> list[str]:
        return [str(self.folder / "sentinel.conf"), "--sentinel"]
