"""What the load generator sends: payloads, and the frames that carry them."""

from __future__ import annotations

import json
import random
import struct
import zlib

MASK = bytes.fromhex("37fa213d")
TAIL = b"\x00\x00\xff\xff"  # what ends a compressed message and does not travel, RFC 7692 section 7.2.1
RSV1 = 0x40


def frame(opcode: int, payload: bytes, masked: bool) -> bytes:
    """A whole frame with FIN set, RFC 6455 section 5.2; `opcode` may have RSV1 with it."""
    size, bit = len(payload), 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, bit | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, bit | 127, size)
    if not masked:
        return head + payload
    key = (MASK * (size // 4 + 1))[:size]
    return head + MASK + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def text(size: int) -> bytes:
    """An ASCII text of `size` bytes."""
    return (b"The quick brown fox jumps over the lazy dog. " * (size // 45 + 1))[:size]


def updates(size: int, number: int = 256) -> list[bytes]:
    """`number` texts of `size` bytes like the JSON that a feed of prices sends: alike, but never the same."""
    rng, found = random.Random(7692), []
    for serial in range(number):
        rows = [
            {
                "symbol": "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=4)),
                "bid": round(rng.uniform(1, 500), 2),
                "ask": round(rng.uniform(1, 500), 2),
                "volume": rng.randrange(1_000_000),
                "venue": rng.choice(("XNAS", "XNYS", "XLON", "XETR")),
            }
            for _ in range(size // 70 + 1)
        ]
        message = json.dumps({"type": "update", "serial": 1000 + serial, "rows": rows})
        found.append(message.encode()[:size])
    return found


def deflated(data: bytes) -> bytes:
    """A compressed message that any server can read: alone, and within the smallest window that it may ask for."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -9)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


_BROWSER = (
    "Host: 127.0.0.1:8000\r\nConnection: keep-alive\r\n"
    'sec-ch-ua: "Chromium";v="142", "Not_A Brand";v="99"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: "Linux"\r\n'
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36\r\n"
    "Accept: application/json, text/plain, */*\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n"
    "Referer: http://127.0.0.1:8000/board\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-GB,en;q=0.9\r\n"
    "Cookie: session=4f1c9a3e5b7d8c2a; theme=dark; csrftoken=Zr8kQ1xW0aVbN3mT\r\n\r\n"
)


def requests(kind: str, size: int) -> list[bytes]:
    """HTTP requests, one after the other: always the same one, those of a browser, which differ, or with a body."""
    if kind == "bare":
        return [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"]
    if kind == "browser":
        return [f"GET /api?item={number} HTTP/1.1\r\n{_BROWSER}".encode() for number in range(64)]
    head = f"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
    return [head.encode() + text(size)]


def answers(app: str, size: int) -> bytes:
    """The body that answers each of them."""
    return {"starlette": b'{"hello":"world"}', "upload": b"%d" % size}.get(app, b"hello")
