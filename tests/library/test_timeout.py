"""A time limit over several steps."""

from __future__ import annotations

import asyncio

import pytest
from support.helpers import within

from flowserve.library.timeout import Deadline

pytestmark = pytest.mark.both_loops


async def test_its_error_says_where_the_time_was_up():
    with pytest.raises(TimeoutError, match=r"^timed out after 0\.01 s while waiting for godot$"):  # noqa: PT012
        async with Deadline(0.01) as deadline:
            deadline.doing = "waiting for vladimir"
            await asyncio.sleep(0)
            deadline.doing = "waiting for godot"
            await asyncio.Event().wait()
    await asyncio.sleep(0)  # the task is as good as before


async def test_a_body_that_is_done_in_time():
    for seconds in (None, 60.0):
        async with Deadline(seconds):
            await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        async with Deadline(60.0):
            raise ZeroDivisionError


async def test_a_cancellation_is_not_taken_for_the_timeout():
    async def body() -> None:
        async with Deadline(60.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task)


@pytest.mark.skipif(not hasattr(asyncio.Task, "uncancel"), reason="Python 3.10 can't tell them apart")
async def test_a_cancellation_at_the_same_moment_wins():
    entered: list[Deadline] = []

    async def body() -> None:
        async with Deadline(60.0) as deadline:
            entered.append(deadline)
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    entered[0]._expire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task)
