"""The floor: a bare uvloop protocol that answers with prebuilt bytes. No server in Python on uvloop can cost less.

`python floor.py echo|room|topic PORT SIZE [CERTFILE KEYFILE]`. It parses nothing: it knows what the load generator
sends and only counts bytes. What is compressed (BENCHMARK_DEFLATE) it passes on as it came.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from functools import cache
from typing import Any

import uvloop

ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
AGREED = ACCEPTED[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n"
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


@cache
def passed_on(frame: bytes) -> bytes:
    """A client's frame with a payload of 126 to 65,535 bytes, as a server's."""
    mask, payload = frame[4:8], frame[8:]
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    plain = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")
    return bytes([frame[0], 126]) + frame[2:4] + plain


class Floor(asyncio.Protocol):
    """One connection, HTTP or WebSocket."""

    transport: asyncio.Transport

    def __init__(self, answers: list[bytes], masked: int, room: bool, deflate: bool) -> None:
        self.answers = answers
        self.masked = masked
        self.room = room
        self.deflate = deflate
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
            self.transport.write(AGREED if self.deflate else ACCEPTED)
        elif self.deflate:
            answer = passed_on(data)
            for member in members:
                member.write(answer)
        elif data.startswith(CLOSE) and not self.got:
            self.transport.write(CLOSED)
            self.transport.close()
        else:
            messages, self.got = divmod(self.got + len(data), self.masked)
            if self.room:
                answer = self.answers[messages]
                for member in members:
                    member.write(answer)
            elif messages:
                self.transport.write(self.answers[messages])


async def main(mode: str, port: int, size: int, tls: list[str]) -> None:
    answer, masked = echo_of(size)
    answers = [answer * number for number in range(33 if size < 1024 else 3)]
    deflate = bool(os.environ.get("BENCHMARK_DEFLATE"))
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Floor(answers, masked, mode != "echo", deflate), "127.0.0.1", port, ssl=context, backlog=2048
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
