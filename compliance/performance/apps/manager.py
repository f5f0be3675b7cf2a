"""A room as tutorials of Starlette and FastAPI make it: an object with the list of its WebSockets."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


class ConnectionManager:
    def __init__(self) -> None:
        self.connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        self.connections.append(websocket)
        await websocket.accept()

    def disconnect(self, websocket: WebSocket) -> None:
        self.connections.remove(websocket)

    async def broadcast(self, text: str) -> None:
        for connection in self.connections:
            await connection.send_text(text)


manager = ConnectionManager()


async def member(websocket: WebSocket) -> None:
    await manager.connect(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        manager.disconnect(websocket)


async def speaker(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await manager.broadcast(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


app = Starlette(routes=[WebSocketRoute("/member", member), WebSocketRoute("/speaker", speaker)])
