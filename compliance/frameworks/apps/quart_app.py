"""Quart."""

from __future__ import annotations

import time
from typing import Any

import ledger
from quart import Quart, Response, abort, jsonify, request, websocket

app = Quart(__name__)
app.config["MAX_CONTENT_LENGTH"] = 64 * 2**20
app.config["RESPONSE_TIMEOUT"] = None


@app.before_serving
async def startup() -> None:
    ledger.started()


@app.after_serving
async def shutdown() -> None:
    ledger.stopped()


def text(body: Any, kind: str = "text/plain") -> Response:
    return Response(body, content_type=kind)


@app.get("/")
async def hello() -> Response:
    return text("hello")


@app.post("/upload")
async def upload() -> Response:
    ledger.log_in()
    return jsonify(ledger.digest(await request.get_data()))


@app.post("/form")
async def form() -> Response:
    files, fields = await request.files, await request.form
    return jsonify({"name": fields["name"], **ledger.digest(files["file"].read())})


@app.get("/pieces")
async def pieces() -> Response:
    return text(ledger.pieces())


@app.get("/events")
async def events() -> Response:
    return text(ledger.events(), "text/event-stream")


@app.get("/blocking")
async def blocking() -> Response:
    return text(ledger.blocking())


@app.get("/late")
async def late() -> Response:
    return text(ledger.late())


@app.get("/context")
async def context() -> Response:
    return text(ledger.log_in())


@app.post("/background")
async def background() -> Response:
    app.add_background_task(ledger.later)
    return text("accepted")


@app.get("/error")
async def error() -> Response:
    raise RuntimeError("raised on purpose")


@app.get("/counts")
async def counts() -> Response:
    return jsonify(ledger.counts)


@app.websocket("/ws")
async def echo() -> None:
    await websocket.accept(subprotocol="chat" if "chat" in websocket.requested_subprotocols else None)
    while True:
        message = await websocket.receive()
        if isinstance(message, bytes):
            await websocket.send(message)
        elif close := ledger.close_of(message):
            await websocket.close(*close)
            return
        elif message == "block":
            await websocket.send("before")
            time.sleep(ledger.BLOCKS)  # noqa: ASYNC251
            await websocket.send("after")
        elif message == "raise":
            raise RuntimeError("raised on purpose")
        else:
            await websocket.send(message)


@app.websocket("/refuse")
async def refuse() -> None:
    abort(403)


@app.websocket("/ws-context")
async def websocket_context() -> None:
    await websocket.accept()
    await websocket.send(ledger.log_in())
