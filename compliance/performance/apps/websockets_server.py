"""The websockets library's server, on uvloop. `python websockets_server.py echo|room PORT SIZE [CERTFILE KEYFILE]`"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from typing import Any

import uvloop
from websockets.asyncio.server import serve

members: list[Any] = []


async def echo(connection: Any) -> None:
    async for message in connection:
        await connection.send(message)
        del message  # as in applications.py


async def room(connection: Any) -> None:
    if connection.request.path == "/member":
        members.append(connection)
        await connection.wait_closed()
    async for message in connection:
        for member in members:
            await member.send(message)


async def main(mode: str, port: int, tls: list[str]) -> None:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    handler = echo if mode == "echo" else room
    deflate = "deflate" if os.environ.get("BENCHMARK_DEFLATE") else None
    options: dict[str, Any] = {"compression": deflate, "max_size": 2**24, "backlog": 2048}
    async with serve(handler, "127.0.0.1", port, ssl=context, **options) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[4:]))
