"""The application of the faults: an echo, and what misbehaves when it is told to.

/count says how many WebSockets are open, /pid who answers, /hang never answers, /block blocks the event loop. With
FAULT=crash and a file CRASH in the current folder the import ends the process; FAULT=stubborn: the lifespan's shutdown,
and a thread, never end.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

FAULT = os.environ.get("FAULT", "")
opened = 0

if FAULT == "crash" and os.path.exists("CRASH"):
    os._exit(7)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        await answer(scope["path"], receive, send)
    else:
        await echo(receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    if FAULT == "stubborn":
        threading.Thread(target=time.sleep, args=(3600,)).start()
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
    await send({"type": "lifespan.shutdown.complete"})


async def answer(path: str, receive: Any, send: Any) -> None:
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    if path == "/hang":
        await asyncio.sleep(3600)
    if path == "/fill":
        b"x" * (1 << 40)  # more than there is
    body = {"/count": str(opened), "/pid": str(os.getpid())}.get(path, str(size)).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(receive: Any, send: Any) -> None:
    global opened
    await receive()
    await send({"type": "websocket.accept"})
    opened += 1
    try:
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
    finally:
        opened -= 1
