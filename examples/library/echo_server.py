"""An echo server inside a program of its own: `python echo_server.py [PORT]`."""

import argparse
import asyncio
import sys

from flowserve import FlowserveError, WebSocket, serve


async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    async with serve(echo, "127.0.0.1", port) as server:
        host, port = server.sockets[0].getsockname()
        print(f"ws://{host}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", nargs="?", type=int, default=9002)
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.port))
    except KeyboardInterrupt:
        pass
    except (FlowserveError, OSError) as error:
        sys.exit(f"echo_server.py: {error}")
