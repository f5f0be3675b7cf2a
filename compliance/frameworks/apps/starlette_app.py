"""Starlette."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import ledger
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

FILE = Path(tempfile.mkdtemp()) / "megabyte"
FILE.write_bytes(ledger.MEGABYTE)


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def upload(request: Request) -> Response:
    ledger.log_in()
    return JSONResponse(ledger.digest(await request.body()))


async def form(request: Request) -> Response:
    async with request.form() as fields:
        content = await fields["file"].read()  # type: ignore[union-attr]
        return JSONResponse({"name": fields["name"], **ledger.digest(content)})


async def pieces(request: Request) -> Response:
    return StreamingResponse(ledger.pieces(), media_type="text/plain")


async def events(request: Request) -> Response:
    return StreamingResponse(ledger.events(), media_type="text/event-stream")


async def blocking(request: Request) -> Response:
    return StreamingResponse(ledger.blocking(), media_type="text/plain")


async def late(request: Request) -> Response:
    return StreamingResponse(ledger.late(), media_type="text/plain")


async def file(request: Request) -> Response:
    ledger.log_in()
    return FileResponse(FILE)


async def context(request: Request) -> Response:
    return PlainTextResponse(ledger.log_in())


async def background(request: Request) -> Response:
    return PlainTextResponse("accepted", background=BackgroundTask(ledger.later))


async def error(request: Request) -> Response:
    raise RuntimeError("raised on purpose")


async def counts(request: Request) -> Response:
    return JSONResponse(ledger.counts)


async def echo(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol="chat" if "chat" in websocket.scope["subprotocols"] else None)
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            text = message.get("text")
            if text is None:
                await websocket.send_bytes(message["bytes"])
            elif close := ledger.close_of(text):
                await websocket.close(*close)
                return
            elif text == "block":
                await websocket.send_text("before")
                time.sleep(ledger.BLOCKS)  # noqa: ASYNC251
                await websocket.send_text("after")
            elif text == "raise":
                raise RuntimeError("raised on purpose")
            else:
                await websocket.send_text(text)
    except WebSocketDisconnect as disconnect:
        ledger.counts["close"] = disconnect.code


async def refuse(websocket: WebSocket) -> None:
    await websocket.close(1008, "not today")


async def deny(websocket: WebSocket) -> None:
    await websocket.send_denial_response(JSONResponse({"error": "log in"}, status_code=401))


async def websocket_context(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(ledger.log_in())
    await websocket.close()


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    ledger.started()
    yield
    ledger.stopped()


app = Starlette(
    routes=[
        Route("/", hello),
        Route("/upload", upload, methods=["POST"]),
        Route("/form", form, methods=["POST"]),
        Route("/pieces", pieces),
        Route("/events", events),
        Route("/blocking", blocking),
        Route("/late", late),
        Route("/file", file),
        Route("/context", context),
        Route("/background", background, methods=["POST"]),
        Route("/error", error),
        Route("/counts", counts),
        WebSocketRoute("/ws", echo),
        WebSocketRoute("/refuse", refuse),
        WebSocketRoute("/deny", deny),
        WebSocketRoute("/ws-context", websocket_context),
    ],
    lifespan=lifespan,
)
