"""An echo client for the Autobahn testsuite's fuzzing server: `python autobahn_client.py [URI] [AGENT]`."""

import asyncio
import sys

from flowserve import ConnectionClosed, connect


async def run_case(uri: str) -> None:
    async with connect(uri, max_size="64MiB") as ws:
        try:
            async for message in ws:
                await ws.send(message)
        except ConnectionClosed:
            pass  # most of the cases end so


async def main(uri: str, agent: str) -> None:
    async with connect(f"{uri}/getCaseCount") as ws:
        count = int(await ws.receive())
    for number in range(1, count + 1):
        print(f"case {number} of {count}", flush=True)
        await run_case(f"{uri}/runCase?case={number}&agent={agent}")
    async with connect(f"{uri}/updateReports?agent={agent}"):
        pass


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] + ["ws://127.0.0.1:9001", "flowserve"][len(sys.argv) - 1 :])))
