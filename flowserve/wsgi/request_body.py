"""What an application receives of a request: the body, for a thread that reads it, and whether the client has left."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from concurrent import futures
from typing import Any

from flowserve.errors import ClientDisconnected


class Incoming:
    """What `receive` gives, in the running event loop; at most one message of the body is kept.

    `on_disconnect` is called when the client has left, once `watch()` was called.
    """

    def __init__(self, receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self.loop = asyncio.get_running_loop()
        self._receive = receive
        self._next: asyncio.Task[dict[str, Any]] | None = None
        self._after_next: asyncio.Task[dict[str, Any]] | None = None
        self._on_disconnect: Callable[[], None] | None = None

    async def receive(self) -> dict[str, Any]:
        """Return the next message."""
        message = await self._ask()
        self._next, self._after_next = self._after_next, None
        if self._on_disconnect is not None:
            self._ask()
        return message

    def watch(self, on_disconnect: Callable[[], None]) -> None:
        """Have `on_disconnect` called when the client leaves. It is not noticed while more than one message
        of the body waits to be read."""
        if self._on_disconnect is None:
            self._on_disconnect = on_disconnect
            self._ask()

    def close(self) -> None:
        """Receive no more."""
        self._on_disconnect = None
        for task in (self._next, self._after_next):
            if task is not None:
                task.cancel()

    def _ask(self) -> asyncio.Task[dict[str, Any]]:
        if self._next is None:
            self._next = self.loop.create_task(self._one())
        return self._next

    async def _one(self) -> dict[str, Any]:
        message = await self._receive()
        if self._on_disconnect is not None:
            if message["type"] == "http.disconnect":
                self._on_disconnect()
            elif not message.get("more_body", False):  # what comes after the end of the body is the disconnect
                self._after_next = self.loop.create_task(self._one())
        return message


class RequestBody(io.RawIOBase):
    """The body of a request, for the thread that reads it.

    Reading raises ClientDisconnected, which is an OSError, when the client leaves before the body is complete, and when
    the server does not wait for the thread any more.
    """

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._rest = memoryview(b"")
        self._more = True

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill some of `buffer`, waiting for what is to come. Returns the bytes, 0 at the end of the body."""
        while not self._rest and self._more:
            message = self._message()
            if message["type"] != "http.request":
                raise ClientDisconnected("the client has left before its request was complete")
            self._rest = memoryview(message.get("body", b""))
            self._more = message.get("more_body", False)
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def _message(self) -> dict[str, Any]:
        try:
            return asyncio.run_coroutine_threadsafe(self._incoming.receive(), self._incoming.loop).result()
        except futures.CancelledError:
            raise ClientDisconnected("the request was cut short") from None
