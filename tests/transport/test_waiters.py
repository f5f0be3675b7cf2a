"""Lists of those who wait."""

from __future__ import annotations

import asyncio

from flowserve.transport.waiters import add_waiter, wake


async def test_all_who_wait_are_woken() -> None:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[None]] = [loop.create_future() for _ in range(3)]
    waiters = None
    for future in futures:
        waiters = add_waiter(waiters, future)
    futures[1].cancel()
    wake(waiters)
    assert [future.cancelled() for future in futures] == [False, True, False]
    assert futures[0].done()
    assert futures[2].done()
    wake(None)


async def test_those_who_give_up_are_forgotten() -> None:
    loop = asyncio.get_running_loop()
    stays: asyncio.Future[None] = loop.create_future()
    waiters = add_waiter(None, stays)
    for _ in range(1000):
        future: asyncio.Future[None] = loop.create_future()
        waiters = add_waiter(waiters, future)
        future.cancel()
    assert len(waiters) == 2
    assert waiters[0] is stays
