"""flowserve's client. `python library.py URL CORPUS IN_FLIGHT CONTEXT PINGS CA`; the report is printed as JSON.

CONTEXT is that of compression, PINGS is 1 for a server that sends a ping to who asks for /ping, CA a file for wss://.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from client import Talk, converse, messages  # beside this file

from flowserve.client.connect import connect
from flowserve.errors import ConnectionClosed

MIB = 1024 * 1024
PATIENCE = 20.0  # seconds for one of the checks
Connect = Callable[..., Any]


async def large(open_at: Connect) -> None:
    text = "größe " * (MIB // 8)
    async with open_at("/") as ws:
        for message in (text, text.encode()):
            await ws.send(message)
            assert await ws.receive() == message


async def subprotocol(open_at: Connect) -> None:
    async with open_at("/", subprotocols=["other", "interop"]) as ws:
        assert ws.subprotocol == "interop", ws.subprotocol


async def ping(open_at: Connect) -> None:
    async with open_at("/") as ws:
        assert 0 < await ws.ping() < PATIENCE


async def their_ping(open_at: Connect) -> None:
    async with open_at("/ping") as ws:
        got = await ws.receive()
        assert got == "pong server", got


async def their_close(open_at: Connect) -> None:
    async with open_at("/close") as ws:
        with suppress(ConnectionClosed):
            await ws.receive()
        assert (ws.close_code, ws.close_reason) == (4002, "over"), (ws.close_code, ws.close_reason)


async def our_close(open_at: Connect) -> None:
    ws = await open_at("/")
    await ws.close(4001, "bye")
    assert ws.close_code in (4001, 1000), ws.close_code  # aiohttp answers with 1000, whatever the code
    heard = ""
    while not heard.startswith("4001 "):  # its application may hear of it a moment later
        async with open_at("/last") as ws:
            heard = await ws.receive()


CHECKS: dict[str, Callable[[Connect], Awaitable[None]]] = {
    "1 MiB": large,
    "subprotocol": subprotocol,
    "ping": ping,
    "ping back": their_ping,
    "close": our_close,
    "close back": their_close,
}


async def outcome(check: Callable[[Connect], Awaitable[None]], open_at: Connect) -> str:
    """'ok' or what went wrong."""
    try:
        await asyncio.wait_for(check(open_at), PATIENCE)
    except Exception as error:
        return repr(error)
    return "ok"


async def main(url: str, path: str, in_flight: str, context: str, pings: str, ca: str) -> None:
    options: dict[str, Any] = {"deflate_context": context, "deflate_threshold": 0}
    if ca:
        options.update(ca_file=ca, server_hostname="localhost")

    def open_at(where: str, **more: Any) -> Any:
        return connect(url + where, **options, **more)

    async with open_at("/") as ws:
        talk = Talk(ws.response.headers.get("Sec-WebSocket-Extensions", ""), ws.send, ws.receive)
        report = await converse(talk, messages(path), int(in_flight))
    for name, check in CHECKS.items():
        report[name] = await outcome(check, open_at) if pings == "1" or check is not their_ping else "-"
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
