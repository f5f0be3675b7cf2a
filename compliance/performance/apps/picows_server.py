"""picows with its own callbacks, on uvloop. `python picows_server.py echo|room PORT SIZE [CERTFILE KEYFILE]`"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

import uvloop
from picows import WSListener, WSMsgType, ws_create_server

members: list[Any] = []


class Echo(WSListener):
    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Member(WSListener):
    def on_ws_connected(self, transport: Any) -> None:
        members.append(transport)


class Speaker(WSListener):
    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            text = frame.get_payload_as_bytes()
            for member in members:
                member.send(WSMsgType.TEXT, text)


async def main(mode: str, port: int, tls: list[str]) -> None:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)

    def listener(request: Any) -> WSListener:
        if mode == "echo":
            return Echo()
        return Member() if request.path == b"/member" else Speaker()

    server = await ws_create_server(
        listener, "127.0.0.1", port, ssl=context, backlog=2048, enable_auto_ping=True, auto_ping_idle_timeout=20
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[4:]))
