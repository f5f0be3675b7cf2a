"""The ASGI applications of the benchmark, the same for every ASGI server."""

from __future__ import annotations

import os
from typing import Any

HELLO: list[dict[str, Any]] = [
    {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"text/plain"), (b"content-length", b"5")],
    },
    {"type": "http.response.body", "body": b"hello"},
]
members: list[Any] = []


async def lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Echoes text over WebSocket, says hello over HTTP."""
    if scope["type"] == "http":
        await send(HELLO[0])
        await send(HELLO[1])
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            await send({"type": "websocket.send", "text": message["text"]})
            del message  # else an idle connection's memory would count what the application holds
    else:
        await lifespan(receive, send)


async def upload(scope: Any, receive: Any, send: Any) -> None:
    """Answers a request with the length of its body."""
    if scope["type"] != "http":
        await lifespan(receive, send)
        return
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"%d" % size
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def room(scope: Any, receive: Any, send: Any) -> None:
    """What the speaker says goes to every member, in a loop."""
    if scope["type"] != "websocket":
        await lifespan(receive, send)
        return
    await receive()
    if scope["path"] == "/member":
        members.append(send)
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            return
        event = {"type": "websocket.send", "text": message["text"]}
        for member in members:
            await member(event)


if os.environ.get("BENCHMARK_APP") == "starlette":
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect:
            pass

    async def item(request: Request) -> JSONResponse:
        assert request.query_params["item"]
        return JSONResponse({"hello": "world"})

    starlette = Starlette(routes=[WebSocketRoute("/", endpoint), Route("/api", item)])
