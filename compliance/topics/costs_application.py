"""The application whose costs are measured: its WebSockets say what their worker is to do."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from flowserve import topics
from flowserve.topics.hub.current import current_source

_TEXT = ("The quick brown fox jumps over the lazy dog. " * 2)[:64]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Tell the worker's process id, then do what each message says, a JSON array, and answer with the result."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(os.getpid())})
    while (event := await receive())["type"] == "websocket.receive":
        what, *arguments = json.loads(event["text"])
        await send({"type": "websocket.send", "text": json.dumps(await _ACTIONS[what](scope, *arguments))})


async def _publish(scope: Any, number: int, names: int) -> None:
    """Publish so many messages at one time, to so many topics."""
    await asyncio.gather(*(topics.publish(f"topic:{each % names}", _TEXT) for each in range(number)))


async def _subscribe(scope: Any, names: int) -> None:
    await topics.subscribe(scope, *(f"topic:{each}" for each in range(names)))


async def _enter(scope: Any, topic: str, member: str | None) -> None:
    """Subscribe to a topic, with `member` as one of its members."""
    await topics.subscribe(scope, topic, member=member, info=None if member is None else {"status": "here"})


async def _look(scope: Any, topic: str) -> list[Any]:
    """Return how many members are listed, and whether these are all."""
    present = await topics.presence(topic)
    return [len(present), present.complete]


async def _sent(scope: Any) -> int:
    """Return how many messages this worker has published about presence."""
    return current_source().hub.tracker.exchange.sent


_ACTIONS: dict[str, Callable[..., Awaitable[Any]]] = {
    "publish": _publish,
    "subscribe": _subscribe,
    "enter": _enter,
    "look": _look,
    "sent": _sent,
}
