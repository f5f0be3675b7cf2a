"""The application of the memory check: it floods a peer, or takes nothing from it, and says how far it came.

/flood streams (HTTP) or sends (WebSocket) without end; /deaf never receives. /progress answers with the bytes that
floods have handed to `send` so far.
"""

from __future__ import annotations

import asyncio
from typing import Any

PIECE = b"x" * (64 * 1024)
sent = 0


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await http(scope["path"], send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/flood":
            await flood(send, {"type": "websocket.send", "bytes": PIECE})
        await asyncio.Event().wait()


async def http(path: str, send: Any) -> None:
    if path == "/deaf":
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if path == "/flood":
        await flood(send, {"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": str(sent).encode()})


async def flood(send: Any, event: dict[str, Any]) -> None:
    global sent
    while True:
        await send(event)
        sent += len(PIECE)
