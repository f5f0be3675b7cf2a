"""The application under test: it does to the server what applications do, when the client's path asks for it.

`/NAME/ID?...` calls the function of that name below. What it raises on purpose carries `chaos-ID`, and is noted
before it is raised. `/control` tells what the process holds.
"""

from __future__ import annotations

import asyncio
import builtins
import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any
from urllib.parse import parse_qsl

from compliance.chaos.messages import Corrupt, Message, check, make

PIECE = 16 * 1024


class ChaosError(Exception):
    """What the application raises on purpose."""


class Left(Exception):
    """The client has left; the application ends."""


class State:
    """What this process has done and seen."""

    def __init__(self) -> None:
        self.raised: list[str] = []  # each has to be in the log, once
        self.quiet: list[str] = []  # ended in a way that is not logged
        self.silent_returns = 0  # without an answer: a line without a mark
        self.wrong: list[str] = []  # messages that were lost, doubled, swapped or altered on their way here
        self.calls = 0  # under way
        self.hub: dict[str, Call] = {}


state = State()


class Call:
    """One call of the application."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.name, self.identity = scope["path"].split("/")[1:3]
        self.options = dict(parse_qsl(scope["query_string"].decode()))
        self.rng = Random(f"application/{self.options.get('seed', '')}")
        self.receive = receive
        self.send = send
        self.expected = 0

    def number(self, name: str, default: int = 0) -> int:
        return int(self.options.get(name, default))

    async def accept(self) -> None:
        await self.receive()
        await self.send({"type": "websocket.accept"})

    async def message(self) -> Message:
        """The client's next message, checked. Raises Left."""
        return self.unpack(await self.receive())

    def unpack(self, event: dict[str, Any]) -> Message:
        if event["type"] == "websocket.disconnect":
            raise Left
        message: Message = event["bytes"] if event.get("text") is None else event["text"]
        if self.options.get("way") != "unchecked":
            self.verify(message)
        return message

    def verify(self, message: Message) -> None:
        try:
            key, number = check(message)
        except Corrupt as error:
            state.wrong.append(f"{self.identity}: the application got {error}")
            return
        if (key, number) != (self.identity, self.expected):
            state.wrong.append(f"{self.identity}: the application got {key} {number}, not {self.expected}")
        self.expected = number + 1

    async def give(self, message: Message) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        event: dict[str, Any] = {"type": "websocket.send", kind: message}
        if "flowserve.compress" in self.scope["extensions"] and self.rng.random() < 0.2:
            event["compress"] = self.rng.random() < 0.5
        await self.send(event)

    async def fail(self, how: str) -> None:
        """End the call in the way that the client asked for."""
        mark = f"chaos-{self.identity}"
        if how == "cancel":
            state.quiet.append(mark)
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.sleep(60)
        state.raised.append(mark)
        if how == "exit":
            raise SystemExit(mark)
        group = getattr(builtins, "BaseExceptionGroup", None)  # of Python 3.11
        if how == "group" and group is not None:
            raise group(mark, [ChaosError(mark), ChaosError("another")])
        if how == "task":
            await asyncio.gather(self.raise_later(mark), asyncio.sleep(0.001))
        raise ChaosError(mark)

    async def raise_later(self, mark: str) -> None:
        await asyncio.sleep(0)
        raise ChaosError(mark)


# WebSocket


async def echo(call: Call) -> None:
    """Send every message back, in one of many ways, until the client leaves or `fault` is due after `after`."""
    await call.accept()
    way, after, fault = call.options.get("way", "direct"), call.number("after", -1), call.options.get("fault", "")
    receive = received_in_pieces if way == "cancelled" else Call.message
    done = 0
    while done != after:
        message = await receive(call)
        await SENDS[way](call, message)
        done += 1
    if fault == "return":
        return
    if fault == "close":
        await call.send({"type": "websocket.close", "code": call.number("code"), "reason": "as asked"})
        return
    await call.fail(fault)


