"""aiohttp's own server, on uvloop. `python aiohttp_server.py echo|room PORT SIZE [CERTFILE KEYFILE]`"""

from __future__ import annotations

import ssl
import sys

import uvloop
from aiohttp import web

members: list[web.WebSocketResponse] = []
mode, port = sys.argv[1], int(sys.argv[2])


async def handle(request: web.Request) -> web.StreamResponse:
    if "upgrade" not in request.headers:
        return web.Response(text="hello")
    socket = web.WebSocketResponse(compress=False, heartbeat=20, max_msg_size=2**24)
    await socket.prepare(request)
    if mode == "room" and request.path == "/member":
        members.append(socket)
    async for message in socket:
        if mode == "echo":
            await socket.send_str(message.data)
        else:
            for member in members:
                await member.send_str(message.data)
    return socket


if __name__ == "__main__":
    uvloop.install()
    context = None
    if sys.argv[4:]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[4:])
    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    web.run_app(app, host="127.0.0.1", port=port, ssl_context=context, access_log=None, print=None, backlog=2048)
