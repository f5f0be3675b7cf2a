"""An echo over TLS: `python echo_server_tls.py CERTFILE KEYFILE [PORT]`, both files in PEM."""

import asyncio
import ssl
import sys

from flowserve import WebSocket, serve


async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


async def main(certfile: str, keyfile: str, port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certfile, keyfile)
    async with serve(echo, "127.0.0.1", port, ssl=context) as server:
        print(f"wss://localhost:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 9003))
