"""What outlasts the application's tasks in an event loop that ends with its server."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from flowserve.config import Config
from flowserve.runtime.event_loop import event_loop
from flowserve.topics.hub.current import HubSource


class LastingTopics:
    """The topics of a server, from its shutdown until the tasks that the application leaves behind have been cancelled:
    what they publish then, such as the end of a stream, still goes out. A `Lasting` of the event loop."""

    def __init__(self) -> None:
        self.topics: HubSource | None = None  # set by the shutdown

    def tasks(self) -> Collection[asyncio.Task[Any]]:
        return () if self.topics is None else self.topics.lasting_tasks()

    async def close(self) -> None:
        if self.topics is not None:
            await self.topics.close()


class LoopOwner(Protocol):
    """A server for which an event loop is made."""

    config: Config
    _lasting: LastingTopics | None


@contextmanager
def loop_of(server: LoopOwner) -> Iterator[asyncio.AbstractEventLoop]:
    """Create the event loop that the server's configuration names, for this server, whose topics are closed with it."""
    lasting = server._lasting = LastingTopics()
    try:
        with event_loop(server.config.loop, lasting) as loop:
            yield loop
    finally:
        server._lasting = None
