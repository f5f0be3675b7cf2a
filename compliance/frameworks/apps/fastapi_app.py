"""FastAPI: the routes of Starlette's application, and what FastAPI adds."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import ledger
from fastapi import BackgroundTasks, Body, Depends, FastAPI, Form, Request, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

FILE = Path(tempfile.mkdtemp()) / "megabyte"
FILE.write_bytes(ledger.MEGABYTE)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    ledger.started()
    yield
    ledger.stopped()


app = FastAPI(lifespan=lifespan)


def database() -> Iterator[str]:
    """A dependency that is torn down after the response."""
    ledger.counts["database"] = ledger.counts.get("database", 0) + 1
    try:
        yield "connection"
    finally:
        ledger.counts["database"] -= 1


Database = Annotated[str, Depends(database)]


@app.get("/", response_class=PlainTextResponse)
def hello(database: Database) -> str:
    return "hello"


@app.head("/", response_class=PlainTextResponse)
def head() -> str:
    return ""


@app.post("/upload")
async def upload(request: Request) -> dict[str, Any]:
    ledger.log_in()
    return ledger.digest(b"".join([piece async for piece in request.stream()]))


@app.post("/form")
async def form(name: Annotated[str, Form()], file: UploadFile) -> dict[str, Any]:
    return {"name": name, **ledger.digest(await file.read())}


@app.post("/validated")
async def validated(amount: Annotated[int, Body(embed=True)]) -> int:
    return amount


@app.get("/pieces")
def pieces() -> StreamingResponse:
    return StreamingResponse(ledger.pieces_sync(), media_type="text/plain")


@app.get("/events")
async def events(database: Database) -> StreamingResponse:
    return StreamingResponse(ledger.events(), media_type="text/event-stream")


@app.get("/blocking")
async def blocking() -> StreamingResponse:
    return StreamingResponse(ledger.blocking(), media_type="text/plain")


@app.get("/late")
async def late() -> StreamingResponse:
    return StreamingResponse(ledger.late(), media_type="text/plain")


@app.get("/file")
async def file() -> FileResponse:
    ledger.log_in()
    return FileResponse(FILE)


@app.get("/context", response_class=PlainTextResponse)
async def context() -> str:
    return ledger.log_in()


@app.post("/background")
async def background(tasks: BackgroundTasks) -> str:
    tasks.add_task(ledger.later)
    return "accepted"


@app.get("/error")
async def error() -> None:
    raise RuntimeError("raised on purpose")


@app.get("/counts")
async def counts() -> dict[str, Any]:
    return ledger.counts


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept("chat" if "chat" in websocket.scope["subprotocols"] else None)
    try:
        while True:
            await answer(websocket, await websocket.receive())
    except WebSocketDisconnect as disconnect:
        ledger.counts["close"] = disconnect.code


async def answer(websocket: WebSocket, message: Any) -> None:
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    text = message.get("text")
    if text is None:
        await websocket.send_bytes(message["bytes"])
    elif close := ledger.close_of(text):
        await websocket.close(*close)
    elif text == "block":
        await websocket.send_text("before")
        time.sleep(ledger.BLOCKS)  # noqa: ASYNC251
        await websocket.send_text("after")
    elif text == "raise":
        raise RuntimeError("raised on purpose")
    else:
        await websocket.send_text(text)


@app.websocket("/refuse")
async def refuse(websocket: WebSocket) -> None:
    await websocket.close(1008, "not today")


@app.websocket("/items/{item}")
async def item(websocket: WebSocket, item: int) -> None:
    await websocket.accept()
    await websocket.send_json(item)


@app.websocket("/ws-context")
async def websocket_context(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(ledger.log_in())
    await websocket.close()
