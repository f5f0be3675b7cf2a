"""A chat room on Starlette, with its web page.

Start it with: flowserve examples.chat:app
and open http://127.0.0.1:8000 in two windows.

The page and the server exchange JSON objects in text messages. From the page: {"text": "hello"}. From the server:

    {"type": "welcome", "name": "Ada", "people": ["Ada", "Bob"], "messages": [...]}   first, and once
    {"type": "join", "name": "Cem", "people": [...]}                                  also "leave"
    {"type": "message", "name": "Ada", "text": "hello", "time": 1764000000.0}         to everybody, the sender too
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

PAGE = Path(__file__).with_name("chat.html")
LONGEST_NAME = 30  # characters
LONGEST_TEXT = 2000  # characters
KEPT_MESSAGES = 50  # for those who come later
MOST_WAITING = 100  # events a member may be behind


class Member:
    """Someone in the room. Events wait in a queue of its own, so that a slow line holds up nobody else."""

    def __init__(self, websocket: WebSocket, name: str) -> None:
        self.websocket = websocket
        self.name = name
        self.waiting: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)
        self.writer = asyncio.create_task(self.write())

    async def write(self) -> None:
        """Send what comes into the queue, until the WebSocket ends."""
        with suppress(WebSocketDisconnect):
            while True:
                await self.websocket.send_text(await self.waiting.get())


class Room:
    """Who is there, and what was said last."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.messages: deque[dict[str, Any]] = deque(maxlen=KEPT_MESSAGES)

    @property
    def people(self) -> list[str]:
        return [member.name for member in self.members]

    def free_name(self, name: str) -> str:
        """`name`, with a number behind it if somebody has that name."""
        number, free = 2, name
        while free in self.people:
            free, number = f"{name} {number}", number + 1
        return free

    async def enter(self, member: Member) -> None:
        others = self.members.copy()
        self.members.append(member)
        welcome = {"type": "welcome", "name": member.name, "people": self.people, "messages": list(self.messages)}
        await self.tell([member], welcome)
        await self.tell(others, {"type": "join", "name": member.name, "people": self.people})

    async def leave(self, member: Member) -> None:
        member.writer.cancel()
        if member in self.members:
            self.members.remove(member)
            await self.tell(self.members, {"type": "leave", "name": member.name, "people": self.people})

    async def say(self, member: Member, text: str) -> None:
        message = {"type": "message", "name": member.name, "text": text, "time": time.time()}
        self.messages.append(message)
        await self.tell(self.members, message)

    async def tell(self, members: list[Member], event: dict[str, Any]) -> None:
        """Queue an event for each of `members`; who does not keep up is sent away."""
        text = json.dumps(event)
        for member in members.copy():
            try:
                member.waiting.put_nowait(text)
            except asyncio.QueueFull:
                await self.leave(member)
                with suppress(WebSocketDisconnect):
                    await member.websocket.close(1013, "too slow")


room = Room()


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


async def chat(websocket: WebSocket) -> None:
    """One member's stay: ws://.../chat?name=Ada"""
    name = " ".join(websocket.query_params.get("name", "").split())[:LONGEST_NAME]
    if not name:
        await websocket.send_denial_response(PlainTextResponse("Say who you are: /chat?name=...\n", 400))
        return
    await websocket.accept()
    member = Member(websocket, room.free_name(name))
    await room.enter(member)
    try:
        while (message := await websocket.receive())["type"] == "websocket.receive":
            if text := text_of(message.get("text")):
                await room.say(member, text)
    finally:
        await room.leave(member)


def text_of(message: str | None) -> str:
    """What a page's message says; nothing for one that makes no sense."""
    try:
        text = json.loads(message or "")["text"]
    except (ValueError, TypeError, KeyError):
        return ""
    return text.strip()[:LONGEST_TEXT] if isinstance(text, str) else ""


app = Starlette(routes=[Route("/", page), WebSocketRoute("/chat", chat)])


if __name__ == "__main__":
    sys.exit("Start it with: flowserve examples.chat:app")
