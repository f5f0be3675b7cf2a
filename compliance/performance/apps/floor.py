"""The floor: a bare uvloop protocol that answers with prebuilt bytes. No server in Python on uvloop can cost less.

`python floor.py echo|room PORT SIZE [CERTFILE KEYFILE]`. It parses nothing: it knows what the load generator sends
and only counts bytes.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

import uvloop

ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
HELLO = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
CLOSE = b"\x88\x82"  # how a masked close frame with a code starts
CLOSED = b"\x88\x02\x03\xe8"
members: list[Any] = []


def echo_of(size: int) -> tuple[bytes, int]:
    """The echo of the load generator's message of `size` bytes, and the length of the masked frame it comes in."""
    text = (b"The quick brown fox jumps over the lazy dog. " * (size // 45 + 1))[:size]
    if size < 126:
        head = bytes([0x81, size])
    elif size < 65536:
        head = b"\x81\x7e" + size.to_bytes(2, "big")
    else:
        head = b"\x81\x7f" + size.to_bytes(8, "big")
    return head + text, len(head) + 4 + size


class Floor(asyncio.Protocol):
    """One connection, HTTP or WebSocket."""

    transport: asyncio.Transport

    def __init__(self, answers: list[bytes], masked: int, room: bool) -> None:
        self.answers = answers
        self.masked = masked
        self.room = room
        self.open = False
        self.got = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.open:
            if b"\r\nUpgrade:" not in data:
                self.transport.write(HELLO)
                return
            self.open = True
            if data.startswith(b"GET /member"):
                members.append(self.transport)
            self.transport.write(ACCEPTED)
        elif data.startswith(CLOSE) and not self.got:
            self.transport.write(CLOSED)
            self.transport.close()
        else:
            messages, self.got = divmod(self.got + len(data), self.masked)
            if self.room:
                for member in members:
                    member.write(self.answers[1])
            elif messages:
                self.transport.write(self.answers[messages])


async def main(mode: str, port: int, size: int, tls: list[str]) -> None:
    answer, masked = echo_of(size)
    answers = [answer * number for number in range(33 if size < 1024 else 3)]
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Floor(answers, masked, mode == "room"), "127.0.0.1", port, ssl=context, backlog=2048
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
