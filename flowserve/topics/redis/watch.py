"""Watches a connection to Redis, so that its loss is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from flowserve.topics.redis.link import Link
from flowserve.topics.redis.url import RedisURL


async def watch(link: Link, url: RedisURL, tick: Callable[[], Awaitable[None]]) -> None:
    """Return when a connection is lost. End it when it does not answer; call `tick()` now and then while it does."""
    loop = asyncio.get_running_loop()
    checked_at = loop.time()
    while not link.lost.done():
        await asyncio.wait([link.lost], timeout=min(url.timeout, url.health_check_interval) / 4)
        if link.silent(url.timeout):
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # after a stalled loop, an answer may still lie unread in the socket
            if link.silent(url.timeout):
                link.abort(f"it has not answered for {url.timeout:g} s")
            continue
        if loop.time() - checked_at > url.health_check_interval:
            checked_at = loop.time()
            link.ping()
        await tick()
