"""A client that sends a message in fragments, as they are made, and reads the answer as it comes:
`python fragmented_client.py URI`."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator

from flowserve import FlowserveError, connect


async def numbers() -> AsyncIterator[str]:
    for number in range(100_000):
        yield f"{number} "
        if number % 1000 == 0:
            await asyncio.sleep(0)  # where there would be something to wait for


async def main(uri: str) -> None:
    async with connect(uri) as ws:
        await ws.send(numbers())
        size = pieces = 0
        async for piece in ws.receive_fragments():
            size += len(piece)
            pieces += 1
        print(f"{size} characters, and not all at once" if pieces > 1 else f"{size} characters")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri", nargs="?", default="ws://127.0.0.1:9002")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.uri))
    except KeyboardInterrupt:
        sys.exit(130)
    except (FlowserveError, OSError) as error:
        sys.exit(f"fragmented_client.py: {error}")
