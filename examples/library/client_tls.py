"""A client over TLS that trusts an authority of its own: `python client_tls.py URI CAFILE`."""

import argparse
import asyncio
import sys

from flowserve import FlowserveError, connect


async def main(uri: str, ca_file: str) -> None:
    async with connect(uri, ca_file=ca_file) as ws:
        await ws.send("hello")
        print(await ws.receive())
        print(f"a ping took {await ws.ping() * 1000:.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri")
    parser.add_argument("cafile")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.uri, arguments.cafile))
    except KeyboardInterrupt:
        sys.exit(130)
    except (FlowserveError, OSError) as error:
        sys.exit(f"client_tls.py: {error}")