async def received_in_pieces(call: Call) -> Message:
    """A receive() that is cancelled again and again; no message may be lost."""
    while True:
        try:
            return call.unpack(await asyncio.wait_for(call.receive(), call.rng.choice((0, 0.0005, 0.002))))
        except (TimeoutError, asyncio.TimeoutError):
            await asyncio.sleep(0.0005)


async def blocking(call: Call, message: Message) -> None:
    time.sleep(call.rng.random() * 0.002)  # noqa: ASYNC251  (as applications do)
    await call.give(message)


async def threaded(call: Call, message: Message) -> None:
    await asyncio.to_thread(time.sleep, call.rng.random() * 0.001)
    await call.give(message)


async def foreign(call: Call, message: Message) -> None:
    """Sent from another thread."""
    loop = asyncio.get_running_loop()
    sending = await asyncio.to_thread(asyncio.run_coroutine_threadsafe, call.give(message), loop)
    await asyncio.wrap_future(sending)


async def tasked(call: Call, message: Message) -> None:
    await asyncio.create_task(call.give(message))


async def lazy(call: Call, message: Message) -> None:
    await asyncio.sleep(call.rng.random() * 0.003)
    await call.give(message)


SENDS: dict[str, Callable[[Call, Message], Awaitable[None]]] = {
    "direct": Call.give,
    "unchecked": Call.give,  # of messages without numbers
    "cancelled": Call.give,
    "blocking": blocking,
    "threaded": threaded,
    "foreign": foreign,
    "tasked": tasked,
    "lazy": lazy,
}


async def flood(call: Call) -> None:
    """Many tasks send, each its own numbered messages."""
    await call.accept()
    tasks, count, size = call.number("tasks"), call.number("count"), call.number("size")
    await asyncio.gather(*(burst(call, f"{call.identity}.{task}", count, size) for task in range(tasks)))


async def interrupted(call: Call) -> None:
    """Many tasks send, until another one closes or raises."""
    await call.accept()
    tasks, size = call.number("tasks"), call.number("size")
    sending = (burst(call, f"{call.identity}.{task}", call.number("count"), size) for task in range(tasks))
    await asyncio.gather(*sending, interrupt(call))


async def interrupt(call: Call) -> None:
    await asyncio.sleep(call.number("milliseconds") / 1000)
    if call.options["fault"] == "close":
        await call.send({"type": "websocket.close", "code": 4000, "reason": "interrupted"})
    else:
        await call.fail(call.options["fault"])


async def burst(call: Call, key: str, count: int, size: int) -> None:
    rng = Random(key)
    for number in range(count):
        await call.give(make(key, number, rng, rng.randint(0, size)))
        if rng.random() < 0.1:
            await asyncio.sleep(rng.random() * 0.002)


async def hub(call: Call) -> None:
    """Everybody gets what anybody sends."""
    await call.accept()
    state.hub[call.identity] = call
    try:
        while True:
            message = await call.message()
            await asyncio.gather(*(each.give(message) for each in list(state.hub.values())), return_exceptions=True)
    finally:
        del state.hub[call.identity]


async def deaf(call: Call) -> None:
    """Receive nothing, wait, and return."""
    await call.accept()
    await asyncio.sleep(call.number("milliseconds") / 1000)


async def deny(call: Call) -> None:
    """No WebSocket comes of it."""
    await call.receive()
    how = call.options["how"]
    if how == "close":
        await call.send({"type": "websocket.close"})
    elif how == "response":
        await call.send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await call.send({"type": "websocket.http.response.body", "body": call.identity.encode()})
    elif how == "return":
        state.silent_returns += 1
    else:
        await call.fail(how)


# HTTP


async def start(call: Call, status: int = 200, length: int | None = None) -> None:
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    await call.send({"type": "http.response.start", "status": status, "headers": headers})


async def body(call: Call, data: bytes, more: bool = False) -> None:
    await call.send({"type": "http.response.body", "body": data, "more_body": more})


