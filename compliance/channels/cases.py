"""The cases in which layers are known to lose messages, and the layers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from compliance.channels.crowd import Crowd
from compliance.topics.stores import Store

CORE, PUBSUB = "channels_redis.core.RedisChannelLayer", "channels_redis.pubsub.RedisPubSubChannelLayer"
OURS = "flowserve.topics.ChannelLayer"


@dataclass(frozen=True)
class Layer:
    """A channel layer, as users configure it."""

    name: str
    backend: str
    redis: bool = True

    def settings(self, url: str) -> dict[str, Any]:
        """What stands in CHANNEL_LAYERS."""
        if self.backend == OURS:
            config: dict[str, Any] = {"url": url} if self.redis else {}
        else:  # without the limit that redis-py has of its own accord, which is as long as the layer blocks
            config = {"hosts": [{"address": url, "socket_timeout": None}]}
        return {"BACKEND": self.backend, "CONFIG": config}


LAYERS = (
    Layer("flowserve, without Redis", OURS, redis=False),
    Layer("flowserve, Redis", OURS),
    Layer("channels_redis core", CORE),
    Layer("channels_redis pubsub", PUBSUB),
)


@dataclass(frozen=True)
class Case:
    """What happens to a room of two workers."""

    name: str
    about: str
    members: int
    run: Callable[[Crowd, Store | None], Awaitable[None]]
    query: str = ""
    redis: bool = False
    """Whether it is of Redis."""


async def steady(crowd: Crowd, store: Store | None) -> None:
    for _ in range(100):
        await crowd.say(1)
        await asyncio.sleep(0.05)


async def burst(crowd: Crowd, store: Store | None) -> None:
    await crowd.say(1000)


async def restart(crowd: Crowd, store: Store | None) -> None:
    assert store is not None
    speaking = asyncio.ensure_future(_speak(crowd, 8.0))
    await asyncio.sleep(2)
    await asyncio.to_thread(store.end)
    await asyncio.sleep(1)
    await asyncio.to_thread(store.start)
    await speaking


async def _speak(crowd: Crowd, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        await crowd.say(1)
        await asyncio.sleep(0.05)


CASES = (
    Case("members", "400 members, 20 messages a second for 5 seconds", 400, steady),
    Case("burst", "100 members, 1,000 messages one after the other", 100, burst),
    Case("waiting", "100 members whose consumers are busy for 3 seconds; 1,000 messages", 100, burst, "?busy=3"),
    Case(
        "restart", "100 members, 20 messages a second; Redis ends, and is back after a second", 100, restart, "", True
    ),
)
