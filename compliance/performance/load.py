"""The load generator: one process, pinned by whoever starts it, that talks to one server and prints figures as JSON.

`python -m compliance.performance.load JOB`, JOB as JSON: {"case": "A", "port": 8000, "pid": 123, "warmup": 0.5,
"duration": 2.0, "ca": "/path/to/ca.pem" for TLS, "hold": seconds that idle connections stay open, "redis": its URL}.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from compliance._servers import cpu_seconds, memory_kib
from compliance.performance.cases import CASES
from compliance.performance.clients import (
    MAX_READ,
    Client,
    Deflated,
    Echo,
    Idle,
    Request,
    Run,
    Visit,
)
from compliance.performance.messages import RSV1, deflated, frame, text, updates
from compliance.performance.rooms import Asker, Member, Room, Subscriber


async def open_many(run: Run, number: int, factory: Callable[[], Client], at_once: int = 50) -> list[Any]:
    """Open connections, not more than `at_once` at a time; return when each has its 101, and is settled."""
    clients: list[Any] = []
    while len(clients) < number:
        some = min(at_once, number - len(clients))
        batch = await run.wait(asyncio.gather(*(run.connect(factory) for _ in range(some))))
        await run.wait(asyncio.gather(*(client.settled for client in batch)))
        clients += batch
    return clients


async def come_and_go(run: Run, factory: Callable[[], Client]) -> None:
    """Have some connections come and go, since a server in service is not one that nobody has left yet."""
    for client in await open_many(run, 50, factory):
        client.leave()
    gc.collect()  # this side needs it as well
    await run.sleep(0.5)


async def echo(run: Run) -> dict[str, float]:
    case = run.case
    one, masked = frame(1, text(case.size), False), frame(1, text(case.size), True)
    outgoing = [masked * number for number in range(case.in_flight + 1)]
    echoes = one * (MAX_READ // len(one) + 2)
    if case.tls:
        # uvloop gets 256 KiB for each message, and gives most of it back. Until such a block has been freed whole, as
        # when a connection goes, glibc has the system do that, at twice the cost: mallopt(3), M_MMAP_THRESHOLD.
        await come_and_go(run, lambda: Idle(run))
    await open_many(run, case.idle, lambda: Idle(run))
    clients = await open_many(run, case.connections, lambda: Echo(run, one, outgoing, echoes))
    for client in clients:
        client.start()
    figures = await run.measure()
    if any(client.sent[0][0] < run.since for client in clients):
        raise RuntimeError("a connection stalled: what it sent before the measurement has not come back")
    return figures


def compressed_clients(run: Run, once: bool) -> Callable[[], Deflated]:
    """What makes one client after the other, each at another message."""
    messages = [(one, frame(RSV1 | 1, deflated(one), True)) for one in updates(run.case.size)]
    begin = itertools.cycle(range(len(messages)))
    return lambda: Deflated(run, messages, next(begin), once)


async def deflate(run: Run) -> dict[str, float]:
    clients = await open_many(run, run.case.connections, compressed_clients(run, False))
    for client in clients:
        client.start()
    figures = await run.measure()
    if any(client.started < run.since for client in clients):
        raise RuntimeError("a connection stalled: what it sent before the measurement has not come back")
    return {**figures, "bytes_out": run.bytes_in / run.count}


async def visit(run: Run) -> dict[str, float]:
    async def visitor() -> None:
        while not run.ending:
            client = await run.connect(lambda: Visit(run))
            await client.over

    async def visitors() -> None:
        try:
            await asyncio.gather(*(visitor() for _ in range(run.case.connections)))
        except OSError as error:
            run.fail(str(error))

    task = asyncio.ensure_future(visitors())
    try:
        return await run.measure()
    finally:
        run.ending = True
        task.cancel()


async def idle(run: Run) -> dict[str, float]:
    """KB a connection: the server's memory with them all open, less that before (when it had served a few already)."""
    factory = compressed_clients(run, True) if run.case.compressed else lambda: Idle(run)
    await come_and_go(run, factory)
    before, started = memory_kib(run.pid), time.perf_counter()
    await open_many(run, run.case.connections, factory)
    opened = time.perf_counter() - started
    cpu = cpu_seconds(run.pid)
    await run.sleep(run.hold)
    after = memory_kib(run.pid)
    return {
        "value": (after - before) * 1.024 / run.case.connections,
        "messages": run.case.connections,
        "per_second": run.case.connections / opened,
        "busy": (cpu_seconds(run.pid) - cpu) / run.hold,
        "memory_kib": after,
    }


