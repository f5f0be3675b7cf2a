"""Publishers: each numbers its messages, and knows what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from random import Random
from typing import TYPE_CHECKING

import flowserve
from compliance._servers import HOST

if TYPE_CHECKING:
    from compliance.topics.tally import Tally

_PATIENCE = 20.0
"""Seconds for an answer; then the message counts as one whose publish() raised."""


class Raised(Exception):
    """What publish() raised, or the connection to the application was lost."""


class HTTP:
    """One kept-alive connection at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: str) -> str:
        if self._streams is None or self._streams[0].at_eof():
            await self.close()
            self._streams = await asyncio.open_connection(HOST, self._port)
        reader, writer = self._streams
        body = request.encode()
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise Raised(head.partition(b"\r\n")[0].decode())
        size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return (await reader.readexactly(size)).decode()

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class WebSocket:
    """One WebSocket at a time."""

    def __init__(self, port: int) -> None:
        self._url = f"ws://{HOST}:{port}/publish"
        self._websocket: flowserve.WebSocket | None = None

    async def ask(self, request: str) -> str:
        if self._websocket is None or self._websocket.state != flowserve.State.OPEN:
            await self.close()
            self._websocket = await flowserve.connect(self._url, compression=None, proxy=None)
        await self._websocket.send(request)
        return str(await self._websocket.recv())

    async def close(self) -> None:
        if self._websocket is not None:
            websocket, self._websocket = self._websocket, None
            websocket.abort()


class Publisher:
    """Publishes one message after the other. Every second one repeats what raised, with the same key."""

    def __init__(self, tally: Tally, number: int, topics: list[str], port: int, interval: float, size: int) -> None:
        self._tally = tally
        self._number = number
        self._topics = topics
        self._repeats = number % 4 >= 2
        self._way: HTTP | WebSocket = HTTP(port) if number % 2 else WebSocket(port)
        self._interval = interval
        self._padding = "." * size
        self._random = Random(number)
        self._count = 0

    async def run(self) -> None:
        """Publish until all publishers are to stop."""
        await asyncio.sleep(self._random.random() * self._interval)
        while not self._tally.stopping:
            await self.publish(self._random.choice(self._topics))
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * self._interval)
        await self._way.close()

    async def publish(self, topic: str, insist: bool = False) -> str:
        """Publish the next message; return its position. With `insist` repeat it until it has one."""
        self._count += 1
        name = (self._number, self._count)
        checker = self._tally.checker
        key = f"{name}" if self._repeats or insist else None
        while True:
            # before it is asked for: its first copy may come while this is still waiting for the answer
            began = time.monotonic()
            data = [*name, began, self._padding]
            request = json.dumps({"topic": topic, "json": data, "key": key})
            try:
                position = await asyncio.wait_for(self._way.ask(request), _PATIENCE)
            except (OSError, EOFError, asyncio.TimeoutError, Raised, flowserve.FlowserveError) as error:
                self._tally.errors[type(error).__name__] += 1
                checker.raised.add(name)
                with contextlib.suppress(OSError):
                    await self._way.close()
                await asyncio.sleep(0.05)
                if key is not None and (insist or not self._tally.stopping):
                    continue
                return ""
            if position or not insist:
                checker.published(topic, name, position, began)
                return position
            checker.raised.add(name)
            await asyncio.sleep(0.2)
