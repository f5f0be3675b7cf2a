"""The application on the ASGI servers: echo, and by path what interop/client.py asks for."""

from __future__ import annotations

from typing import Any

last = ""


async def app(scope: Any, receive: Any, send: Any) -> None:
    global last
    if scope["type"] != "websocket":
        return
    await receive()
    path = scope["path"]
    await send({"type": "websocket.accept", "subprotocol": "interop" if scope["subprotocols"] else None})
    if path == "/close":
        await send({"type": "websocket.close", "code": 4002, "reason": "over"})
    elif path == "/last":
        await send({"type": "websocket.send", "text": last})
    else:
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        last = f"{message['code']} {message.get('reason') or ''}"
