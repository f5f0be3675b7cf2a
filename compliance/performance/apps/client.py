"""A client under measurement, on uvloop: `python client.py NAME JOB`, and its figures are printed as JSON.

JOB is JSON: {"url": "ws://127.0.0.1:8000", "connections": 20, "in_flight": 1, "size": 64, "warmup": 0.5,
"duration": 2.0}. Each connection keeps so many text messages in flight: it sends the next one when it has compared an
echo with what was sent.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import uvloop

OPEN_AT_ONCE = 50


class Job:
    """What is asked for, and what has come back."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.url: str = given["url"]
        self.in_flight: int = given["in_flight"]
        self.warmup: float = given["warmup"]
        self.duration: float = given["duration"]
        self.text = ("The quick brown fox jumps over the lazy dog. " * (given["size"] // 45 + 1))[: given["size"]]
        self.came = [0] * given["connections"]  # echoes, by connection
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, why: str) -> None:
        if not self.failure.done():
            self.failure.set_exception(RuntimeError(why))

    async def pass_by(self, seconds: float) -> None:
        """Let the traffic run. RuntimeError when a connection has failed."""
        await asyncio.wait({self.failure}, timeout=seconds)
        if self.failure.done():
            self.failure.result()


# Clients with send and receive: one task a connection.

Talk = tuple[Callable[[str], Awaitable[Any]], Callable[[], Awaitable[Any]]]


async def flowserve(job: Job, stack: AsyncExitStack) -> Talk:
    from flowserve.client.connect import connect

    ws = await stack.enter_async_context(connect(job.url, compression=None))
    return ws.send, ws.receive


async def websockets(job: Job, stack: AsyncExitStack) -> Talk:
    from websockets.asyncio.client import connect

    ws = await stack.enter_async_context(connect(job.url, compression=None))
    return ws.send, ws.recv


async def aiohttp(job: Job, stack: AsyncExitStack) -> Talk:
    from aiohttp import ClientSession

    session = await stack.enter_async_context(ClientSession())
    ws = await stack.enter_async_context(session.ws_connect(job.url))  # compress=0 is the default
    return ws.send_str, ws.receive_str


async def picows_websockets(job: Job, stack: AsyncExitStack) -> Talk:
    from picows.websockets.asyncio.client import connect

    ws = await stack.enter_async_context(connect(job.url, compression=None))
    return ws.send, ws.recv


async def converse(job: Job, at: int, talk: Talk) -> None:
    send, receive = talk
    text, came = job.text, job.came
    try:
        for _ in range(job.in_flight):
            await send(text)
        while True:
            if await receive() != text:
                job.fail("an echo is not what was sent")
            came[at] += 1
            await send(text)
    except Exception as error:
        job.fail(repr(error))


def with_tasks(client: Callable[[Job, AsyncExitStack], Awaitable[Talk]]) -> Callable[..., Awaitable[None]]:
    async def start(job: Job, stack: AsyncExitStack, positions: list[int]) -> None:
        talks = await asyncio.gather(*(client(job, stack) for _ in positions))
        for at, talk in zip(positions, talks, strict=True):
            task = asyncio.ensure_future(converse(job, at, talk))
            stack.callback(task.cancel)

    return start


# Clients with callbacks.


async def picows(job: Job, stack: AsyncExitStack, positions: list[int]) -> None:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    text, came = job.text, job.came

    class Echoed(WSListener):
        def __init__(self, at: int) -> None:
            self.at = at

        def on_ws_connected(self, transport: WSTransport) -> None:
            for _ in range(job.in_flight):
                transport.send(WSMsgType.TEXT, text.encode())

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT:
                if frame.get_payload_as_utf8_text() != text:
                    job.fail("an echo is not what was sent")
                came[self.at] += 1
                transport.send(WSMsgType.TEXT, text.encode())

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            job.fail("the connection was lost")

    await asyncio.gather(*(ws_connect(partial(Echoed, at), job.url) for at in positions))


class Floor(asyncio.Protocol):
    """A connection that parses nothing: it sends a prebuilt frame for each echo, whose bytes it compares."""

    HEAD = (
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    transport: asyncio.Transport

    def __init__(self, job: Job, at: int) -> None:
        size = len(job.text)
        long = size >= 126  # but below 65,536
        head = bytes([0x81, 126, *size.to_bytes(2, "big")]) if long else bytes([0x81, size])
        self.echo = head + job.text.encode()
        self.echoes = self.echo * (1024 * 1024 // len(self.echo) + 2)
        masked = bytes([head[0], head[1] | 0x80, *head[2:], 0, 0, 0, 0]) + job.text.encode()  # a key of zeros
        self.outgoing = [masked * number for number in range(job.in_flight + 1)]
        self.job = job
        self.at = at
        self.got = 0  # bytes of an echo that is not there yet
        self.open = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.HEAD)

    def data_received(self, data: bytes) -> None:
        if not self.open:
            self.open = data.startswith(b"HTTP/1.1 101 ") and data.endswith(b"\r\n\r\n")
            if not self.open:
                self.job.fail(f"handshake refused: {data!r}")
            self.transport.write(self.outgoing[-1])
            return
        if not self.echoes.startswith(data, self.got):
            self.job.fail("an echo is not what was sent")
        number, self.got = divmod(self.got + len(data), len(self.echo))
        self.job.came[self.at] += number
        self.transport.write(self.outgoing[number])

    def connection_lost(self, error: Exception | None) -> None:
        self.job.fail("the connection was lost")


async def floor(job: Job, stack: AsyncExitStack, positions: list[int]) -> None:
    loop = asyncio.get_running_loop()
    place = urlsplit(job.url)
    assert place.hostname is not None
    assert place.port is not None
    for at in positions:
        await loop.create_connection(partial(Floor, job, at), place.hostname, place.port)


CLIENTS: dict[str, Callable[..., Awaitable[None]]] = {
    "floor": floor,
    "flowserve": with_tasks(flowserve),
    "websockets": with_tasks(websockets),
    "aiohttp": with_tasks(aiohttp),
    "picows": picows,
    "picows-websockets": with_tasks(picows_websockets),
}


async def measure(job: Job) -> dict[str, float]:
    """The process's own time, user and system, as the system counts it."""
    await job.pass_by(job.warmup)
    before, cpu, began = list(job.came), time.process_time(), time.perf_counter()
    await job.pass_by(job.duration)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    moved = [after - earlier for after, earlier in zip(job.came, before, strict=True)]
    if not all(moved):
        raise RuntimeError(f"{moved.count(0)} of {len(moved)} connections stalled")
    messages = sum(moved)
    return {
        "value": cpu / messages * 1e6,
        "messages": messages,
        "per_second": messages / wall,
        "busy": cpu / wall,
    }


async def main(name: str, given: dict[str, Any]) -> dict[str, float]:
    job, positions = Job(given), list(range(given["connections"]))
    async with AsyncExitStack() as stack:
        for first in range(0, len(positions), OPEN_AT_ONCE):
            await CLIENTS[name](job, stack, positions[first : first + OPEN_AT_ONCE])
        figures = await measure(job)
        job.fail("over")  # what comes now is no failure
        job.failure.exception()
    return figures


if __name__ == "__main__":
    uvloop.install()
    try:
        answer: dict[str, Any] = asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
    except (OSError, RuntimeError) as problem:
        answer = {"error": str(problem)}
    print(json.dumps(answer))
