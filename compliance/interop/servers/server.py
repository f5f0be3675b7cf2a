"""The servers of the Python libraries: echo, and by path what interop/client.py asks for.

`python server.py websockets|picows-websockets|picows|aiohttp PORT CERTFILE KEYFILE`; without TLS the files are empty.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

HOST = "127.0.0.1"
LARGE = 2 * 1024 * 1024
PROTOCOLS = ["interop"]
last = ""


def note(code: Any, reason: str) -> None:
    global last
    last = f"{int(code)} {reason}"


def like_websockets(serve: Any) -> Any:
    async def handler(ws: Any) -> None:
        path = ws.request.path
        if path == "/close":
            await ws.close(4002, "over")
        elif path == "/last":
            await ws.send(last)
        elif path == "/ping":
            await (await ws.ping(b"server"))
            await ws.send("pong server")
            await ws.wait_closed()
        else:
            try:
                async for message in ws:
                    await ws.send(message)
            except Exception as error:
                if type(error).__name__ != "ConnectionClosedError":
                    raise
            note(ws.close_code, ws.close_reason)

    def select(ws: Any, offered: Any) -> Any:
        return PROTOCOLS[0] if PROTOCOLS[0] in offered else None  # `subprotocols` would make them a duty

    async def run(port: int, context: ssl.SSLContext | None) -> None:
        async with serve(handler, HOST, port, ssl=context, select_subprotocol=select, max_size=LARGE):
            await asyncio.Event().wait()

    return run


async def aiohttp(port: int, context: ssl.SSLContext | None) -> None:
    from aiohttp import WSMsgType, web

    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=LARGE, autoping=request.path != "/ping")
        await ws.prepare(request)
        if request.path == "/close":
            await ws.close(code=4002, message=b"over")
        elif request.path == "/last":
            await ws.send_str(last)
            await ws.close()
        elif request.path == "/ping":
            await ws.ping(b"server")
        async for message in ws:
            if message.type == WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await ws.send_bytes(message.data)
            elif message.type == WSMsgType.PONG:
                await ws.send_str(f"pong {message.data.decode()}")
        if request.path == "/":
            note(ws.close_code, "")
        return ws

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port, ssl_context=context).start()
    await asyncio.Event().wait()


async def picows(port: int, context: ssl.SSLContext | None) -> None:
    from picows import WSListener, WSMsgType, WSUpgradeResponse, WSUpgradeResponseWithListener, ws_create_server

    class Listener(WSListener):
        def __init__(self, path: str) -> None:
            self.path = path

        def on_ws_connected(self, transport: Any) -> None:
            if self.path == "/close":
                transport.send_close(4002, b"over")
            elif self.path == "/ping":
                transport.send_ping(b"server")
            elif self.path == "/last":
                transport.send(WSMsgType.TEXT, last.encode())
                transport.send_close(1000)

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            payload = frame.get_payload_as_bytes()
            if frame.msg_type == WSMsgType.CLOSE:
                if self.path == "/":
                    note(frame.get_close_code(), payload[2:].decode())
                    transport.send_close(frame.get_close_code(), payload[2:])
                transport.disconnect()
            elif frame.msg_type == WSMsgType.PONG:
                transport.send(WSMsgType.TEXT, b"pong " + payload)
            else:
                transport.send(frame.msg_type, payload, frame.fin)

    def accept(request: Any) -> Any:
        offered = "Sec-WebSocket-Protocol" in request.headers
        more = [("Sec-WebSocket-Protocol", "interop")] if offered else None
        response = WSUpgradeResponse.create_101_response(more)
        return WSUpgradeResponseWithListener(response, Listener(request.path.decode()))

    server = await ws_create_server(accept, HOST, port, ssl=context)
    await server.serve_forever()


async def main(name: str, port: str, certfile: str, keyfile: str) -> None:
    context = None
    if certfile:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certfile, keyfile)
    if name == "websockets":
        from websockets.asyncio.server import serve

        await like_websockets(serve)(int(port), context)
    elif name == "picows-websockets":
        from picows.websockets.asyncio.server import serve as serve_on_picows

        await like_websockets(serve_on_picows)(int(port), context)
    else:
        await {"aiohttp": aiohttp, "picows": picows}[name](int(port), context)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
