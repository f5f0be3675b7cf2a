"""A Django chat with Channels on two workers, by the real command: without Redis, and with it; and processes beside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.helpers import Client, until, within
from support.redis_server import redis_needed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process only")

TESTS = Path(__file__).parent.parent
LONG = 20.0


class Visitor(NamedTuple):
    client: Client
    worker: int
    channel: str


def project(config: dict[str, Any]) -> dict[str, str]:
    """The module that is served, of a Django project whose layer has this CONFIG."""
    return {
        "project.py": f"import os, sys\nos.environ['CHANNELS_CONFIG'] = {json.dumps(config)!r}\n"
        f"sys.path.append({str(TESTS)!r})\nfrom support.channels_app import application\n"
    }


async def serve(start: Any, *options: str, **config: Any) -> Any:
    return await start("--workers", "2", *options, app="project:application", files=project(config))


async def enter(program: Any, path: str = "/chat/lobby") -> Visitor:
    client = await program.connect()
    await client.upgrade(path)
    hello = json.loads(await client.message())
    return Visitor(client, hello["worker"], hello["channel"])


async def enter_all(program: Any, count: int, path: str = "/chat/lobby") -> list[Visitor]:
    """At least `count` visitors, of both workers."""
    visitors: list[Visitor] = []
    while len(visitors) < count or len({each.worker for each in visitors}) < 2:
        visitors.append(await enter(program, path))
    return visitors


async def all_hear(visitors: list[Visitor], said: str | bytes) -> None:
    assert {await each.client.message() for each in visitors} == {said}


async def ask(program: Any, target: str) -> int:
    response = await within(program.get(target), LONG)
    assert response.status == 200, response.body
    return int(response.body)


async def chat(program: Any) -> None:
    """What a user of Channels does."""
    visitors = [*await enter_all(program, 20), *await enter_all(program, 6, "/sync/lobby")]
    for each in (visitors[0], visitors[1], visitors[-1]):
        await each.client.send_text(f"from {each.channel}")
        await all_hear(visitors, f"from {each.channel}")
    await visitors[0].client.send_frame(2, b"\x00\xff")
    await all_hear(visitors, b"\x00\xff")
    for number in range(4):
        await ask(program, f"/say/lobby?text=view-{number}")
        await all_hear(visitors, f"view-{number}")
        await ask(program, f"/say/lobby?text=thread-{number}&thread")
        await all_hear(visitors, f"thread-{number}")
    # a channel is added to a group, and removed, by whatever worker
    for each in visitors:
        await ask(program, f"/add/other?channel={each.channel}")
    await ask(program, "/say/other?text=other")
    await all_hear(visitors, "other")
    for each in visitors[:-1]:
        await ask(program, f"/add/other?channel={each.channel}&discard")
    await ask(program, "/say/other?text=alone")
    await ask(program, "/say/lobby?text=end")
    assert await visitors[-1].client.message() == "alone"
    await all_hear(visitors, "end")
    # who leaves, with a close frame or without, is no burden
    await visitors[0].client.send_close(1000)
    await visitors[1].client.aclose()
    await visitors[2].client.send_text("still here")
    await all_hear(visitors[2:], "still here")


async def test_without_redis(start) -> None:
    program = await serve(start)
    await chat(program)
    await program.stop()


@redis_needed
async def test_with_redis(start, redis) -> None:
    program = await serve(start, "--topics-url", redis.url, url=redis.url)
    await chat(program)
    clients = await redis.call("CLIENT", "LIST")
    assert clients.count("name=flowserve") == 2, "the layer uses the connection that each worker has"
    visitors = await enter_all(program, 4)
    await ask(program, "/say/lobby?text=forked&fork")
    await all_hear(visitors, "forked")
    await program.stop()


@redis_needed
async def test_with_a_redis_that_the_server_does_not_use(start, redis) -> None:
    """The URL of the layer alone: it has connections of its own, in threads of their own."""
    program = await serve(start, url=redis.url)
    await chat(program)
    await program.stop()


async def test_a_worker_that_is_killed(start) -> None:
    """The members on the other one miss nothing, and the clients of the dead one come back."""
    program = await serve(start)
    visitors = await enter_all(program, 10)
    dead = visitors[0].worker
    rest = [each for each in visitors if each.worker != dead]
    gone = next(each for each in visitors if each.worker == dead)
    os.kill(dead, signal.SIGKILL)
    for number in range(20):
        await rest[0].client.send_text(str(number))
        await all_hear(rest, str(number))
    await program.logged(f"{dead}", 1)
    back = await enter_all(program, 4)
    await back[0].client.send_text("back")
    await all_hear([*rest, *back], "back")
    # its channels are nobody's any more: adding one to a group says so, a message to it goes nowhere
    response = await within(program.get(f"/add/other?channel={gone.channel}"), LONG)
    assert response.status == 503
    assert b"its process does not answer" in response.body
    await program.stop()


async def test_a_normal_channel_between_workers(start) -> None:
    """Without Redis: each of 200 tasks is received once, by consumers on both workers."""
    program = await serve(start)
    pullers: list[tuple[Client, int]] = []
    while len({worker for _, worker in pullers}) < 2:
        client = await program.connect()
        await client.upgrade("/pull")
        pullers.append((client, int(await client.message())))
    got: list[tuple[int, int]] = []

    async def read(client: Client, worker: int) -> None:
        while True:
            got.append((worker, int(await asyncio.wait_for(client.message(), LONG))))

    tasks = [program.background(read(*each)) for each in pullers]
    await asyncio.gather(*(ask(program, f"/task?number=50&channel=none.none!{number}") for number in range(4)))
    await until(lambda: len(got) >= 200, LONG)
    assert Counter(number for _, number in got) == dict.fromkeys(range(50), 4)
    assert len({worker for worker, _ in got}) == 2
    assert not any(task.done() for task in tasks)
    await program.stop()


@contextlib.asynccontextmanager
async def runworker(folder: Path, count: int) -> AsyncIterator[list[int]]:
    """Channels' own `runworker`, in processes of their own."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{TESTS}"}
    command = (sys.executable, "-c", "import project, support.channels_worker", "runworker", "tasks")
    processes = [await asyncio.create_subprocess_exec(*command, env=environment) for _ in range(count)]
    try:
        yield [each.pid for each in processes]
    finally:
        for each in processes:
            each.kill()
            await each.wait()


