"""The applications for flowserve's topics; apart from others, whose memory is measured."""

from __future__ import annotations

import asyncio
from typing import Any

from flowserve import topics

TEXT = ("The quick brown fox jumps over the lazy dog. " * 2)[:64]


async def topic(scope: Any, receive: Any, send: Any) -> None:
    """A member gets all that a speaker says; others have done what their messages say."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    path = scope["path"]
    if path == "/member":
        await topics.subscribe(scope, "room")
    while (message := await receive())["type"] == "websocket.receive":
        text = message["text"]
        del message
        if path == "/speaker":
            await topics.publish("room", text)
        else:
            await (subscribe if path == "/subscriber" else publish)(scope, int(text))
            await send({"type": "websocket.send", "text": text})


def names(number: int) -> list[str]:
    return [f"topic {each}" for each in range(number)]


async def subscribe(scope: Any, number: int) -> None:
    """Subscribe to so many topics."""
    if number:
        await topics.subscribe(scope, *names(number))


async def publish(scope: Any, number: int) -> None:
    """Publish as many messages, all at one time."""
    await asyncio.gather(*(topics.publish(name, TEXT) for name in names(number)))
