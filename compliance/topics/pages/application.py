"""The application: the pages, and their WebSockets, which clients subscribe by themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from flowserve import topics

HERE = Path(__file__).parent
CLIENT = HERE.parents[2] / "examples" / "topics" / "client.js"


async def endpoint(websocket: WebSocket) -> None:
    """Tell which worker a page is connected to, and let it do what it likes."""
    await websocket.accept(subprotocol=topics.SUBPROTOCOL)
    page = websocket.query_params.get("page")
    if page:
        # as a stream, whose history is its own, so that the driver misses none
        await topics.stream("workers").write(json.dumps({"page": page, "worker": os.getpid()}))
    await topics.serve(websocket, allow=lambda topic, action: True, publish_rate=None)


def file(name: str, path: Path) -> Route:
    async def get(request: object) -> FileResponse:
        return FileResponse(path)

    return Route(name, get)


app = Starlette(
    routes=[
        WebSocketRoute("/topics", endpoint),
        file("/pages", HERE / "pages.html"),
        file("/page", HERE / "page.html"),
        file("/page.mjs", HERE / "page.mjs"),
        file("/client.mjs", CLIENT),
    ]
)
