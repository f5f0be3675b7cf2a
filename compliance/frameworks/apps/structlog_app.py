"""structlog's context variables, bound by a pure ASGI middleware over Starlette."""

from __future__ import annotations

import uuid
from typing import Any

import structlog
from records import Records
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from structlog.contextvars import bind_contextvars, get_contextvars

logger = structlog.get_logger()
records = Records(lambda: get_contextvars().get("request_id"))


class Bind:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            given = dict(scope["headers"]).get(b"x-request-id", uuid.uuid4().hex.encode())
            bind_contextvars(request_id=given.decode(), **{f"seen_{scope['path'].strip('/')}": 1})
        await self.app(scope, receive, send)


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def identity(request: Request) -> Response:
    bound = get_contextvars()
    logger.info("asked", path=request.url.path)
    return PlainTextResponse(f"id={bound['request_id']};" if len(bound) == 2 else f"id=others {sorted(bound)};")


async def other(request: Request) -> Response:
    return PlainTextResponse("other")


async def error(request: Request) -> Response:
    raise RuntimeError("raised on purpose")


async def websocket_error(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(get_contextvars()["request_id"])
    raise RuntimeError("raised on purpose")


async def seen(request: Request) -> Response:
    return JSONResponse(records.seen)


app = Bind(
    Starlette(
        routes=[
            Route("/", hello),
            Route("/id", identity),
            Route("/other", other),
            Route("/error", error),
            Route("/records", seen),
            WebSocketRoute("/ws-error", websocket_error),
        ]
    )
)
