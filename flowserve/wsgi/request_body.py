"""The ASGI messages of a request: the body, as a file for another thread, and the client's disconnect."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from concurrent import futures
from typing import Any

from flowserve.errors import ClientDisconnected


class RequestMessages:
    """Reads the messages of the ASGI callable `receive` in the running event loop, at most one body message ahead.

    After `watch()`, it calls back when the client has disconnected.
    """

    def __init__(self, receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self.loop = asyncio.get_running_loop()
        self._receive = receive
        self._next_task: asyncio.Task[dict[str, Any]] | None = None
        self._disconnect_task: asyncio.Task[dict[str, Any]] | None = None
        self._on_disconnect: Callable[[], None] | None = None

    async def receive(self) -> dict[str, Any]:
        """Return the next ASGI message."""
        message = await self._next_message()
        self._next_task, self._disconnect_task = self._disconnect_task, None
        if self._on_disconnect is not None:
            self._next_message()
        return message

    def watch(self, on_disconnect: Callable[[], None]) -> None:
        """Call `on_disconnect` when the client disconnects. This is not noticed while more than one message of the body
        is unread."""
        if self._on_disconnect is None:
            self._on_disconnect = on_disconnect
            self._next_message()

    def close(self) -> None:
        """Cancel what is being received."""
        self._on_disconnect = None
        for task in (self._next_task, self._disconnect_task):
            if task is not None:
                task.cancel()

    def _next_message(self) -> asyncio.Task[dict[str, Any]]:
        if self._next_task is None:
            self._next_task = self.loop.create_task(self._receive_message())
        return self._next_task

    async def _receive_message(self) -> dict[str, Any]:
        message = await self._receive()
        if self._on_disconnect is not None:
            if message["type"] == "http.disconnect":
                self._on_disconnect()
            elif not message.get("more_body", False):  # the message after the end of the body is the disconnect
                self._disconnect_task = self.loop.create_task(self._receive_message())
        return message


class RequestBody(io.RawIOBase):
    """The body of a request as a raw stream, read in a thread other than the event loop's.

    Reading raises ClientDisconnected, which is an OSError, when the client disconnects before the body is complete, and
    when the server no longer waits for the thread.
    """

    def __init__(self, messages: RequestMessages) -> None:
        self._messages = messages
        self._rest = memoryview(b"")
        self._more_body = True

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`, blocking until there is data. Returns the number of bytes, 0 at the end of the body."""
        while not self._rest and self._more_body:
            message = self._wait_for_message()
            if message["type"] != "http.request":
                raise ClientDisconnected("the client has left before its request was complete")
            self._rest = memoryview(message.get("body", b""))
            self._more_body = message.get("more_body", False)
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def _wait_for_message(self) -> dict[str, Any]:
        try:
            return asyncio.run_coroutine_threadsafe(self._messages.receive(), self._messages.loop).result()
        except futures.CancelledError:
            raise ClientDisconnected("the request was cut short") from None
