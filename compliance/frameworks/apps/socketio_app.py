"""python-socketio beside FastAPI: echo, rooms, a broadcast, acknowledgements."""

from __future__ import annotations

from typing import Any

import socketio
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*", ping_interval=1, ping_timeout=1)
api = FastAPI()
gone: list[str] = []


@api.get("/", response_class=PlainTextResponse)
async def hello() -> str:
    return "hello"


@api.get("/gone")
async def left() -> list[str]:
    return gone


@server.event
async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
    if auth == {"token": "wrong"}:
        raise socketio.exceptions.ConnectionRefusedError("wrong token")


@server.event
async def disconnect(sid: str, reason: str) -> None:
    gone.append(reason)


@server.event
async def echo(sid: str, data: Any) -> Any:
    """The return value is the acknowledgement."""
    return data


@server.event
async def enter(sid: str, room: str) -> str:
    await server.enter_room(sid, room)
    return room


@server.event
async def say(sid: str, room: str, word: str) -> None:
    await server.emit("said", word, room=room)


app = socketio.ASGIApp(server, api)
