"""OpenTelemetry: FastAPI with its instrumentation, and the spans that it has ended."""

from __future__ import annotations

from typing import Any

import ledger
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
async def hello() -> str:
    return "hello"


@app.get("/id", response_class=PlainTextResponse)
async def identity() -> str:
    return f"id={trace.get_current_span().get_span_context().trace_id:032x};"


@app.get("/other", response_class=PlainTextResponse)
async def other() -> str:
    return "other"


@app.get("/pieces")
async def pieces() -> StreamingResponse:
    return StreamingResponse(ledger.pieces())


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.get("/spans")
async def spans() -> list[dict[str, Any]]:
    """The spans of servers that have ended since the last call."""
    found = [span for span in exporter.get_finished_spans() if span.kind is trace.SpanKind.SERVER]
    exporter.clear()
    return [{"name": span.name, "root": span.parent is None, "status": span.status.status_code.name} for span in found]


FastAPIInstrumentor.instrument_app(app)