async def http(run: Run) -> dict[str, float]:
    opening = asyncio.gather(*(run.connect(lambda: Request(run)) for _ in range(run.case.connections)))
    clients = await run.wait(opening)
    for client in clients:
        client.start()
    figures = await run.measure()
    if any(client.started < run.since for client in clients):
        raise RuntimeError("a connection stalled: a request from before the measurement has no response")
    return figures


async def room(run: Run) -> dict[str, float]:
    state = Room(run)
    state.members = len(await open_many(run, run.case.connections, lambda: Member(state)))
    [speaker] = await open_many(run, 1, lambda: Client(run, b"/speaker"))
    state.say = speaker.transport.write
    state.speak()
    figures = await run.measure()
    return {**figures, "bytes_out": run.bytes_in / run.count} if run.case.compressed else figures


async def subscriptions(run: Run) -> dict[str, float]:
    """Bytes a subscription: the server's memory with them, less that with the same connections without."""
    await come_and_go(run, lambda: Asker(run, b"/subscriber"))
    clients = await open_many(run, run.case.connections, lambda: Asker(run, b"/subscriber"))

    async def ask(what: bytes) -> int:
        for first in range(0, len(clients), 50):
            await run.wait(asyncio.gather(*(client.ask(what) for client in clients[first : first + 50])))
        return memory_kib(run.pid)

    before = await ask(b"0")
    cpu, started = cpu_seconds(run.pid), time.perf_counter()
    after = await ask(b"%d" % run.case.topics)
    number, seconds = run.case.connections * run.case.topics, time.perf_counter() - started
    return {
        "value": (after - before) * 1024 / number,
        "messages": number,
        "per_second": number / seconds,
        "busy": (cpu_seconds(run.pid) - cpu) / seconds,
        "memory_kib": after,
    }


async def publish(run: Run) -> dict[str, float]:
    """Has the server publish many messages at a time."""
    [client] = await open_many(run, 1, lambda: Asker(run, b"/publisher"))

    async def publisher() -> None:
        while not run.ending:
            started = time.perf_counter()
            await client.ask(b"%d" % run.case.in_flight)
            run.took(started, run.case.in_flight)

    task = asyncio.ensure_future(publisher())
    try:
        return await run.measure()
    finally:
        task.cancel()


async def intake(run: Run) -> dict[str, float]:
    """Publishes many messages at a time, which reach the server's one subscriber through Redis."""
    from flowserve import topics  # whose cost is this process's

    async with topics.connect(run.redis) as connection:

        def say(_: bytes) -> None:
            tasks[:] = [
                asyncio.ensure_future(connection.publish(f"topic {number % run.case.topics}", state.said.decode()))
                for number in range(run.case.in_flight)
            ]

        tasks: list[asyncio.Future[Any]] = []
        state = Room(run)
        state.say = say
        state.members = len(await open_many(run, 1, lambda: Subscriber(state)))
        state.speak()
        return await run.measure()


KINDS = {
    "echo": echo,
    "deflate": deflate,
    "visit": visit,
    "idle": idle,
    "http": http,
    "room": room,
    "subscriptions": subscriptions,
    "publish": publish,
    "intake": intake,
}


async def main(job: dict[str, Any]) -> dict[str, float]:
    run = Run(asyncio.get_running_loop(), job, CASES[job["case"]])
    gc.disable()
    try:
        return await KINDS[run.case.kind](run)
    finally:
        run.ending = True


if __name__ == "__main__":
    import uvloop

    uvloop.install()
    try:
        answer: dict[str, Any] = asyncio.run(main(json.loads(sys.argv[1])))
    except (OSError, RuntimeError) as problem:
        answer = {"error": str(problem)}
    print(json.dumps(answer))
