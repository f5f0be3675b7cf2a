"""Server-sent events: sse-starlette's, and FastAPI's own."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

import ledger
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse as FastAPIEvents
from sse_starlette import EventSourceResponse

app = FastAPI()


async def hello() -> AsyncIterator[str]:
    async for _ in ledger.events():
        yield "hello"


@app.get("/", response_class=PlainTextResponse)
async def index() -> str:
    return "hello"


@app.get("/events")
async def events() -> EventSourceResponse:
    return EventSourceResponse(hello())


@app.get("/fastapi-events", response_class=FastAPIEvents)
async def fastapi_events() -> AsyncIterable[str]:
    async for word in hello():
        yield word


@app.get("/counts")
async def counts() -> dict[str, object]:
    return ledger.counts
