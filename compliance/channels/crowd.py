"""The clients: members, who count what they hear, and a speaker."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from compliance._servers import HOST

_PATIENCE = 20.0
_QUIET = 4.0
"""Seconds without a message after which nothing more is waited for."""


class Crowd:
    """Members of a room, on real WebSockets."""

    def __init__(self, port: int) -> None:
        self.said = 0
        self.raised: set[int] = set()
        self.heard: list[Counter[int]] = []
        self.closed = 0  # WebSockets of members, by the server
        self._url = f"ws://{HOST}:{port}"
        self._members: list[ClientConnection] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._speaker: ClientConnection | None = None
        self._last = 0.0

    async def enter(self, count: int, query: str) -> None:
        """Open the members' WebSockets."""
        for _ in range(count):
            member = await connect(f"{self._url}/member{query}", compression=None, ping_interval=None)
            await asyncio.wait_for(member.recv(), _PATIENCE)
            self._members.append(member)
            self.heard.append(Counter())
            self._tasks.append(asyncio.ensure_future(self._hear(member, self.heard[-1])))

    async def _hear(self, member: ClientConnection, heard: Counter[int]) -> None:
        try:
            async for text in member:
                heard[int(str(text).split()[0])] += 1
                self._last = asyncio.get_running_loop().time()
        except ConnectionClosed:
            pass
        self.closed += 1

    async def say(self, count: int) -> None:
        """Have the next numbers said; those for which the layer has raised are in `raised`."""
        numbers = range(self.said, self.said + count)
        self.said += count
        try:
            if self._speaker is None:
                self._speaker = await connect(f"{self._url}/speaker", compression=None, ping_interval=None)
            await self._speaker.send(json.dumps([numbers.start, count]))
            self.raised.update(json.loads(await asyncio.wait_for(self._speaker.recv(), _PATIENCE)))
        except (ConnectionClosed, OSError, asyncio.TimeoutError):
            self.raised.update(numbers)
            self._speaker = None

    async def finish(self) -> None:
        """Wait until nothing more comes, or all has come."""
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        expected = self.said - len(self.raised)
        while any(len(each) < expected for each in self.heard):
            if loop.time() - self._last > _QUIET:
                return
            await asyncio.sleep(0.05)

    async def leave(self) -> None:
        """Close everything."""
        closed = self.closed
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in [*self._members, *([self._speaker] if self._speaker else [])]:
            each.transport.abort()
        self.closed = closed

    @property
    def lost(self) -> int:
        """Messages that a member has not heard, though group_send() had returned."""
        sent = set(range(self.said)) - self.raised
        return sum(len(sent - each.keys()) for each in self.heard)

    @property
    def doubled(self) -> int:
        """Messages that a member has heard again."""
        return sum(sum(each.values()) - len(each) for each in self.heard)
