"""The client that Autobahn's fuzzing server talks to: every message goes back as it came.

`python client.py URL AGENT [OPTION=VALUE ...]`, with options of `connect()`. It prints a line before each case, and
what went wrong when a case could not be begun.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from urllib.parse import quote

from flowserve.client.connect import connect
from flowserve.errors import ConnectionClosed, HandshakeError

PATIENCE = 600.0  # seconds a case may take: wstest itself gives up after 480


async def run(url: str, options: dict[str, Any]) -> None:
    """One case."""
    try:
        async with connect(url, **options) as ws:
            async for message in ws:
                await ws.send(message)
    except ConnectionClosed:
        pass  # how it should end is for wstest to judge


async def main(url: str, agent: str, *given: str) -> None:
    # In 6.4.3 and 6.4.4 the server's close comes inside an unfinished frame and can't be seen: the timeout ends them.
    options: dict[str, Any] = {"close_timeout": "3s", **dict(one.split("=", 1) for one in given)}
    async with connect(f"{url}/getCaseCount", **options) as ws:
        number = int(await ws.receive())
    for case in range(1, number + 1):
        print(f"case {case}", flush=True)
        try:
            await asyncio.wait_for(run(f"{url}/runCase?case={case}&agent={quote(agent)}", options), PATIENCE)
        except (HandshakeError, OSError, asyncio.TimeoutError) as error:
            print(f"the case at index {case}: {error!r}", flush=True)
    try:
        # It answers when the pages are written, and may leave without a close frame.
        options["open_timeout"] = PATIENCE
        async with connect(f"{url}/updateReports?agent={quote(agent)}&shutdownOnComplete=true", **options) as ws:
            await ws.wait_closed()
    except (ConnectionClosed, HandshakeError, OSError):
        pass


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        pass
    else:
        uvloop.install()
    asyncio.run(main(*sys.argv[1:]))
