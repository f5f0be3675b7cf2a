"""prometheus-client: a middleware that counts, and its own ASGI application at /metrics."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_asgi_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

registry = CollectorRegistry()
requests = Counter("app_requests", "Requests", ["path", "status"], registry=registry)
seconds = Histogram("app_seconds", "Seconds until the end of the response", ["path"], registry=registry)
busy = Gauge("app_busy", "Calls in progress", ["type"], registry=registry)


class Measure:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counting(message: Any) -> None:
            if message["type"] == "http.response.start":
                requests.labels(scope["path"], message["status"]).inc()
            await send(message)

        with busy.labels(scope["type"]).track_inprogress(), seconds.labels(scope["path"]).time():
            await self.app(scope, receive, counting)


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


routes = [Route("/", hello), WebSocketRoute("/ws", echo), Mount("/metrics", make_asgi_app(registry))]
app = Measure(Starlette(routes=routes))
