"""A chat with rooms and history on any number of workers, with its web page.

Start it with: flowserve examples.topics.chat:app --workers 2
and open http://127.0.0.1:8000 in two windows.

A room is a topic. The page sends JSON objects: {"key": "x7.1", "text": "hello"}. It gets, by the envelope "json":

    {"topic": "chat:lobby", "position": "...", "data": {"key", "name", "text", "time"}}     a message
    {"topic": "chat:lobby", "position": "...", "gap": true}                                 some are missing before
    {"recovered": true, "worker": 4711}             what was kept has come; false: not all since the page's position
    {"topic": "chat:lobby", "members": [{"id": "Ada", ...}], "complete": true}              who is there
    {"topic": "chat:lobby", "joins": [{"id": "Bob", ...}], "leaves": ["Ada"]}               who has come and left since
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from flowserve import ClientDisconnected, topics

PAGE = Path(__file__).with_name("chat.html")
LONGEST_NAME = 30  # characters, of people and rooms
LONGEST_KEY = 60
LONGEST_TEXT = 2000


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


async def chat(websocket: WebSocket) -> None:
    """One member's stay in a room: ws://.../chat/lobby?name=Ada, or &since=POSITION for one who comes back."""
    name = " ".join(websocket.query_params.get("name", "").split())[:LONGEST_NAME]
    room = websocket.path_params["room"]
    if not name or len(room) > LONGEST_NAME:
        await websocket.close()  # answered with 403, as it was not accepted
        return
    await websocket.accept()
    topic = f"chat:{room}"
    since = websocket.query_params.get("since") or topics.OLDEST
    with suppress(ClientDisconnected, WebSocketDisconnect):
        # From here on the server writes the room's messages to the page, those that it has missed first.
        subscription = await topics.subscribe(
            websocket, topic, since=since, envelope="json", member=name, presence=True
        )
        await websocket.send_json({"recovered": subscription.recovered[topic], "worker": os.getpid()})
        try:
            async for said in websocket.iter_text():
                await say(topic, name, said)
        except topics.TopicsError:  # other machines can't be reached: the page comes back, and says it again
            await websocket.close(1013)


async def say(topic: str, name: str, said: str) -> None:
    """Publish what a page says. What it repeats after a loss, with the same key, is not published again."""
    with suppress(ValueError, TypeError, KeyError):  # a message that makes no sense
        message = json.loads(said)
        key, text = str(message["key"])[:LONGEST_KEY], str(message["text"]).strip()[:LONGEST_TEXT]
        if text:
            await topics.publish(topic, json={"key": key, "name": name, "text": text, "time": time.time()}, key=key)


app = Starlette(routes=[Route("/", page), WebSocketRoute("/chat/{room}", chat)])


if __name__ == "__main__":
    sys.exit("Start it with: flowserve examples.topics.chat:app --workers 2")
