"""An echo server for the Autobahn testsuite's fuzzing client: `python autobahn_server.py [PORT]`."""

import asyncio
import sys

from flowserve import ConnectionClosed, WebSocket, serve


async def echo(ws: WebSocket) -> None:
    try:
        async for message in ws:
            await ws.send(message)
    except ConnectionClosed:
        pass  # most of the cases end so


async def main(port: int) -> None:
    async with serve(echo, "127.0.0.1", port, max_size="64MiB") as server:
        host, port = server.sockets[0].getsockname()
        print(f"ws://{host}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9001))
