"""The clients of the load generator: one class for each kind of traffic, and the counters that they share.

Frames are built and masked once, and every byte that comes back is compared with the echo that it should be.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from compliance._servers import HOST, cpu_seconds, memory_kib
from compliance.performance.cases import Case
from compliance.performance.messages import RSV1, TAIL, answers, frame, requests, text

UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"  # as browsers do
ALONE = OFFER[:-4] + b"; server_no_context_takeover\r\n\r\n"
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # to that key, RFC 6455 section 1.3
MAX_READ = 1024 * 1024  # more than an event loop hands over at once
STALLED = 15.0  # seconds
PING, COMPRESSED = 0x89, 0x80 | RSV1 | 1  # how a ping begins, and a compressed text


class Run:
    """What all connections of a run share: the counters, the latencies, and the one place where failure goes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, job: dict[str, Any], case: Case) -> None:
        self.loop = loop
        self.case = case
        self.port: int = job["port"]
        self.pid: int = job["pid"]
        self.warmup: float = job["warmup"]
        self.duration: float = job["duration"]
        self.hold: float = job["hold"]
        self.redis: str = job["redis"]
        self.ssl = ssl.create_default_context(cafile=job["ca"]) if case.tls else None
        self.upgrade = UPGRADE[:-2] + (OFFER if case.takeover else ALONE) if case.compressed else UPGRADE
        self.failure: asyncio.Future[None] = loop.create_future()
        self.count = 0
        self.bytes_in = 0  # of compressed messages, with their frames' heads
        self.latencies: dict[int, int] = {}  # microseconds -> messages
        self.since = 0.0  # when the measurement began
        self.ending = False

    def fail(self, why: str) -> None:
        if not self.failure.done() and not self.ending:
            self.failure.set_exception(RuntimeError(why))

    def took(self, started: float, messages: int = 1) -> None:
        micros = int((time.perf_counter() - started) * 1e6)
        self.latencies[micros] = self.latencies.get(micros, 0) + messages
        self.count += messages

    def percentile(self, share: float) -> int:
        left = share * sum(self.latencies.values())
        for micros in sorted(self.latencies):
            left -= self.latencies[micros]
            if left <= 0:
                return micros
        return 0

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> Any:
        name = "localhost" if self.ssl else None
        _, protocol = await self.loop.create_connection(factory, HOST, self.port, ssl=self.ssl, server_hostname=name)
        return protocol

    async def wait(self, future: asyncio.Future[Any]) -> Any:
        """The result of `future`, unless the run fails or stalls first."""
        await asyncio.wait({future, self.failure}, timeout=STALLED, return_when=asyncio.FIRST_COMPLETED)
        if self.failure.done():
            self.failure.result()
        if not future.done():
            raise RuntimeError(f"no answer within {STALLED:.0f} s after {self.count} messages")
        return future.result()

    async def sleep(self, seconds: float) -> None:
        await asyncio.wait({self.failure}, timeout=seconds)
        if self.failure.done():
            self.failure.result()

    async def measure(self) -> dict[str, float]:
        """Let the traffic run for the warm-up and then for the duration; the figures of the latter."""
        await self.sleep(self.warmup)
        self.latencies.clear()
        count, cpu, self.since = self.count, cpu_seconds(self.pid), time.perf_counter()
        await self.sleep(self.duration)
        count, cpu, wall = self.count - count, cpu_seconds(self.pid) - cpu, time.perf_counter() - self.since
        if not count:
            raise RuntimeError("no message came back")
        return {
            "value": cpu / count * 1e6,
            "messages": count,
            "per_second": count / wall,
            "busy": cpu / wall,
            "p50": self.percentile(0.5),
            "p99": self.percentile(0.99),
            "p99_9": self.percentile(0.999),
            "memory_kib": memory_kib(self.pid),
        }


class Client(asyncio.Protocol):
    """The opening handshake; then `opened` and, for each read, `received`. Subclasses make the traffic."""

    __slots__ = ("buffer", "leaving", "path", "ready", "run", "settled", "transport")
    transport: asyncio.Transport

    def __init__(self, run: Run, path: bytes = b"/") -> None:
        self.run = run
        self.path = path
        self.ready: asyncio.Future[None] = run.loop.create_future()
        self.settled = self.ready  # whatever a connection does when it is opened is done
        self.buffer = b""
        self.leaving = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.run.upgrade % self.path)

    def data_received(self, data: bytes) -> None:
        if self.ready.done():
            self.received(data)
            return
        head, end, rest = (self.buffer + data).partition(b"\r\n\r\n")
        if not end:
            self.buffer = head
        elif not head.startswith(b"HTTP/1.1 101 ") or ACCEPT not in head:
            self.run.fail(f"handshake refused: {head[:200]!r}")
        elif self.run.case.compressed and b"permessage-deflate" not in head:
            self.run.fail(f"no compression agreed: {head[:500]!r}")
        else:
            self.buffer = b""
            self.ready.set_result(None)
            self.opened()
            if rest:
                self.received(rest)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.leaving:
            self.run.fail(f"connection lost after {self.run.count} messages: {error}")

    def leave(self) -> None:
        self.leaving = True
        self.transport.abort()

    def opened(self) -> None:
        pass

    def received(self, data: bytes) -> None:
        pass

    def frames(self, data: bytes) -> Iterator[tuple[int, bytes, int]]:
        """The first byte, the payload and the size of each frame that is complete now. Pings are answered, and left
        out. No frame is longer than 65,535 bytes."""
        self.buffer += data
        while len(self.buffer) >= 2:
            long = self.buffer[1] == 126
            start = 4 if long else 2
            end = start + (int.from_bytes(self.buffer[2:4], "big") if long else self.buffer[1])
            if len(self.buffer) < max(start, end):
                return
            first, payload, self.buffer = self.buffer[0], self.buffer[start:end], self.buffer[end:]
            if first == PING:
                self.transport.write(frame(10, payload, True))
            else:
                yield first, payload, end


