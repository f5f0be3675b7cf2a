"""BlackSheep."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterable, Callable
from pathlib import Path
from typing import Any

import ledger
from blacksheep import Application, Content, Request, Response, StreamedContent, WebSocket, WebSocketDisconnectError
from blacksheep.server.responses import file as file_response
from blacksheep.server.responses import json, text

FILE = Path(tempfile.mkdtemp()) / "megabyte"
FILE.write_bytes(ledger.MEGABYTE)

app = Application()
routes = app.router


@app.on_start
async def startup(_: Application) -> None:
    ledger.started()


@app.on_stop
async def shutdown(_: Application) -> None:
    ledger.stopped()


def stream(pieces: Callable[[], AsyncIterable[bytes]], kind: bytes = b"text/plain") -> Response:
    return Response(200, content=StreamedContent(kind, pieces))


@routes.get("/")
async def hello() -> Response:
    return text("hello")


@routes.head("/")
async def head() -> Response:
    return Response(200, content=Content(b"text/plain", b""))


@routes.post("/upload")
async def upload(request: Request) -> Response:
    ledger.log_in()
    return json(ledger.digest(await request.read() or b""))


@routes.post("/form")
async def form(request: Request) -> Response:
    name, content = "", b""
    for part in await request.multipart() or []:
        if part.name == b"file":
            content = part.data
        else:
            name = part.data.decode()
    return json({"name": name, **ledger.digest(content)})


@routes.get("/pieces")
async def pieces() -> Response:
    return stream(ledger.pieces)


@routes.get("/events")
async def events() -> Response:
    return stream(ledger.events, b"text/event-stream")


@routes.get("/blocking")
async def blocking() -> Response:
    return stream(ledger.blocking)


@routes.get("/late")
async def late() -> Response:
    return stream(ledger.late)


@routes.get("/file")
async def file() -> Response:
    ledger.log_in()
    return file_response(str(FILE), "application/octet-stream")


@routes.get("/context")
async def context() -> Response:
    return text(ledger.log_in())


@routes.get("/error")
async def error() -> Response:
    raise RuntimeError("raised on purpose")


@routes.get("/counts")
async def counts() -> Response:
    return json(ledger.counts)


@routes.ws("/ws")
async def echo(websocket: WebSocket) -> None:
    offered = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol="chat" if "chat" in offered else None)
    try:
        while await answer(websocket, await websocket.receive()):
            pass
    except WebSocketDisconnectError as disconnect:
        ledger.counts["close"] = disconnect.code


async def answer(websocket: WebSocket, message: Any) -> bool:
    """Whether to go on."""
    text = message.get("text")
    if text is None:
        await websocket.send_bytes(message["bytes"])
    elif close := ledger.close_of(text):
        await websocket.close(*close)
        return False
    elif text == "block":
        await websocket.send_text("before")
        time.sleep(ledger.BLOCKS)  # noqa: ASYNC251
        await websocket.send_text("after")
    elif text == "raise":
        raise RuntimeError("raised on purpose")
    else:
        await websocket.send_text(text)
    return True


@routes.ws("/refuse")
async def refuse(websocket: WebSocket) -> None:
    await websocket.close(1008)


@routes.ws("/ws-context")
async def websocket_context(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(ledger.log_in())
