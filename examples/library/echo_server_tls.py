"""An echo over TLS: `python echo_server_tls.py CERTFILE KEYFILE [PORT]`, both files in PEM."""

import argparse
import asyncio
import ssl
import sys

from flowserve import FlowserveError, WebSocket, serve


async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


async def main(certfile: str, keyfile: str, port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile)
    except OSError as error:
        sys.exit(f"{certfile}, {keyfile}: {error}")
    async with serve(echo, "127.0.0.1", port, ssl=context) as server:
        print(f"wss://localhost:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("certfile")
    parser.add_argument("keyfile")
    parser.add_argument("port", nargs="?", type=int, default=9003)
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.certfile, arguments.keyfile, arguments.port))
    except KeyboardInterrupt:
        pass
    except (FlowserveError, OSError) as error:
        sys.exit(f"echo_server_tls.py: {error}")