class Echo(Client):
    """Keeps messages in flight: what came back is replaced at once, all of it in one write."""

    __slots__ = ("echoes", "offset", "one", "outgoing", "sent")

    def __init__(self, run: Run, one: bytes, outgoing: list[bytes], echoes: bytes) -> None:
        super().__init__(run)
        self.one = one  # one echo
        self.outgoing = outgoing  # n frames to send, by n
        self.echoes = echoes  # echoes in a row
        self.offset = 0
        self.sent: deque[tuple[float, int]] = deque()

    def start(self) -> None:
        self.push(self.run.case.in_flight)

    def push(self, messages: int) -> None:
        self.sent.append((time.perf_counter(), messages))
        self.transport.write(self.outgoing[messages])

    def received(self, data: bytes) -> None:
        if not self.echoes.startswith(data, self.offset):
            self.run.fail(f"not the echo, at byte {self.offset} of a frame: {data[:80]!r}")
            return
        back, self.offset = divmod(self.offset + len(data), len(self.one))
        if back:
            left = back
            while left:
                started, messages = self.sent.popleft()
                if messages > left:
                    self.sent.appendleft((started, messages - left))
                    messages = left
                self.run.took(started, messages)
                left -= messages
            self.push(back)


class Visit(Client):
    """Handshake, one echo, closing handshake; `over` is done when the server has closed the connection."""

    __slots__ = ("over", "started", "wanted")
    HELLO = frame(1, text(64), True)
    ECHO = frame(1, text(64), False)
    BYE = frame(8, b"\x03\xe8", True)
    BYE_BACK = frame(8, b"\x03\xe8", False)

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.started = time.perf_counter()
        self.over: asyncio.Future[None] = run.loop.create_future()
        self.wanted = self.ECHO

    def opened(self) -> None:
        self.transport.write(self.HELLO)

    def received(self, data: bytes) -> None:
        self.buffer += data
        if not self.wanted.startswith(self.buffer):
            self.run.fail(f"expected {self.wanted[:80]!r}, got {self.buffer[:80]!r}")
        elif self.buffer == self.wanted:
            self.buffer = b""
            if self.wanted is self.ECHO:
                self.wanted = self.BYE_BACK
                self.transport.write(self.BYE)
            else:
                self.wanted = b""

    def connection_lost(self, error: Exception | None) -> None:
        if self.wanted:
            self.run.fail(f"connection lost while waiting for {self.wanted[:80]!r}: {error}")
        elif not self.over.done():
            self.run.took(self.started)
            self.over.set_result(None)


class Idle(Client):
    """Stays open, and answers pings."""

    __slots__ = ()

    def received(self, data: bytes) -> None:
        for first, payload, _ in self.frames(data):
            self.run.fail(f"an idle connection got opcode {first & 15}: {payload!r}")


class Deflated(Client):
    """Sends compressed messages one after the other, or one only if `once`; inflates the echoes, and answers pings."""

    __slots__ = ("at", "inflater", "messages", "once", "started")

    def __init__(self, run: Run, messages: list[tuple[bytes, bytes]], at: int, once: bool = False) -> None:
        """`messages` are texts, each with the frame that carries it; the first one is that at the index `at`."""
        super().__init__(run)
        self.messages = messages
        self.at = at
        self.once = once
        self.started = 0.0
        self.inflater = zlib.decompressobj(-15)  # of use with takeover and without
        if once:
            self.settled = run.loop.create_future()

    def opened(self) -> None:
        if self.once:
            self.start()

    def start(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(self.messages[self.at][1])

    def received(self, data: bytes) -> None:
        for each in self.frames(data):
            self.frame(*each)

    def frame(self, first: int, payload: bytes, size: int) -> None:
        if first != COMPRESSED:
            self.run.fail(f"not a compressed text: {first:#x}, {payload[:80]!r}")
        elif self.inflater.decompress(payload + TAIL) != self.messages[self.at][0]:
            self.run.fail(f"not the echo of message {self.at}")
        else:
            self.run.bytes_in += size
            self.run.took(self.started)
            self.at = (self.at + 1) % len(self.messages)
            if self.once:
                self.settled.set_result(None)
            else:
                self.start()


class Request(asyncio.Protocol):
    """HTTP requests over one connection, one after the other."""

    __slots__ = ("buffer", "end", "requests", "run", "started", "transport")
    transport: asyncio.Transport

    def __init__(self, run: Run) -> None:
        self.run = run
        self.buffer = b""
        self.started = 0.0
        self.requests = itertools.cycle(requests(run.case.request, run.case.size))
        self.end = b"\r\n\r\n" + answers(run.case.app, run.case.size)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def start(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data, self.buffer = self.buffer + data, b""
        if data.startswith(b"HTTP/1.1 200 ") and data.endswith(self.end):
            self.run.took(self.started)
            self.start()
        elif len(data) < 1000:
            self.buffer = data
        else:
            self.run.fail(f"not the response: {data!r}")

    def connection_lost(self, error: Exception | None) -> None:
        self.run.fail(f"connection lost after {self.run.count} responses: {error}")
