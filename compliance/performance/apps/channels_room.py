"""A room with Channels: a group, in the layer that BENCHMARK_LAYER names, over the Redis of BENCHMARK_REDIS."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings

# Without its limit, which redis-py has of its own accord from version 8 on, and which is as long as the layer blocks.
HOST = {"address": os.environ["BENCHMARK_REDIS"], "socket_timeout": None}
LAYER = {"BACKEND": os.environ["BENCHMARK_LAYER"], "CONFIG": {"hosts": [HOST]}}
settings.configure(CHANNEL_LAYERS={"default": LAYER})

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402  (once there are settings)
from channels.routing import ProtocolTypeRouter  # noqa: E402


class Room(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        if self.scope["path"] == "/member":
            await self.channel_layer.group_add("room", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        if self.scope["path"] == "/member":
            await self.channel_layer.group_discard("room", self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send("room", {"type": "said", "text": text_data})

    async def said(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


app = ProtocolTypeRouter({"websocket": Room.as_asgi()})
