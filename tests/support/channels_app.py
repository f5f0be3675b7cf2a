"""A Django project with Channels, for the real command: a chat, and all ways to call its layer.

The environment: CHANNELS_CONFIG is the layer's CONFIG, in JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import Any

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    ASGI_APPLICATION=f"{__name__}.application",
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "flowserve.topics.ChannelLayer",
            "CONFIG": json.loads(os.environ.get("CHANNELS_CONFIG", "{}")),
        }
    },
)

import django  # noqa: E402

django.setup()

from asgiref.sync import async_to_sync  # noqa: E402
from channels.consumer import AsyncConsumer  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from flowserve import topics  # noqa: E402


class Chat(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Says its process and channel first; then to the room what it hears, bytes, too."""

    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()
        await self.send(json.dumps({"worker": os.getpid(), "channel": self.channel_name}))

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send(self.room, {"type": "chat.said", "text": text_data, "bytes": bytes_data})

    async def chat_said(self, event: dict[str, Any]) -> None:
        await self.send(event["text"], event["bytes"])


class SyncChat(WebsocketConsumer):  # type: ignore[misc]
    """The same in threads."""

    def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        async_to_sync(self.channel_layer.group_add)(self.room, self.channel_name)
        self.accept()
        self.send(json.dumps({"worker": os.getpid(), "channel": self.channel_name}))

    def disconnect(self, code: int) -> None:
        async_to_sync(self.channel_layer.group_discard)(self.room, self.channel_name)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        message = {"type": "chat.said", "text": text_data, "bytes": bytes_data}
        async_to_sync(self.channel_layer.group_send)(self.room, message)

    def chat_said(self, event: dict[str, Any]) -> None:
        self.send(event["text"], event["bytes"])


class Puller(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Receives from the channel "tasks" as a task of its own, and passes on the numbers."""

    async def connect(self) -> None:
        await self.accept()
        await self.send(str(os.getpid()))
        self.pulling = asyncio.ensure_future(self.pull())

    async def pull(self) -> None:
        while True:
            await self.send(str((await self.channel_layer.receive("tasks"))["number"]))

    async def disconnect(self, code: int) -> None:
        self.pulling.cancel()


class Worker(AsyncConsumer):  # type: ignore[misc]
    """Receives from the channel "tasks"; answers to the channel that a task names."""

    async def work(self, event: dict[str, Any]) -> None:
        answer = {"type": "chat.said", "text": f"{event['number']} {os.getpid()}", "bytes": None}
        await self.channel_layer.send(event["answer_to"], answer)


def say(room: str, text: str) -> None:
    async_to_sync(get_channel_layer().group_send)(room, {"type": "chat.said", "text": text, "bytes": None})


def say_in_a_fork(room: str, text: str) -> None:
    child = os.fork()
    if not child:
        say(room, text)
        os._exit(0)
    os.waitpid(child, 0)


def view(request: HttpRequest, room: str) -> HttpResponse:
    """Says ?text= in a room, from a synchronous view; with ?thread, from a bare thread that it starts, with ?fork from
    a process that such a thread forks."""
    if "thread" in request.GET or "fork" in request.GET:
        target = say_in_a_fork if "fork" in request.GET else say
        thread = threading.Thread(target=target, args=(room, request.GET["text"]))
        thread.start()
        thread.join()
    else:
        say(room, request.GET["text"])
    return HttpResponse(str(os.getpid()))


async def add(request: HttpRequest, room: str) -> HttpResponse:
    """Adds ?channel=, which may be of another process, to a room; removes it with ?discard."""
    layer = get_channel_layer()
    call = layer.group_discard if "discard" in request.GET else layer.group_add
    try:
        await call(room, request.GET["channel"])
    except topics.TopicsError as error:
        return HttpResponse(str(error), status=503)
    return HttpResponse(str(os.getpid()))


async def task(request: HttpRequest) -> HttpResponse:
    """Sends ?number= tasks, which are answered to ?channel=."""
    for number in range(int(request.GET["number"])):
        message = {"type": "work", "number": number, "answer_to": request.GET["channel"]}
        await get_channel_layer().send("tasks", message)
    return HttpResponse(str(os.getpid()))


urlpatterns = [path("say/<room>", view), path("add/<room>", add), path("task", task)]
websockets = URLRouter(
    [path("chat/<room>", Chat.as_asgi()), path("sync/<room>", SyncChat.as_asgi()), path("pull", Puller.as_asgi())]
)
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": websockets,
        "channel": ChannelNameRouter({"tasks": Worker.as_asgi()}),
    }
)
