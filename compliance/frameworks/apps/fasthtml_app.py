"""FastHTML: pages, a form, server-sent events, and a WebSocket that sends fragments of HTML."""

from typing import Any

import ledger
from fasthtml.common import Div, EventStream, Form, Input, P, UploadFile, fast_app, sse_message
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

app, rt = fast_app(exts="ws", live=False, secret_key="not a secret", on_startup=[ledger.started])


@rt("/")
def get() -> Response:
    return PlainTextResponse("hello")


@rt("/page")
def page() -> Any:
    return Div(P("Hello"), Form(Input(name="msg"), ws_send=True), hx_ext="ws", ws_connect="/ws")


@rt("/upload", methods=["POST"])
async def upload(request: Request) -> Response:
    ledger.log_in()
    return JSONResponse(ledger.digest(await request.body()))


@rt("/form", methods=["POST"])
async def form(name: str, file: UploadFile) -> Response:
    return JSONResponse({"name": name, **ledger.digest(await file.read())})


async def messages() -> Any:
    async for _ in ledger.events():
        yield sse_message(P("hello"))


@rt("/events")
async def events() -> Any:
    return EventStream(messages())


@rt("/error")
def error() -> Response:
    raise RuntimeError("raised on purpose")


@rt("/counts")
def counts() -> Response:
    return JSONResponse(ledger.counts)


@app.ws("/ws")
async def shout(msg: str, send) -> Any:  # type: ignore[no-untyped-def]  # FastHTML knows `send` by its name, as long as it has no annotation
    await send(Div("Got it", id="status"))
    return Div(P(msg.upper()), id="messages")
