"""An application for the real command: rooms, and what is pushed into them over HTTP; and its clients."""

from __future__ import annotations

import json
import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from flowserve import topics
from support.helpers import Client


async def enter(websocket: WebSocket) -> None:
    """First says what its subscription is; then publishes what it hears. Leaves the room on "leave", with a word."""
    room = websocket.path_params["room"]
    await websocket.accept()
    subscription = await topics.subscribe(websocket, room, since=websocket.query_params.get("since"), envelope="json")
    await websocket.send_json(
        {"worker": os.getpid(), "position": subscription.position[room], "recovered": subscription.recovered.get(room)}
    )
    async for text in websocket.iter_text():
        if text == "leave":
            await topics.publish(room, "bye")
            await subscription.unsubscribe()
            await websocket.send_text("left")
        else:
            await topics.publish(room, text)


async def push(request: Request) -> JSONResponse:
    """Publishes from whatever worker this is."""
    position = await topics.publish(request.path_params["room"], request.query_params["text"])
    return JSONResponse({"position": position, "worker": os.getpid()})


app = Starlette(routes=[WebSocketRoute("/ws/{room}", enter), Route("/push/{room}", push, methods=["POST"])])


class Visitor:
    """A client in a room. `opening` is what the server has said, `missed` what came before that, of the history."""

    def __init__(self, client: Client, opening: dict[str, Any], missed: list[dict[str, Any]]) -> None:
        self.client = client
        self.opening = opening
        self.missed = missed
        self.worker: int = opening["worker"]
        self.position: str = opening["position"]

    @classmethod
    async def enter(cls, address: Any, room: str = "r", since: str = "") -> Visitor:
        client = await Client.connect(address)
        await client.upgrade(f"/ws/{room}?since={since}" if since else f"/ws/{room}")
        missed = []
        while "worker" not in (event := json.loads(await client.message())):
            missed.append(event)
        return cls(client, event, missed)

    async def heard(self, count: int) -> list[str]:
        """The next messages; None stands for a gap."""
        found = []
        for _ in range(count):
            event = json.loads(await self.client.message())
            self.position = event["position"] or self.position
            found.append(event.get("data"))
        return found


async def push_to(address: Any, text: str, room: str = "r") -> dict[str, Any]:
    """POST, on a connection of its own; what was answered."""
    client = await Client.connect(address)
    try:
        await client.raw(
            f"POST /push/{room}?text={text} HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n"
            f"Connection: close\r\n\r\n".encode()
        )
        response = await client.response("POST")
        assert response.status == 200
        answer: dict[str, Any] = json.loads(response.body)
        return answer
    finally:
        await client.aclose()
