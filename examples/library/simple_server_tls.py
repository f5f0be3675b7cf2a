"""A server as a stream of events, over TLS: `python simple_server_tls.py CERTFILE KEYFILE [PORT]`, both files in PEM.

It answers each message with the number that it is.
"""

import argparse
import asyncio
import ssl
import sys
from collections import Counter

from flowserve import FlowserveError, NewClient, NewMessage, start_server


async def main(certfile: str, keyfile: str, port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile)
    except OSError as error:
        sys.exit(f"{certfile}, {keyfile}: {error}")
    messages: Counter[object] = Counter()
    async with start_server(port, "127.0.0.1", ssl=context) as events:
        print(f"wss://localhost:{events.server.sockets[0].getsockname()[1]}", flush=True)
        async for event in events:
            match event:
                case NewClient(id):
                    print(f"{id} came", flush=True)
                case NewMessage(id):
                    messages[id] += 1
                    await events.connections[id].send(f"message {messages[id]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("certfile")
    parser.add_argument("keyfile")
    parser.add_argument("port", nargs="?", type=int, default=9005)
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.certfile, arguments.keyfile, arguments.port))
    except KeyboardInterrupt:
        pass
    except (FlowserveError, OSError) as error:
        sys.exit(f"simple_server_tls.py: {error}")
