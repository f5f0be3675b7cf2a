"""Applications that are deployed in these tests: gunicorn deployed:app"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any


def _facts(scope: Any) -> str:
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    facts = {"pid": os.getpid(), "client": scope["client"], "scheme": scope["scheme"], "headers": headers}
    return json.dumps(facts)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """HTTP: what it knows of the request, as JSON; on /echo the body. WebSocket: that first, then an echo; 'hang'
    blocks the process."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": _facts(scope)})
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("text") == "hang":
                time.sleep(100)  # noqa: ASYNC251
            await send({**message, "type": "websocket.send"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/echo":
            await echo_body(receive, send)
        else:
            await send({"type": "http.response.body", "body": _facts(scope).encode()})


async def lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("lifespan shutdown", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def echo_body(receive: Any, send: Any) -> None:
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def failing(scope: Any, receive: Any, send: Any) -> None:
    """Can't start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is away"})


async def never_ready(scope: Any, receive: Any, send: Any) -> None:
    """Starts for ever."""
    await receive()
    print("starting", flush=True)
    await asyncio.Event().wait()


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    """An application of the other kind."""
    start_response("200 OK", [])
    return [b"hello"]
