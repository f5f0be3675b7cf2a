"""The application under every pattern: by path it reads or does not, echoes, answers at once or sends without end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from compliance.costs.turns import Turns

PIECE = bytes(65536)
turns: Turns | None = None


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        await http(scope["path"], receive, send)
    else:
        await websocket(scope["path"], receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    global turns
    await receive()
    turns = Turns(asyncio.get_running_loop())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    turns.close()
    await send({"type": "lifespan.shutdown.complete"})


async def http(path: str, receive: Any, send: Any) -> None:
    body = b"ok"
    if path == "/turns" and turns is not None:
        body = json.dumps(turns.take()).encode()
    elif path == "/read":
        while (await receive()).get("more_body", False):
            pass
    elif path == "/deaf":
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while path == "/flood":
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": body})


async def websocket(path: str, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while path == "/flood":
        await send({"type": "websocket.send", "bytes": PIECE})
    if path == "/deaf":
        await asyncio.Event().wait()
    while (message := await receive())["type"] == "websocket.receive":
        if path == "/echo":
            await send({**message, "type": "websocket.send"})
