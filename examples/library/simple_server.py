"""A server as a stream of events, that passes each message on to everybody else: `python simple_server.py [PORT]`."""

import argparse
import asyncio
import sys

from flowserve import Disconnect, Error, FlowserveError, NewClient, NewMessage, broadcast, start_server


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", nargs="?", type=int, default=9004)
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.port))
    except KeyboardInterrupt:
        pass
    except (FlowserveError, OSError) as error:
        sys.exit(f"simple_server.py: {error}")
