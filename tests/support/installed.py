"""Whether what is installed works, and at which speed: run without tests beside it, by any Python that has flowserve.

    python -I tests/support/installed.py [compiled | pure]

One message goes there and back through flowserve's server and client, with the application's close code behind it.
Exits with 1 if not all modules are of that speed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from flowserve import Config, Server, connect
from flowserve.compiled import hot_modules, is_compiled


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    await send({"type": "websocket.send", "text": message["text"].upper()})
    await send({"type": "websocket.close", "code": 4000})


async def exchange() -> tuple[Any, int | None]:
    server = Server(Config(app, port=0, lifespan="off", log_level="warning"))
    await server.startup()
    host, port = server.sockets[0].getsockname()[:2]
    async with connect(f"ws://{host}:{port}", proxy=None) as ws:
        await ws.send("hello")
        answer = await ws.receive()
        await ws.wait_closed()
    await server.shutdown()
    return answer, ws.close_code


def main(wanted: str) -> int:
    speed = "compiled" if is_compiled() else "pure"
    seen = asyncio.run(exchange())
    sys.stdout.write(f"{speed}, {len(hot_modules())} modules: {seen}\n")
    return int(speed != wanted or seen != ("HELLO", 4000))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["compiled"]))
