"""FastMCP: tools over streamable HTTP and over SSE."""

from __future__ import annotations

import asyncio

from fastmcp import Context, FastMCP
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

mcp: FastMCP[None] = FastMCP("compliance")
running: list[str] = []


@mcp.tool
def add(a: int, b: int) -> int:
    return a + b


@mcp.tool
async def count(to: int, context: Context) -> int:
    """Tells its progress, and answers after that."""
    for number in range(to):
        await context.report_progress(number + 1, to)
        await asyncio.sleep(0.05)
    return to


@mcp.tool
async def wait() -> str:
    running.append("wait")
    try:
        await asyncio.sleep(60)
    finally:
        running.remove("wait")
    return "done"


@mcp.resource("text://big")
def big() -> str:
    return "x" * 1_000_000


@mcp.custom_route("/", methods=["GET"])
async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


@mcp.custom_route("/running", methods=["GET"])
async def calls(request: Request) -> Response:
    return JSONResponse(running)


streamable = mcp.http_app(path="/mcp")
sse = mcp.http_app(path="/mcp", transport="sse")
