"""Follow a feed of trades, over every loss of the connection: `python feed_client.py [URI] [CAFILE]`.

By default that of feed_server.py, which may be stopped and started again meanwhile.
"""

import argparse
import asyncio
import json
import os
import sys

from flowserve import ConnectionClosed, FlowserveError, connect


async def main(uri: str, ca_file: str | None) -> None:
    async for ws in connect(uri, ca_file=ca_file, max_size="1MiB"):
        try:
            async for message in ws:
                trade = json.loads(message)
                print(f"{trade['symbol']} {trade['price']:,.2f} x {trade['quantity']}", flush=True)
        except ConnectionClosed as error:
            print(f"lost: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri", nargs="?", default="ws://127.0.0.1:9006")
    parser.add_argument("cafile", nargs="?")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.uri, arguments.cafile))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except (FlowserveError, OSError) as error:
        sys.exit(f"feed_client.py: {error}")
