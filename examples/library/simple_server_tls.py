"""A server as a stream of events, over TLS: `python simple_server_tls.py CERTFILE KEYFILE [PORT]`, both files in PEM.

It answers each message with the number that it is.
"""

import asyncio
import ssl
import sys
from collections import Counter

from flowserve import NewClient, NewMessage, start_server


async def main(certfile: str, keyfile: str, port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certfile, keyfile)
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
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 9005))
