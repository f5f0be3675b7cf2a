"""Django with Channels: consumers in groups over Redis, for two workers."""

from __future__ import annotations

import json
import time
from typing import Any

import django_app
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path, re_path
from django.utils.html import format_html
from django.utils.safestring import mark_safe


class Echo(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept("chat" if "chat" in self.scope["subprotocols"] else None)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if bytes_data is not None:
            await self.send(bytes_data=bytes_data)
        elif text_data == "close":
            await self.close(4001, "bye")
        elif text_data == "block":
            await self.send("before")
            time.sleep(0.6)  # noqa: ASYNC251
            await self.send("after")
        else:
            await self.send(text_data)


class Room(AsyncJsonWebsocketConsumer):
    """Says to all of the room what one says, whichever worker they are on."""

    groups = ("room",)

    async def receive_json(self, content: Any, **_: Any) -> None:
        await self.channel_layer.group_send("room", {"type": "said", "word": content["word"]})

    async def said(self, event: Any) -> None:
        await self.send_json({"word": event["word"]})


class Fragments(AsyncWebsocketConsumer):
    """HTML as Django makes it: subclasses of str."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(mark_safe(f"<p>{text_data}</p>"))
        await self.send(format_html("<b>{}</b>", text_data))
        await self.close(4000, mark_safe("done"))


class Synchronous(WebsocketConsumer):
    """A consumer that runs in a thread, on the database."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("select upper(%s)", [text_data])
            self.send(cursor.fetchone()[0])


class Refusing(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.close()


class LongPoll(AsyncHttpConsumer):
    """A response that comes in pieces from a consumer."""

    async def handle(self, body: bytes) -> None:
        await self.send_headers(headers=[(b"Content-Type", b"application/json")])
        await self.send_body(b'{"bytes": ', more_body=True)
        await self.send_body(json.dumps(len(body)).encode() + b"}")


websockets = URLRouter(
    [
        path("ws", Echo.as_asgi()),
        path("room", Room.as_asgi()),
        path("fragments", Fragments.as_asgi()),
        path("synchronous", Synchronous.as_asgi()),
        path("refuse", Refusing.as_asgi()),
    ]
)
http = URLRouter([path("consumer", LongPoll.as_asgi()), re_path("", django_app.app)])
app = ProtocolTypeRouter({"http": http, "websocket": websockets})
