"""A Django chat with Channels on the layer of COMPLIANCE_LAYER, in JSON: what stands in CHANNEL_LAYERS."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from django.conf import settings

settings.configure(CHANNEL_LAYERS={"default": json.loads(os.environ["COMPLIANCE_LAYER"])})

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402  (once there are settings)
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402


class Member(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Passes on what is said in the room. With ?busy=S it takes S seconds for the first message."""

    async def connect(self) -> None:
        self.busy = float(self.scope["query_string"].decode().partition("busy=")[2] or 0)
        await self.channel_layer.group_add("room", self.channel_name)
        await self.accept()
        await self.send("here")

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("room", self.channel_name)

    async def said(self, event: dict[str, Any]) -> None:
        busy, self.busy = self.busy, 0
        await asyncio.sleep(busy)
        await self.send(event["text"])


class Speaker(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Says the numbers from `first` on, and answers with those for which group_send() has raised."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        first, count = json.loads(text_data or "[0, 0]")
        raised = []
        for number in range(first, first + count):
            try:
                await self.channel_layer.group_send("room", {"type": "said", "text": f"{number} {'x' * 50}"})
            except Exception:
                raised.append(number)
        await self.send(json.dumps(raised))


app = ProtocolTypeRouter(
    {"websocket": URLRouter([path("member", Member.as_asgi()), path("speaker", Speaker.as_asgi())])}
)
