"""A client over TLS that trusts an authority of its own: `python client_tls.py URI CAFILE`."""

import asyncio
import sys

from flowserve import connect


async def main(uri: str, ca_file: str) -> None:
    async with connect(uri, ca_file=ca_file) as ws:
        await ws.send("hello")
        print(await ws.receive())
        print(f"a ping took {await ws.ping() * 1000:.1f} ms")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
