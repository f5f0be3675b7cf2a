"""NATS servers of a test's own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import nats
import pytest

from compliance._servers import free_port
from support.helpers import until, within

nats_needed = pytest.mark.skipif(
    shutil.which("nats-server") is None and os.environ.get("FLOWSERVE_CI") != "1",
    reason="nats-server is not installed",
)


class NATSServer:
    """A server with JetStream. What is in files survives a restart."""

    def __init__(self, configuration: str = "", jetstream: bool = True) -> None:
        """`configuration` is the content of a configuration file."""
        self._folder = tempfile.TemporaryDirectory(prefix="nats")
        self.folder = Path(self._folder.name)
        self.port = free_port()
        (self.folder / "nats.conf").write_text(configuration)
        self._options = ["-js", "-sd", str(self.store)] if jetstream else []
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """Where JetStream has its files."""
        return self.folder / "store"

    async def start(self) -> None:
        log = self.folder / "nats.log"
        log.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *("nats-server", "-c", str(self.folder / "nats.conf"), "-a", "127.0.0.1", "-p", str(self.port)),
            *("-l", str(log), *self._options),
        )
        await until(lambda: log.exists() and "Server is ready" in log.read_text())

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

    async def stop(self) -> None:
        """End it in order."""
        self.signal(signal.SIGTERM)
        assert self._process is not None
        await within(self._process.wait())

    async def call(self, api: str, **request: Any) -> dict[str, Any]:
        """The answer of JetStream's API: `await server.call("STREAM.PURGE.flowserve")`."""
        client = await nats.connect(self.url)
        try:
            answer = await client.request(f"$JS.API.{api}", json.dumps(request).encode() if request else b"", timeout=5)
            found: dict[str, Any] = json.loads(answer.data)
            assert "error" not in found, found
            return found
        finally:
            await client.close()

    async def close(self) -> None:
        """Kill it, and remove its files."""
        await self.kill()
        self._folder.cleanup()
