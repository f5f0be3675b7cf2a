"""Subscribers: thousands of WebSockets in one process, in literal bytes, that come back with their last positions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from random import Random
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from compliance._servers import HOST
from compliance.topics.checker import Entry, View, parse

if TYPE_CHECKING:
    from compliance.topics.tally import Tally

_REQUEST = (
    "GET /subscribe?q={} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_TEXT, _CLOSE, _PING = 0x81, 0x88, 0x89
_BEGINNING = 256
"""Bytes of a message by which it is known again, so that it is decoded once and not for each subscriber: its position,
publisher and number are in them."""
_BUFFER = 65536
"""Bytes that the kernel keeps for a client that does not read."""


class Client:
    """One subscriber, whose connections follow each other."""

    def __init__(self, tally: Tally, number: int, topics: list[str], port: int) -> None:
        self.tally = tally
        self.port = port
        self.views = {topic: View(f"subscriber {number}, {topic}", topic) for topic in topics}
        self.worker = 0  # the process id of the worker that it is connected to
        self.live = False  # subscribed, and all that was missed has come
        self.delay = 0.0  # the longest time from publish() to here while live, in seconds
        self.away = 0.0  # seconds more until it comes back, the next time
        self.connections = 0
        self.connection: Connection | None = None
        self._random = Random(number)

    async def run(self) -> None:
        """Be connected until the task is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):
                _, self.connection = await loop.create_connection(lambda: Connection(self), HOST, self.port)
                self.connections += 1
                await self.connection.ended
            self.connection, self.live = None, False
            away, self.away = self.away, 0.0
            await asyncio.sleep(away + self._random.uniform(0.02, 0.2))

    @property
    def is_done(self) -> bool:
        """Whether it got the last message of each topic, and the gaps that are due."""
        ends, checker = self.tally.ends, self.tally.checker
        return all(view.has_reached(ends[topic]) and checker.is_told(view) for topic, view in self.views.items())

    def request(self) -> bytes:
        """The handshake, with the positions to resume from."""
        known = {topic: since for topic, view in self.views.items() if (since := view.resume()) is not None}
        return _REQUEST.format(quote(json.dumps({"topics": [*self.views], "since": known}))).encode()

    def text(self, payload: bytes, now: float) -> None:
        """Take a text message."""
        beginning = payload[:_BEGINNING]
        entry = self.tally.known.get(beginning)
        if entry is None:
            entry = self._decoded(payload)
            if entry is None:
                return
            self.tally.known[beginning] = entry
        self.tally.checker.got(self.views[entry.topic], entry)
        if self.live and now - entry.sent > self.delay:
            self.delay = now - entry.sent

    def _decoded(self, payload: bytes) -> Entry | None:
        """The entry of a message with a position; anything else is dealt with."""
        frame, checker = parse(payload), self.tally.checker
        if "subscribed" in frame:
            self.worker, self.live = frame["worker"], True
            for topic, position in frame["subscribed"].items():
                checker.subscribed(self.views[topic], position, frame["recovered"].get(topic))
        elif "gap" in frame:
            checker.told_gap(self.views[frame["topic"]], frame["position"])
        else:
            entry = checker.message(frame)
            if entry is None:
                checker.got_local(self.views[frame["topic"]], tuple(frame["data"][:2]))
            return entry
        return None


class Connection(asyncio.Protocol):
    """One WebSocket."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rest = b""
        self._open = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.transport.write(self._client.request())

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        at = 0
        if not self._open:
            head, end, _ = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = data
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.transport.abort()
                return
            self._open, at = True, len(head) + 4
        self._rest = data[self._frames(data, at) :]

    def _frames(self, data: bytes, at: int) -> int:
        """Take all frames that are complete; return where the rest begins."""
        now, size = time.monotonic(), len(data)
        while size - at >= 2:
            first, length, start = data[at], data[at + 1], at + 2
            if length > 125:
                start += 2 if length == 126 else 8
                length = int.from_bytes(data[at + 2 : start], "big") if start <= size else size
            if start + length > size:
                break
            at = start + length
            payload = data[start:at]
            if first == _TEXT:
                self._client.text(payload, now)
            elif first == _PING:
                self.transport.write(bytes((0x8A, 0x80 | length)) + bytes(4) + payload)
            elif first == _CLOSE:
                code = int.from_bytes(payload[:2], "big")
                self._client.tally.closes[code] += 1
                self.transport.write(bytes((0x88, 0x80 | length)) + bytes(4) + payload)
                self.transport.close()
        return at

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
