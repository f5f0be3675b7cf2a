"""All subscribers and publishers of one scenario, in one event loop with the checker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from compliance._servers import ServerFailed
from compliance.topics.checker import Checker
from compliance.topics.client import Client
from compliance.topics.publisher import Publisher
from compliance.topics.tally import Tally

PATIENCE = 60.0
"""Seconds for what should take one or two: all are subscribed, all got the last message."""
_AT_ONCE = 100
"""Subscribers that begin together."""


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait until `condition()` holds; return False if it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


class Crowd(Tally):
    """The clients, and what they share."""

    def __init__(self, checker: Checker, ports: list[int], topics: list[str]) -> None:
        super().__init__(checker, topics)
        self.ports = ports
        self.topics = topics
        self.clients: list[Client] = []
        self._running: list[asyncio.Task[None]] = []
        self._publishing: list[asyncio.Task[None]] = []

    async def subscribe(self, count: int, each: int) -> None:
        """Add `count` subscribers, with `each` topics. Raises ServerFailed if not all of them can subscribe."""
        begin = len(self.clients)
        for number in range(begin, begin + count):
            chosen = [self.topics[(number + step) % len(self.topics)] for step in range(each)]
            self.add(chosen)
            if number % _AT_ONCE == _AT_ONCE - 1:
                await until(lambda: all(client.live for client in self.clients))
        if not await until(lambda: all(client.live for client in self.clients)):
            live = sum(client.live for client in self.clients)
            raise ServerFailed(f"{live} of {len(self.clients)} subscribers are subscribed after {PATIENCE:g} s")

    def add(self, topics: list[str]) -> Client:
        """Add a subscriber."""
        number = len(self.clients)
        client = Client(self, number, topics, self.ports[number % len(self.ports)])
        self.clients.append(client)
        self._running.append(asyncio.ensure_future(client.run()))
        return client

    def publish(self, count: int, topics: list[str], interval: float, size: int) -> None:
        """Add `count` publishers, each of which publishes to one of `topics` every `interval` seconds."""
        for number in range(len(self._publishing), len(self._publishing) + count):
            publisher = Publisher(self, number, topics, self.ports[number % len(self.ports)], interval, size)
            self._publishing.append(asyncio.ensure_future(publisher.run()))

    async def finish(self) -> None:
        """Stop publishing, mark the end of each topic, wait until all have got it, and compare."""
        self.stopping = True
        await asyncio.gather(*self._publishing)
        last = Publisher(self, -1, self.topics, self.ports[0], 0, 0)
        for topic in self.topics:
            self.ends[topic] = await last.publish(topic, insist=True)
        await until(lambda: all(client.is_done for client in self.clients))
        await asyncio.sleep(0.2)  # for what may come twice
        views = [view for client in self.clients for view in client.views.values()]
        self.checker.finish(views, self.ends)

    async def close(self) -> None:
        """End all connections."""
        for task in (tasks := [*self._running, *self._publishing]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self.clients:
            if client.connection is not None:
                client.connection.transport.abort()
        await asyncio.sleep(0)

    @property
    def workers(self) -> set[int]:
        """The process ids of workers that have subscribers now."""
        return {client.worker for client in self.clients if client.live}
