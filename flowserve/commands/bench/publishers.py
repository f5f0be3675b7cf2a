"""Who publishes in a benchmark of topics."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from itertools import count
from typing import Protocol

from flowserve.commands.endpoint import Endpoint, one_line
from flowserve.errors import ConnectionClosed, FlowserveError, TopicsError
from flowserve.grammar import without_passwords
from flowserve.library.websocket import WebSocket
from flowserve.topics import SUBPROTOCOL, connect
from flowserve.topics.api.connect import Connection

_MAX_SHOWN = 200
"""Characters of an answer."""
_CLOSED = "the connection on which is published was closed"


class PublisherClosed(FlowserveError):
    """Nothing more can be published."""


class Publisher(Protocol):
    """Publishes to one topic."""

    async def open(self) -> None:
        """Connect. Raises FlowserveError."""

    async def publish(self, text: str) -> None:
        """Publish a message. Raises FlowserveError if it may not have been, PublisherClosed if no other one can be."""

    async def close(self) -> None:
        """End the connection."""

    def abort(self) -> None:
        """End the connection at once, if there is one; the event loop ends then."""


class BackplanePublisher:
    """Publishes in Redis or NATS, as a program does that no server runs."""

    def __init__(self, url: str, topic: str) -> None:
        self._url = url
        self._topic = topic
        self._stack = AsyncExitStack()
        self._connection: Connection

    async def open(self) -> None:
        self._connection = await self._stack.enter_async_context(connect(self._url))

    async def publish(self, text: str) -> None:
        if not await self._connection.publish(self._topic, text):
            raise TopicsError(f"nothing can be reached at {without_passwords(self._url)}")

    async def close(self) -> None:
        await self._stack.aclose()

    def abort(self) -> None:
        pass  # it has no more to say


class WebSocketPublisher:
    """Publishes on a WebSocket of its own: in the protocol for clients where the server speaks it, and else to an
    application that publishes what it gets."""

    def __init__(self, endpoint: Endpoint, topic: str) -> None:
        self._endpoint = endpoint
        self._topic = topic
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._ws: WebSocket

    async def open(self) -> None:
        self._ws = await self._endpoint.open()
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        """Take what comes, of which only answers count."""
        with suppress(ConnectionClosed):  # as is told of below
            async for message in self._ws:
                if self._answers and isinstance(message, str):
                    self._take(message)
        for future in self._answers.values():
            if not future.done():
                future.set_exception(PublisherClosed(_CLOSED))

    def _take(self, message: str) -> None:
        try:
            answer = json.loads(message)
            future, error = self._answers.get(answer.get("id")), answer.get("error")
            why = "" if error is None else f"{error['code']}: {error['message']}"
        except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
            return  # it is no answer
        if future is None or future.done():
            return
        if why:
            future.set_exception(FlowserveError(f"the server answers: {one_line(why)[:_MAX_SHOWN]}"))
        else:
            future.set_result(None)

    async def publish(self, text: str) -> None:
        try:
            if self._ws.subprotocol == SUBPROTOCOL:
                await self._request(text)
            else:
                await self._ws.send(text)
        except ConnectionClosed as error:
            raise PublisherClosed(f"{_CLOSED}: {one_line(str(error))}") from None

    async def _request(self, text: str) -> None:
        number = next(self._numbers)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await self._ws.send(json.dumps({"id": number, "type": "publish", "topic": self._topic, "data": text}))
            await future
        finally:
            del self._answers[number]

    async def close(self) -> None:
        if self._reading is not None:
            await self._ws.close()
            await asyncio.wait([self._reading])

    def abort(self) -> None:
        if self._reading is not None:
            self._ws.abort()


def subscribe_request(topic: str) -> str:
    """Return what a client sends to subscribe, in the protocol for clients."""
    return json.dumps({"id": 0, "type": "subscribe", "topic": topic})
