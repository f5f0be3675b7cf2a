"""A feed of trades, all of them made up: `python feed_server.py [PORT]`, for feed_client.py."""

import argparse
import asyncio
import json
import random
import sys

from flowserve import FlowserveError, WebSocket, serve

PAUSE = 0.5
"""Seconds between two trades, on average."""


async def feed(ws: WebSocket) -> None:
    price = 100.0
    while True:
        price *= 1 + random.gauss(0, 0.001)
        trade = {"symbol": "ACME", "price": round(price, 2), "quantity": random.randint(1, 500)}
        await ws.send(json.dumps(trade))  # raises ConnectionClosed when the client has left, which is no error
        await asyncio.sleep(random.expovariate(1 / PAUSE))


async def main(port: int) -> None:
    async with serve(feed, "127.0.0.1", port) as server:
        host, port = server.sockets[0].getsockname()
        print(f"ws://{host}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", nargs="?", type=int, default=9006)
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.port))
    except KeyboardInterrupt:
        pass
    except (FlowserveError, OSError) as error:
        sys.exit(f"feed_server.py: {error}")
