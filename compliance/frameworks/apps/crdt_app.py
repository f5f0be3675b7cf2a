"""pycrdt-websocket: rooms of shared documents, for Yjs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from logging import Logger

from pycrdt.websocket import ASGIServer, WebsocketServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route


def is_disconnect(exception: Exception, log: Logger) -> bool:
    """Whether the exception is dealt with: a client that left must not end the room."""
    while found := getattr(exception, "exceptions", ()):  # of an ExceptionGroup
        exception = found[0]
    return isinstance(exception, OSError)


rooms = WebsocketServer(auto_clean_rooms=False, exception_handler=is_disconnect)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with rooms:
        yield


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


app = Starlette(routes=[Route("/", hello), Mount("/rooms", ASGIServer(rooms))], lifespan=lifespan)
