"""A visitor of flock_server.py in the terminal, that leads the birds round in a circle: `python flock_client.py [URI]`.

The server may be stopped and started again meanwhile.
"""

import argparse
import asyncio
import cmath
import json
import os
import sys
import time
from contextlib import suppress

from flowserve import ConnectionClosed, FlowserveError, WebSocket, connect

ROUND = 8.0
"""Seconds that a circle takes."""


async def lead(ws: WebSocket) -> None:
    """Move this visitor's lure, until the WebSocket ends; watch() learns how."""
    with suppress(ConnectionClosed):
        while True:
            spot = 0.5 + 0.5j + cmath.rect(0.3, time.monotonic() / ROUND * 2 * cmath.pi)
            await ws.send(json.dumps({"lure": [spot.real, spot.imag]}))
            await asyncio.sleep(0.05)


async def watch(ws: WebSocket) -> None:
    """Say once a second what the server shows."""
    number = json.loads(await ws.receive())["you"]
    frames, said = 0, time.monotonic()
    async for message in ws:
        frames += 1
        if time.monotonic() - said >= 1:
            visitors = len(json.loads(message)["visitors"])
            ping = await ws.ping() * 1000
            print(f"visitor {number}, {visitors} here, {frames} frames a second, a ping took {ping:.1f} ms", flush=True)
            frames, said = 0, time.monotonic()


async def main(uri: str) -> None:
    async for ws in connect(uri):
        leading = asyncio.create_task(lead(ws))
        try:
            await watch(ws)
        except ConnectionClosed:
            pass
        finally:
            leading.cancel()
        print(f"closed: {ws.close_code} {ws.close_reason}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri", nargs="?", default="ws://127.0.0.1:9007/flock")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.uri))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except (FlowserveError, OSError) as error:
        sys.exit(f"flock_client.py: {error}")