async def answers(visitor: Visitor, count: int) -> Counter[int]:
    """Wait for the answers to that many tasks, each once; return how many each process has given."""
    got = [str(await within(visitor.client.message(), LONG)).split() for _ in range(count)]
    assert sorted(int(number) for number, _ in got) == list(range(count))
    return Counter(int(process) for _, process in got)


@redis_needed
async def test_runworker(start, redis) -> None:
    """Tasks that wait already are done; two processes share the others."""
    program = await serve(start, "--topics-url", redis.url, url=redis.url)
    visitor = await enter(program)
    await ask(program, f"/task?number=10&channel={visitor.channel}")
    async with runworker(program.folder, 2) as processes:
        assert set(await answers(visitor, 10)) <= set(processes)
        await ask(program, f"/task?number=200&channel={visitor.channel}")
        assert set(await answers(visitor, 200)) <= set(processes)
    await program.stop()


@redis_needed
async def test_a_management_command(start, redis, tmp_path) -> None:
    """A process that no server runs says something, in a shell's way, and ends; and so does one after a fork."""
    program = await serve(start, "--topics-url", redis.url, url=redis.url)
    visitors = await enter_all(program, 4)
    script = (
        "import os, project\n"
        "from support.channels_app import say\n"
        "say('lobby', 'from the parent')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    say('lobby', 'from the child')\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "say('lobby', 'from the parent again')\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{program.folder}:{TESTS}"}
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=LONG
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    for said in ("from the parent", "from the child", "from the parent again"):
        await all_hear(visitors, said)
    await program.stop()


async def test_what_is_dropped_is_counted(start) -> None:
    """A capacity that the user sets, and a client that does not read."""
    program = await serve(start, "--metrics", "127.0.0.1:0", capacity=5)
    found = await program.logged(r"Metrics on http://127.0.0.1:(\d+)")
    serving = await program.logged(r"workers serve on http://([0-9.]+):(\d+)")
    program.address = serving[1], int(serving[2])
    visitor = await enter(program)

    async def dropped() -> float:
        scraper = await Client.connect(("127.0.0.1", int(found[1])))
        page = (await scraper.get("/metrics", "Connection: close")).body.decode()
        await scraper.aclose()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in page.splitlines()
            if line.startswith("flowserve_topics_dropped_total{") and "channels.group" in line
        )

    big = "x" * 500_000
    for _ in range(200):
        await ask(program, "/say/lobby?text=small")
        if await dropped():
            break
        await visitor.client.send_text(big)
    assert await dropped() > 0
    await program.logged("is dropped: 5 messages wait")
    await program.stop()
