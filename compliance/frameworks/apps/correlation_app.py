"""asgi-correlation-id over FastAPI."""

from __future__ import annotations

from asgi_correlation_id import CorrelationIdMiddleware
from asgi_correlation_id.context import correlation_id
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from records import Records

app = FastAPI()
app.add_middleware(CorrelationIdMiddleware, validator=None)
records = Records(correlation_id.get)


@app.get("/", response_class=PlainTextResponse)
async def index() -> str:
    return "hello"


@app.get("/id", response_class=PlainTextResponse)
async def identity() -> str:
    return f"id={correlation_id.get()};"


@app.get("/error")
async def error() -> None:
    raise RuntimeError("raised on purpose")


@app.websocket("/ws-error")
async def websocket_error(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(str(correlation_id.get()))
    raise RuntimeError("raised on purpose")


@app.get("/records")
async def seen() -> list[tuple[str, object]]:
    return records.seen
