"""Falcon."""

from __future__ import annotations

import time
from typing import Any

import falcon
import falcon.asgi
import ledger
from falcon.asgi import Request, Response, SSEvent, WebSocket


class Middleware:
    async def process_startup(self, scope: Any, event: Any) -> None:
        ledger.started()

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        ledger.stopped()


async def emitter() -> Any:
    async for _ in ledger.events():
        yield SSEvent(text="hello")


class Routes:
    """One resource, a method for each route by its suffix."""

    async def on_get(self, request: Request, response: Response) -> None:
        response.content_type, response.text = falcon.MEDIA_TEXT, "hello"

    on_head = on_get

    async def on_post_upload(self, request: Request, response: Response) -> None:
        ledger.log_in()
        response.media = ledger.digest(await request.stream.read())

    async def on_post_form(self, request: Request, response: Response) -> None:
        found: dict[str, Any] = {}
        async for part in await request.get_media():
            if part.name == "file":
                found |= ledger.digest(await part.stream.read())
            else:
                found[part.name] = await part.text
        response.media = found

    async def on_get_pieces(self, request: Request, response: Response) -> None:
        response.stream = ledger.pieces()

    async def on_get_events(self, request: Request, response: Response) -> None:
        response.sse = emitter()

    async def on_get_blocking(self, request: Request, response: Response) -> None:
        response.stream = ledger.blocking()

    async def on_get_late(self, request: Request, response: Response) -> None:
        response.stream = ledger.late()

    async def on_get_context(self, request: Request, response: Response) -> None:
        response.text = ledger.log_in()

    async def on_post_background(self, request: Request, response: Response) -> None:
        response.schedule(ledger.later)
        response.text = "accepted"

    async def on_get_error(self, request: Request, response: Response) -> None:
        raise RuntimeError("raised on purpose")

    async def on_get_counts(self, request: Request, response: Response) -> None:
        response.media = ledger.counts

    async def on_websocket_echo(self, request: Request, websocket: WebSocket) -> None:
        await websocket.accept("chat" if "chat" in websocket.subprotocols else None)
        try:
            while True:
                await answer(websocket, await receive(websocket))
        except falcon.WebSocketDisconnected as disconnect:
            ledger.counts["close"] = disconnect.code

    async def on_websocket_refuse(self, request: Request, websocket: WebSocket) -> None:
        raise falcon.HTTPForbidden

    async def on_websocket_context(self, request: Request, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(ledger.log_in())


async def receive(websocket: WebSocket) -> str | bytes:
    """The next message, of either kind: Falcon's face has a method for each, and names the other in its error."""
    event = await websocket._receive()
    text = event.get("text")
    found: str | bytes = event["bytes"] if text is None else text
    return found


async def answer(websocket: WebSocket, message: str | bytes) -> None:
    if isinstance(message, bytes):
        await websocket.send_data(message)
    elif close := ledger.close_of(message):
        await websocket.close(*close)
    elif message == "block":
        await websocket.send_text("before")
        time.sleep(ledger.BLOCKS)  # noqa: ASYNC251
        await websocket.send_text("after")
    elif message == "raise":
        raise RuntimeError("raised on purpose")
    else:
        await websocket.send_text(message)


app = falcon.asgi.App(middleware=[Middleware()])
routes = Routes()
app.add_route("/", routes)
for name in ("upload", "form", "pieces", "events", "blocking", "late", "context", "background", "error", "counts"):
    app.add_route(f"/{name}", routes, suffix=name)
app.add_route("/ws", routes, suffix="echo")
app.add_route("/refuse", routes, suffix="refuse")
app.add_route("/ws-context", routes, suffix="context")
