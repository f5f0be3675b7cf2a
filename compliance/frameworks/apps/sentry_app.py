"""Sentry: FastAPI with its integration, and the events that it would have sent."""

from __future__ import annotations

import asyncio
from typing import Any

import ledger
import sentry_sdk
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

events: list[dict[str, Any]] = []


class Collector(Transport):
    def capture_envelope(self, envelope: Envelope) -> None:
        if event := envelope.get_event():
            events.append(event)


sentry_sdk.init(dsn="http://key@127.0.0.1/1", transport=Collector, traces_sample_rate=1.0)
app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
async def hello() -> str:
    return "hello"


@app.get("/error/{name}")
async def error(name: str) -> None:
    sentry_sdk.set_tag("name", name)
    await asyncio.sleep(0.01)
    raise RuntimeError(name)


@app.get("/tagged/{name}")
async def tagged(name: str) -> str:
    sentry_sdk.set_tag("name", name)
    return name


@app.get("/tags/{name}")
async def tags(name: str) -> None:
    raise RuntimeError(name)


@app.websocket("/ws-error/{name}")
async def websocket_error(websocket: WebSocket, name: str) -> None:
    sentry_sdk.set_tag("name", name)
    await websocket.accept()
    raise RuntimeError(name)


@app.websocket("/ws")
async def endless(websocket: WebSocket) -> None:
    """Sends until its client has left, and lets the disconnect go up."""
    await websocket.accept()
    while True:
        await websocket.send_text("tick")
        await asyncio.sleep(0.01)


@app.get("/events")
async def stream() -> StreamingResponse:
    return StreamingResponse(ledger.events(), media_type="text/event-stream")


@app.get("/download")
async def download() -> StreamingResponse:
    async def found() -> Any:
        for _ in range(200):
            yield b"x" * 65536

    return StreamingResponse(found())


@app.get("/reported")
async def reported() -> list[dict[str, Any]]:
    """What came to Sentry since the last call: value, tag and URL of each exception."""
    found = [
        {
            "value": str(told["value"] or told["type"]),
            "tag": event.get("tags", {}).get("name"),
            "url": event.get("request", {}).get("url"),
        }
        for event in events
        for told in event["exception"]["values"][-1:]
    ]
    events.clear()
    return found
