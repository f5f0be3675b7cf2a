"""Litestar."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import ledger
from litestar import Litestar, MediaType, Request, Response, WebSocket, get, post, route, websocket
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.exceptions import PermissionDeniedException, WebSocketDisconnect
from litestar.logging import LoggingConfig
from litestar.params import Body
from litestar.response import File, ServerSentEvent, Stream

FILE = Path(tempfile.mkdtemp()) / "megabyte"
FILE.write_bytes(ledger.MEGABYTE)


@route("/", http_method=["GET", "HEAD"], media_type=MediaType.TEXT, status_code=200)
async def hello(request: Request[Any, Any, Any]) -> str:
    return "" if request.method == "HEAD" else "hello"


@post("/upload", request_max_body_size=None)
async def upload(request: Request[Any, Any, Any]) -> dict[str, Any]:
    ledger.log_in()
    return ledger.digest(await request.body())


@post("/form")
async def form(data: Annotated[dict[str, Any], Body(media_type=RequestEncodingType.MULTI_PART)]) -> dict[str, Any]:
    file: UploadFile = data["file"]
    return {"name": data["name"], **ledger.digest(await file.read())}


@get("/pieces")
async def pieces() -> Stream:
    return Stream(ledger.pieces(), media_type="text/plain")


@get("/events")
async def events() -> ServerSentEvent:
    async def found() -> Any:
        async for _ in ledger.events():
            yield "hello"

    return ServerSentEvent(found())


@get("/blocking")
async def blocking() -> Stream:
    return Stream(ledger.blocking(), media_type="text/plain")


@get("/late")
async def late() -> Stream:
    return Stream(ledger.late(), media_type="text/plain")


@get("/file")
async def file() -> File:
    ledger.log_in()
    return File(FILE)


@get("/context", media_type=MediaType.TEXT)
async def context() -> str:
    return ledger.log_in()


@post("/background")
async def background() -> Response[str]:
    return Response("accepted", background=BackgroundTask(ledger.later))


@get("/error")
async def error() -> None:
    raise RuntimeError("raised on purpose")


@get("/counts")
async def counts() -> dict[str, Any]:
    return ledger.counts


@websocket("/ws")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept("chat" if "chat" in socket.scope["subprotocols"] else None)
    try:
        while True:
            await answer(socket, await socket.receive())
    except WebSocketDisconnect as disconnect:
        ledger.counts["close"] = disconnect.code


async def answer(socket: WebSocket[Any, Any, Any], message: Any) -> None:
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(detail="left", code=message["code"])
    text = message.get("text")
    if text is None:
        await socket.send_bytes(message["bytes"])
    elif close := ledger.close_of(text):
        await socket.close(*close)
    elif text == "block":
        await socket.send_text("before")
        time.sleep(ledger.BLOCKS)  # noqa: ASYNC251
        await socket.send_text("after")
    elif text == "raise":
        raise RuntimeError("raised on purpose")
    else:
        await socket.send_text(text)


@websocket("/refuse")
async def refuse(socket: WebSocket[Any, Any, Any]) -> None:
    raise PermissionDeniedException("not today")


@websocket("/ws-context")
async def websocket_context(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.send_text(ledger.log_in())
    await socket.close()


http = [hello, upload, form, pieces, events, blocking, late, file, context, background, error, counts]
app = Litestar(
    logging_config=LoggingConfig(log_exceptions="always"),
    route_handlers=[*http, echo, refuse, websocket_context],
    on_startup=[ledger.started],
    on_shutdown=[ledger.stopped],
)
