"""Starlette behind two BaseHTTPMiddleware, as most applications have them."""

from __future__ import annotations

from typing import Any

from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette_app import app


async def pass_on(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    response.headers["x-passed"] = "yes"
    return response


app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
