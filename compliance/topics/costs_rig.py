"""A server of two workers on a backplane, and connections that have the one or the other do something."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance._servers import CHECKOUT, HOST, Server, flowserve_command, free_port, process_cpu_seconds, serving, tree
from compliance.topics import stores
from flowserve import WebSocket, connect

_APP = "compliance.topics.costs_application:app"
_TRIES = 200
"""Connections, one of which is expected to be the other worker's."""


@dataclass
class Rig:
    """What runs while something is measured."""

    server: Server
    stores: list[stores.Store]

    async def open(self) -> Talk:
        """Connect to any worker."""
        websocket = await connect(f"ws://{HOST}:{self.server.port}/", compression=None, max_queue=None)
        return Talk(websocket, int(await websocket.recv()))

    async def both(self) -> tuple[Talk, Talk]:
        """Connect to each worker."""
        first = await self.open()
        for _ in range(_TRIES):
            second = await self.open()
            if second.worker != first.worker:
                return first, second
            await second.websocket.close()
        raise self.server.failed("all connections are one worker's")

    def cpu_of_stores(self) -> float:
        """The CPU seconds of all processes of the store."""
        return sum(process_cpu_seconds(store.process.pid) for store in self.stores)

    def cpu_of_supervisor(self) -> float:
        """The CPU seconds of the server's first process, which has the broker of its workers."""
        return process_cpu_seconds(self.server.pid)

    @property
    def workers(self) -> list[int]:
        """Their process ids, and that of what multiprocessing may have started."""
        return tree(self.server.pid)[1:]


@dataclass
class Talk:
    """A WebSocket to the application in one worker."""

    websocket: WebSocket
    worker: int
    """Its process id."""

    async def ask(self, *action: Any) -> Any:
        """Have the worker do something (see costs_application.py), and return the result."""
        await self.websocket.send(json.dumps(action))
        return json.loads(await self.websocket.recv())


@contextmanager
def running(kind: str) -> Iterator[Rig]:
    """Run the stores of a kind, none for "", and a server on them. Raises ServerFailed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        started, url = stores.start(kind, Path(folder)) if kind else ([], "")
        for store in started:
            stack.callback(store.end)
        port = free_port()
        options = [*(["--topics-url", url] if url else []), "--workers", "2", "--ws-ping-interval", "off"]
        command = flowserve_command(sys.executable, _APP, CHECKOUT, port, *options)
        server = stack.enter_context(serving(command, port=port))
        server.wait_for_workers(30.0)
        yield Rig(server, started)
