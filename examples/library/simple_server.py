"""A server as a stream of events, that passes each message on to everybody else: `python simple_server.py [PORT]`."""

import asyncio
import sys

from flowserve import Disconnect, Error, NewClient, NewMessage, broadcast, start_server


async def main(port: int) -> None:
    async with start_server(port, "127.0.0.1") as events:
        print(f"ws://127.0.0.1:{events.server.sockets[0].getsockname()[1]}", flush=True)
        async for event in events:
            match event:
                case NewClient(id, ws):
                    print(f"{id} came, from {ws.remote_address[0]}", flush=True)
                case NewMessage(id, message):
                    broadcast([ws for other, ws in events.connections.items() if other != id], message)
                case Disconnect(id, code, reason):
                    print(f"{id} left: {code} {reason}", flush=True)
                case Error(id, error):
                    print(f"{id} failed: {error}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9004))
