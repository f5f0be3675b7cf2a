"""The bytes of hostile peers: masked frames, raw DEFLATE blocks, request heads."""

from __future__ import annotations

import struct
import zlib

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"\x37\xfa\x21\x3d"
DEFLATE = b"permessage-deflate; client_max_window_bits"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """One frame of a client (RFC 6455 section 5.2); `rsv`: 4 is the bit of permessage-deflate."""
    size, mask = len(payload), 0x80 if masked else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head += bytes([mask | size])
    elif size < 65536:
        head += struct.pack("!BH", mask | 126, size)
    else:
        head += struct.pack("!BQ", mask | 127, size)
    if not masked:
        return head + payload
    key = (KEY * (size // 4 + 1))[:size]
    return head + KEY + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def fragments(payload: bytes, opcode: int = TEXT, rsv: int = 0) -> bytes:
    """A message in frames of one byte."""
    last = len(payload) - 1
    first = frame(opcode, payload[:1], fin=False, rsv=rsv)
    return first + b"".join(frame(CONTINUATION, payload[at : at + 1], fin=at == last) for at in range(1, len(payload)))


def compressed(payload: bytes, opcode: int = BINARY) -> bytes:
    """A frame with a whole message, by the best of zlib."""
    return frame(opcode, deflate(payload), rsv=4)


def deflate(payload: bytes) -> bytes:
    """RFC 7692 section 7.2.1."""
    deflater = zlib.compressobj(9, wbits=-15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def handshake(path: str, *fields: bytes, extensions: bytes = b"") -> bytes:
    """An opening handshake with further header fields."""
    offers = (b"Sec-WebSocket-Extensions: " + extensions,) if extensions else ()
    return get(
        path,
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
        *offers,
        *fields,
    )


def get(path: str, *fields: bytes, method: str = "GET") -> bytes:
    """A request without a body."""
    return b"\r\n".join((f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", *fields, b"", b""))


def post(path: str, length: int, *fields: bytes) -> bytes:
    """The head of a request with a body."""
    return get(path, b"Content-Length: %d" % length, *fields, method="POST")


def chunked(path: str) -> bytes:
    """The head of a request with a chunked body."""
    return get(path, b"Transfer-Encoding: chunked", method="POST")


# DEFLATE blocks that give nothing, or next to it (RFC 1951 section 3.2)

EMPTY_STORED = b"\x00\x00\x00\xff\xff"
FINAL = b"\x03\x00"
"""An empty block that is the last: what follows needs a new decompressor (RFC 7692 section 7.2.3.5)."""


def empty_fixed(count: int) -> bytes:
    """Blocks of ten bits: a header, and the end of the block."""
    return pack("0100000000" * (count // 4 * 4))  # not final, type 1, code 0 of seven bits


def tiny_dynamic(count: int) -> bytes:
    """Blocks with codes of their own, of which only the end of the block is used."""
    lengths = {1: "001", 18: "001"}  # of the code length code: one bit each, 1 is 0 and 18 is 1
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
    header = "001" + low(0, 5) + low(0, 5) + low(len(order) - 4, 4)
    header += "".join(lengths.get(symbol, "000")[::-1] for symbol in order)
    zeros = "1" + low(138 - 11, 7) + "1" + low(117 - 11, 7)
    block = header + "0" + zeros + "0" + "0" + "1"  # literal 0 and the end, one distance, then the end
    return pack(block * (count // 8 * 8))


def low(value: int, bits: int) -> str:
    """A number, its lowest bit first."""
    return format(value, f"0{bits}b")[::-1]


def pack(bits: str) -> bytes:
    """Bits in the order of DEFLATE, whole bytes of them."""
    return int(bits[::-1], 2).to_bytes(len(bits) // 8, "little")
