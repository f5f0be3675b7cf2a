"""A server, and WebSockets that are subscribed to topics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from flowserve import topics
from flowserve.topics.hub.hub import Hub
from support.helpers import Act, Client, Running, Stage, until, within

OpenRoom = Callable[..., Awaitable["Room"]]

T = TypeVar("T")


class Guest(NamedTuple):
    """A WebSocket: both ends of it, and its subscription."""

    client: Client
    act: Act
    subscription: topics.Subscription


class Room:
    """What a test does with the topics of one server."""

    def __init__(self, server: Running, stage: Stage, connect: Any) -> None:
        self.server = server
        self.stage = stage
        self.connect = connect

    @property
    def hub(self) -> Hub:
        """The hub of the server."""
        found: Hub = self.server.server._running.topics.hub
        return found

    @property
    def quiet(self) -> bool:
        """Whether nobody is subscribed to anything, and nothing is being done for a subscriber."""
        return not self.hub._topics and not self.hub._tasks

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something as the application would."""
        context = self.server.server._running.context.variables.copy()
        return await within(context.run(asyncio.ensure_future, work))

    async def publish(self, topic: str, text: str | None = None, **options: Any) -> topics.Position:
        return await self.run(topics.publish(topic, text, **options))

    async def subscribe(self, websocket: Any, *names: str, **options: Any) -> topics.Subscription:
        return await self.run(topics.subscribe(websocket, *names, **options))

    async def open(self, *headers: str, **options: Any) -> tuple[Client, Act]:
        """An accepted WebSocket; options as for Client.connect()."""
        client = await self.connect(self.server, **options)
        upgrading = asyncio.ensure_future(client.upgrade("/", *headers))
        act = await self.stage.next()
        await act.accept()
        await within(upgrading)
        return client, act

    async def guest(self, *names: str, **options: Any) -> Guest:
        """A WebSocket that is subscribed; options as for subscribe()."""
        client, act = await self.open()
        return Guest(client, act, await self.subscribe(act.scope, *names, **options))

    async def left(self) -> None:
        """Wait until nothing is left behind."""
        await until(lambda: self.quiet)