async def get(call: Call) -> None:
    """A small answer, now and then late or from code that blocks."""
    way = call.options.get("way", "direct")
    if way == "blocking":
        time.sleep(0.002)  # noqa: ASYNC251
    elif way == "threaded":
        await asyncio.to_thread(time.sleep, 0.001)
    elif way == "lazy":
        await asyncio.sleep(0.003)
    await start(call)
    await body(call, call.identity.encode())


async def stream(call: Call) -> None:
    """Numbered pieces, by more than one task's doing; `fault` may be due after some of them."""
    count, after = call.number("count"), call.number("after", -1)
    if after == 0:
        await call.fail(call.options["fault"])
    length = count * PIECE if call.options.get("length") else None
    await start(call, length=length)
    for number in range(count):
        await body(call, numbered(call.identity, number), more=True)
        if number + 1 == after:
            await call.fail(call.options["fault"])
        if call.rng.random() < 0.2:
            await asyncio.sleep(call.rng.random() * 0.002)
    await body(call, b"")
    if call.options.get("fault") == "behind":
        await call.fail("raise")


def numbered(key: str, number: int) -> bytes:
    return Random(f"{key}/{number}").randbytes(PIECE)


async def events(call: Call) -> None:
    """Server-sent events, until the client leaves."""
    await start(call)
    leaving = asyncio.ensure_future(left(call))
    number, period = 0, float(call.options.get("period", 0.002))
    try:
        while not leaving.done():
            await body(call, b"data: %d\n\n" % number, more=True)
            number += 1
            await asyncio.wait({leaving}, timeout=period)
    finally:
        leaving.cancel()


async def left(call: Call) -> None:
    while (await call.receive())["type"] != "http.disconnect":
        pass


async def upload(call: Call) -> None:
    """Take the body and tell its checksum; or answer without taking it."""
    import zlib

    size = checksum = 0
    while not call.options.get("early"):
        event = await call.receive()
        if event["type"] == "http.disconnect":
            return
        size += len(event["body"])
        checksum = zlib.crc32(event["body"], checksum)
        if call.rng.random() < 0.2:
            await asyncio.sleep(call.rng.random() * 0.002)
        if not event["more_body"]:
            break
    await start(call)
    await body(call, b"%d %08x" % (size, checksum))


# What the process holds


async def control(call: Call) -> None:
    """The figures that have to come back to what they were."""
    if call.options.get("brief"):
        await start(call)
        return await body(call, json.dumps(brief()).encode())
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps is not the server's
    kinds = Counter(
        f"{type(each).__module__}.{type(each).__qualname__}"
        for each in gc.get_objects()
        if str(type(each).__module__).startswith("flowserve")
    )
    figures = {
        **brief(),
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "rss_kib": rss_kib(),
        "objects": len(gc.get_objects()),
        "kinds": kinds,
        "hub": len(state.hub),
        "raised": state.raised,
        "quiet": state.quiet,
        "silent_returns": state.silent_returns,
        "wrong": state.wrong,
    }
    await start(call)
    return await body(call, json.dumps(figures).encode())


def brief() -> dict[str, Any]:
    """What costs next to nothing to know."""
    blocks = sys.getallocatedblocks()
    return {"pid": os.getpid(), "calls": state.calls - 1, "tasks": len(asyncio.all_tasks()), "blocks": blocks}


def rss_kib() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


FUNCTIONS: dict[str, Callable[[Call], Awaitable[None]]] = {
    each.__name__: each for each in (echo, flood, interrupted, hub, deaf, deny, get, stream, events, upload, control)
}


async def lifespan(receive: Any, send: Any) -> None:
    while (event := await receive())["type"] != "lifespan.shutdown":
        await send({"type": event["type"] + ".complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    call = Call(scope, receive, send)
    state.calls += 1
    try:
        await FUNCTIONS[call.name](call)
    except Left:
        pass
    finally:
        state.calls -= 1
    return None
