"""Gaps that a worker owes which ends before Redis is back: the supervisor has another one tell them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from support.processes import until_dead
from support.redis_server import RedisServer, redis_needed
from support.topics_app import Visitor, push_to

from flowserve.supervisor.owed_gaps import OwedGaps

TESTS = Path(__file__).parent.parent
FILES = {"rooms.py": f"import sys\nsys.path.append({str(TESTS)!r})\nfrom support.topics_app import app\n"}

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="one process only")


async def serve(start: Any, redis: RedisServer, *options: str) -> Any:
    """It notices soon that Redis is away."""
    url = f"{redis.url}?socket_timeout=0.3&health_check_interval=0.3"
    return await start(*options, "--topics-url", url, app="rooms:app", files=FILES)


@asynccontextmanager
async def away(redis: RedisServer, program: Any, workers: int) -> AsyncIterator[None]:
    """Redis stands still, and the workers know it."""
    redis.pause()
    try:
        await program.logged("Redis at .* is lost", workers)
        yield
    finally:
        redis.resume()


async def say_alone(visitor: Visitor) -> None:
    """A message that reaches the visitor's worker alone."""
    await visitor.client.send_text("alone")
    assert await visitor.heard(1) == ["alone"]


@on_posix
@redis_needed
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_another_worker_tells_the_gap(start, redis, number: signal.Signals) -> None:
    """Whatever has ended the one that owed it; it is told once, to all."""
    program = await serve(start, redis, "--workers", "2")
    visitors = [await Visitor.enter(program.address)]
    while len({each.worker for each in visitors}) < 2:
        visitors.append(await Visitor.enter(program.address))
    ending, other = visitors[0], visitors[-1]
    since = (await push_to(program.address, "1"))["position"]
    assert [await each.heard(1) for each in (ending, other)] == [["1"], ["1"]]
    async with away(redis, program, 2):
        await say_alone(ending)
        os.kill(ending.worker, number)
        await ending.client.rest()
        await program.logged("Worker .* serves")
        await until_dead(ending.worker)
    await program.logged("Redis at .* is there", 2)  # of both workers: what one says alone would be a gap of its own
    assert await other.heard(1) == [None]
    await push_to(program.address, "2")
    assert await other.heard(1) == ["2"]
    late = await Visitor.enter(program.address, since=since)
    assert [event.get("data") for event in late.missed] == [None, "2"]
    for visitor in (*visitors, late):
        await visitor.client.aclose()
    await program.stop()


@on_posix
@redis_needed
async def test_the_worker_after_a_change_of_the_code_tells_the_gap(start, redis) -> None:
    program = await serve(start, redis, "--reload")
    await program.logged("Worker .* serves")
    visitor = await Visitor.enter(program.address)
    since = (await push_to(program.address, "1"))["position"]
    assert await visitor.heard(1) == ["1"]
    async with away(redis, program, 1):
        await say_alone(visitor)
        (program.folder / "rooms.py").write_text(FILES["rooms.py"] + "# changed\n")
        await visitor.client.rest()
        await program.logged("Worker .* serves", 2)
    late = await Visitor.enter(program.address, since=since)
    assert ([event.get("data") for event in late.missed] or await late.heard(1)) == [None]
    for each in (visitor, late):
        await each.client.aclose()
    await program.stop()


@on_posix
@redis_needed
async def test_where_nobody_is_left_the_log_says_so(start, redis) -> None:
    program = await serve(start, redis, "--workers", "2")
    visitor = await Visitor.enter(program.address)
    async with away(redis, program, 2):
        await say_alone(visitor)
        await visitor.client.aclose()
        await program.stop()
    assert len([line for line in program.lines if "what one process alone has got in 1 topics" in line]) == 1


def worker(is_ready: bool = True, retired: bool = False, **owed: Any) -> Any:
    return Mock(is_ready=is_ready, retired=retired, owed_gaps=owed, owe=owed.update)


def test_gaps_wait_for_a_worker_that_serves() -> None:
    """One that begins, or is about to end, is none."""
    beginning, retired = worker(is_ready=False), worker(retired=True)
    workers = {beginning, retired}
    gaps = OwedGaps(workers)
    gaps.ended(worker(a=[1, 2, 3.0]))
    gaps.ended(worker(b=[4, 5, 6.0]))
    assert not beginning.owed_gaps
    assert not retired.owed_gaps
    beginning.is_ready = True
    gaps.hand_over()
    assert beginning.owed_gaps == {"a": [1, 2, 3.0], "b": [4, 5, 6.0]}
    workers.remove(beginning)
    workers.add(third := worker())
    gaps.ended(beginning)
    assert third.owed_gaps == {"a": [1, 2, 3.0], "b": [4, 5, 6.0]}


def test_what_is_left_at_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    gaps = OwedGaps(set())
    gaps.close()
    assert not caplog.text
    gaps.ended(worker(a=[1, 2, 3.0]))
    gaps.close()
    assert "nobody is told" in caplog.text
