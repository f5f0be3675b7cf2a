"""Follow a feed of trades, over every loss of the connection: `python feed_client.py [URI] [CAFILE]`.

By default a public one, of a crypto exchange.
"""

import asyncio
import json
import sys

from flowserve import ConnectionClosed, connect

FEED = "wss://stream.binance.com:9443/ws/btcusdt@trade"


async def main(uri: str, ca_file: str | None) -> None:
    async for ws in connect(uri, ca_file=ca_file, max_size="1MiB"):
        try:
            async for message in ws:
                trade = json.loads(message)
                print(f"{trade['s']} {float(trade['p']):,.2f} x {float(trade['q']):g}", flush=True)
        except ConnectionClosed as error:
            print(f"lost: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else FEED, sys.argv[2] if len(sys.argv) > 2 else None))
