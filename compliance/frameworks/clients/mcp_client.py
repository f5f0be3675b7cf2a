"""The client of the MCP SDK, over the transport that the server offers."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from typing import Any

from mcp.client import Client
from mcp.client.sse import sse_client
from report import check

PORT = sys.argv[1]
URL = f"http://127.0.0.1:{PORT}/mcp"


def offers_sse() -> bool:
    with urllib.request.urlopen(urllib.request.Request(URL, headers={"Accept": "text/event-stream"})) as response:
        return b"endpoint" in response.readline()


def client(sse: bool, **options: Any) -> Client:
    return Client(sse_client(URL) if sse else URL, **options)


def text(result: Any) -> str:
    return str(result.content[0].text)


def running() -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/running") as response:
        found: list[str] = json.load(response)
        return found


async def progress(sse: bool) -> None:
    came: list[float] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        came.append(time.monotonic())

    async with client(sse) as session:
        result = await session.call_tool("count", {"to": 10}, progress_callback=note)
        ended = time.monotonic()
        assert text(result) == "10", result
        assert len(came) == 10, f"{len(came)} of 10 notifications"
        assert ended - came[0] > 0.3, f"all notifications came together, {ended - came[0]:.2f} s before the result"


async def main() -> None:
    try:
        sse = offers_sse()
    except OSError:
        sse = False
    name = "sse" if sse else "streamable HTTP"
    async with check(f"mcp over {name}: tools"), client(sse) as session:
        names = sorted(tool.name for tool in (await session.list_tools()).tools)
        assert names == ["add", "count", "wait"], names
        for number in range(20):
            assert text(await session.call_tool("add", {"a": number, "b": 1})) == str(number + 1)
    async with check(f"mcp over {name}: calls side by side"), client(sse) as session:
        results = await asyncio.gather(*(session.call_tool("add", {"a": n, "b": n}) for n in range(20)))
        assert [text(result) for result in results] == [str(2 * n) for n in range(20)]
    async with check(f"mcp over {name}: progress comes while the tool runs"):
        await progress(sse)
    async with check(f"mcp over {name}: a large resource"), client(sse) as session:
        contents = (await session.read_resource("text://big")).contents
        assert len(contents[0].text) == 1_000_000
    async with check(f"mcp over {name}: ten clients"):

        async def one(number: int) -> None:
            async with client(sse) as session:
                assert text(await session.call_tool("add", {"a": number, "b": 1})) == str(number + 1)

        await asyncio.gather(*map(one, range(10)))


asyncio.run(main())
