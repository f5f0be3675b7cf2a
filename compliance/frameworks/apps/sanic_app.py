"""Sanic, in its ASGI mode."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import ledger
from sanic import Request, Sanic, Websocket
from sanic.exceptions import Forbidden
from sanic.response import HTTPResponse, json, text

app = Sanic("frameworks")
app.config.REQUEST_MAX_SIZE = 64 * 2**20
app.config.RESPONSE_TIMEOUT = 3600


@app.before_server_start
async def startup(app: Any) -> None:
    ledger.started()


@app.after_server_stop
async def shutdown(app: Any) -> None:
    ledger.stopped()


async def stream(request: Request, pieces: AsyncIterator[bytes], kind: str = "text/plain") -> None:
    response = await request.respond(content_type=kind)
    async for piece in pieces:
        await response.send(piece)
    await response.eof()


@app.route("/", methods=["GET", "HEAD"])
async def hello(request: Request) -> HTTPResponse:
    return text("hello")


@app.post("/upload")
async def upload(request: Request) -> HTTPResponse:
    ledger.log_in()
    return json(ledger.digest(request.body))


@app.post("/form")
async def form(request: Request) -> HTTPResponse:
    return json({"name": request.form.get("name"), **ledger.digest(request.files.get("file").body)})


@app.get("/pieces")
async def pieces(request: Request) -> None:
    await stream(request, ledger.pieces())


@app.get("/events")
async def events(request: Request) -> None:
    await stream(request, ledger.events(), "text/event-stream")


@app.get("/blocking")
async def blocking(request: Request) -> None:
    await stream(request, ledger.blocking())


@app.get("/late")
async def late(request: Request) -> None:
    await stream(request, ledger.late())


@app.get("/context")
async def context(request: Request) -> HTTPResponse:
    return text(ledger.log_in())


@app.post("/background")
async def background(request: Request) -> HTTPResponse:
    app.add_task(ledger.later())
    return text("accepted")


@app.get("/error")
async def error(request: Request) -> HTTPResponse:
    raise RuntimeError("raised on purpose")


@app.get("/counts")
async def counts(request: Request) -> HTTPResponse:
    return json(ledger.counts)


@app.websocket("/ws", subprotocols=["chat"])
async def echo(request: Request, ws: Websocket) -> None:
    while True:
        message = await ws.recv()
        if message == "block":
            await ws.send("before")
            time.sleep(ledger.BLOCKS)  # noqa: ASYNC251
            await ws.send("after")
        elif message == "raise":
            raise RuntimeError("raised on purpose")
        elif isinstance(message, str) and (close := ledger.close_of(message)):
            await ws.close(*close)
            return
        else:
            await ws.send(message)


@app.websocket("/ws-context")
async def websocket_context(request: Request, ws: Websocket) -> None:
    await ws.send(ledger.log_in())


@app.websocket("/refuse")
async def refuse(request: Request, ws: Websocket) -> None:
    raise Forbidden("not today")
