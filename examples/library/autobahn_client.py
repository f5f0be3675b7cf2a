"""An echo client for the Autobahn testsuite's fuzzing server: `python autobahn_client.py [URI] [AGENT]`."""

import argparse
import asyncio
import sys

from flowserve import ConnectionClosed, FlowserveError, connect


async def run_case(uri: str) -> None:
    async with connect(uri, max_size="64MiB") as ws:
        try:
            async for message in ws:
                await ws.send(message)
        except ConnectionClosed:
            pass  # most of the cases end so


async def main(uri: str, agent: str) -> None:
    async with connect(f"{uri}/getCaseCount") as ws:
        try:
            count = int(await asyncio.wait_for(ws.receive(), 10))
        except (asyncio.TimeoutError, ValueError):
            sys.exit(f"autobahn_client.py: {uri} is no fuzzing server: it does not say how many cases it has")
    for number in range(1, count + 1):
        print(f"case {number} of {count}", flush=True)
        await run_case(f"{uri}/runCase?case={number}&agent={agent}")
    async with connect(f"{uri}/updateReports?agent={agent}"):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri", nargs="?", default="ws://127.0.0.1:9001")
    parser.add_argument("agent", nargs="?", default="flowserve")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.uri, arguments.agent))
    except KeyboardInterrupt:
        sys.exit(130)
    except (FlowserveError, OSError) as error:
        sys.exit(f"autobahn_client.py: {error}")
