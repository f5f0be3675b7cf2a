"""What a client can do with HTTP, TLS and the PROXY protocol."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from compliance.costs.bytes_of import chunked, get, post
from compliance.costs.load import Conversation
from compliance.costs.pattern import (
    ENDLESS,
    EXTENDED,
    HEADS,
    PROXY,
    REQUESTS,
    SEGMENTS,
    TINY,
    TLS,
    TLS_VISITS,
    UNREAD,
    UPLOADS,
    VISITS,
    Pattern,
)

MIB = 1 << 20
ONE = b"1\r\nx\r\n"
LAST = b"0\r\n\r\n"
LONG = 60_000
"""Bytes of a head's one long part; the limit is 64 KiB."""
EXTENSIONS = b";a=b" * 2040
QUOTED = b';a="' + b"\\x" * 4080 + b'"'

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
ADDRESSES = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + struct.pack("!HH", 1, 2)


def stay(*pieces: bytes, reads: bool = True, by_turns: bool = False) -> Sequence[Conversation]:
    """One connection that stays."""
    return [Conversation(pieces, reads=reads, by_turns=by_turns)]


def visits(count: int, *pieces: bytes, by_turns: bool = True, tls: bool = False) -> Sequence[Conversation]:
    """Connections that leave when they have their answer."""
    return [Conversation(pieces, by_turns=by_turns, leaves=True, tls=tls)] * count


def each_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def fields(count: int) -> list[bytes]:
    return [b"a%d: b" % at for at in range(count)]


def fill(item: bytes, size: int = LONG) -> bytes:
    return item * (size // len(item))


def version2(tlvs: bytes = b"") -> bytes:
    return SIGNATURE + b"\x21\x11" + struct.pack("!H", len(ADDRESSES) + len(tlvs)) + ADDRESSES + tlvs


def upgrades(protocol: bytes) -> bytes:
    return get(
        "/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol, b"HTTP2-Settings: AAMAAABkAAQAAP__"
    )


CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2
MULTIPART = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n"

HTTP = (
    Pattern("chunks of 1 byte", TINY, "chunk", 160_000, lambda n: stay(chunked("/read"), ONE * n + LAST)),
    Pattern("chunks of 1 byte, not received", UNREAD, "chunk", 160_000, lambda n: stay(chunked("/deaf"), ONE * n)),
    Pattern("chunks of 1 byte behind the response", TINY, "chunk", 160_000, lambda n: stay(chunked("/"), ONE * n)),
    Pattern(
        "chunks of 1 byte with extensions of 8 KB",
        EXTENDED,
        "chunk",
        200,
        lambda n: stay(chunked("/read"), (b"1" + EXTENSIONS + b"\r\nx\r\n") * n + LAST),
    ),
    Pattern(
        "chunks of 1 byte with a quoted extension of 8 KB",
        EXTENDED,
        "chunk",
        200,
        lambda n: stay(chunked("/read"), (b"1" + QUOTED + b"\r\nx\r\n") * n + LAST),
    ),
    Pattern(
        "chunks with a short extension",
        TINY,
        "chunk",
        80_000,
        lambda n: stay(chunked("/read"), b'1;a="b"\r\nx\r\n' * n + LAST),
    ),
    Pattern(
        "extensions that end badly",
        VISITS,
        "visit",
        100,
        lambda n: visits(n, chunked("/read") + b"1" + b' ; a="b"' * 1000 + b";\r\nx\r\n"),
    ),
    Pattern(
        "bodies with 60 KB of trailers",
        EXTENDED,
        "request",
        60,
        lambda n: stay(*[chunked("/read") + b"0\r\n" + b"a: b\r\n" * 10_000 + b"\r\n"] * n, by_turns=True),
    ),
    Pattern(
        "trailers without end",
        EXTENDED,
        "visit",
        40,
        lambda n: visits(n, chunked("/read") + b"0\r\n" + b"a: b\r\n" * 40_000),
        at_once=4,
    ),
    Pattern(
        "heads with 120 small fields, pipelined",
        HEADS,
        "request",
        1000,
        lambda n: stay(get("/", *fields(120)) * n),
    ),
    Pattern(
        "a field of 60 KB", HEADS, "request", 200, lambda n: stay(*[get("/", b"a: " + b"b" * LONG)] * n, by_turns=True)
    ),
    Pattern(
        "cookies by thousands",
        HEADS,
        "request",
        200,
        lambda n: stay(*[get("/", b"Cookie: " + fill(b"a=b; "))] * n, by_turns=True),
    ),
    Pattern(
        "lists of ranges",
        HEADS,
        "request",
        200,
        lambda n: stay(*[get("/", b"Range: bytes=0-" + fill(b",1-2"))] * n, by_turns=True),
    ),
    Pattern("targets of 60 KB", HEADS, "request", 200, lambda n: stay(*[get("/" + "a" * LONG)] * n, by_turns=True)),
    Pattern(
        "percent-encoded targets of 60 KB",
        HEADS,
        "request",
        200,
        lambda n: stay(*[get("/" + "%F0%9F%92%A9" * (LONG // 12) + "?" + "%61=&" * 10)] * n, by_turns=True),
    ),
    Pattern(
        "absolute targets",
        REQUESTS,
        "request",
        10_000,
        lambda n: stay(get("http://localhost:8000/", method="GET") * n),
    ),
    Pattern("too many fields", VISITS, "visit", 200, lambda n: visits(n, get("/", *fields(10_000)))),
    Pattern("folded fields", VISITS, "visit", 400, lambda n: visits(n, get("/", b"a: b", b" c"))),
    Pattern("control characters in a field", VISITS, "visit", 400, lambda n: visits(n, get("/", b"a: b\0c"))),
    Pattern(
        "60 KB of empty lines", HEADS, "request", 100, lambda n: stay(*[b"\r\n" * 30_000 + get("/")] * n, by_turns=True)
    ),
    Pattern("GETs, pipelined", REQUESTS, "request", 20_000, lambda n: stay(get("/") * n)),
    Pattern(
        "GETs in as few bytes as there can be, pipelined",
        REQUESTS,
        "request",
        20_000,
        lambda n: stay(b"GET / HTTP/1.0\r\nConnection:keep-alive\r\n\r\n" * n),
    ),
    Pattern("GETs, pipelined, answers not read", UNREAD, "request", 200_000, lambda n: stay(get("/") * n, reads=False)),
    Pattern(
        "POSTs with bodies, pipelined", REQUESTS, "request", 10_000, lambda n: stay((post("/read", 5) + b"hello") * n)
    ),
    Pattern("HEADs, pipelined", REQUESTS, "request", 10_000, lambda n: stay(get("/", method="HEAD") * n)),
    Pattern("OPTIONS *, pipelined", REQUESTS, "request", 10_000, lambda n: stay(get("*", method="OPTIONS") * n)),
    Pattern("unknown methods, pipelined", REQUESTS, "request", 10_000, lambda n: stay(get("/", method="X") * n)),
    Pattern(
        "expecting 100-continue",
        REQUESTS,
        "request",
        4000,
        lambda n: stay((post("/read", 1, b"Expect: 100-continue") + b"x") * n),
    ),
    Pattern("GETs one by one", REQUESTS, "request", 4000, lambda n: stay(*[get("/")] * n, by_turns=True)),
    Pattern(
        "requests behind a Connection: close",
        VISITS,
        "visit",
        40,
        lambda n: visits(n, get("/", b"Connection: close") + get("/") * 8000, by_turns=False),
        at_once=4,
    ),
    Pattern("connections", VISITS, "visit", 600, lambda n: visits(n, get("/", b"Connection: close"))),
    Pattern("connections without a word", VISITS, "visit", 600, lambda n: visits(n)),
    Pattern("heads in 1-byte segments", SEGMENTS, "segment", 20_000, lambda n: stay(*each_byte(get("/") * (n // 36)))),
    Pattern(
        "a body in 1-byte segments", SEGMENTS, "segment", 20_000, lambda n: stay(post("/read", n), *each_byte(b"x" * n))
    ),
    Pattern(
        "chunks in 1-byte segments",
        SEGMENTS,
        "segment",
        20_000,
        lambda n: stay(chunked("/read"), *each_byte(ONE * (n // 6) + LAST)),
    ),
    Pattern(
        "chunk extensions in 1-byte segments",
        SEGMENTS,
        "segment",
        20_000,
        lambda n: stay(chunked("/read"), *each_byte(((b"1" + EXTENSIONS + b"\r\nx\r\n") * (n // 8165 + 1))[:n])),
    ),
    Pattern(
        "WebSocket handshakes without a key",
        REQUESTS,
        "visit",
        400,
        lambda n: visits(n, get("/", b"Connection: Upgrade", b"Upgrade: websocket")),
    ),
    Pattern(
        "Upgrade and Connection of 15,000 members each",
        HEADS,
        "request",
        100,
        lambda n: stay(
            *[get("/", b"Upgrade: " + fill(b"a,", 30_000), b"Connection: " + fill(b"a,", 30_000))] * n, by_turns=True
        ),
    ),
    Pattern(
        "health checks, pipelined",
        REQUESTS,
        "request",
        20_000,
        lambda n: stay(get("/health") * n),
        options=("--health-path", "/health"),
    ),
    Pattern("upgrades to h2c, pipelined", REQUESTS, "request", 10_000, lambda n: stay(upgrades(b"h2c") * n)),
    Pattern(
        "HTTP/2 prefaces", VISITS, "visit", 400, lambda n: visits(n, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
    ),
    Pattern("TLS to a plain port", VISITS, "visit", 400, lambda n: visits(n, CLIENT_HELLO)),
    Pattern(
        "X-Forwarded-For of 7,500 addresses",
        HEADS,
        "request",
        100,
        lambda n: stay(
            *[get("/", b"X-Forwarded-For: " + fill(b"1.2.3.4,"), b"X-Forwarded-Proto: https")] * n, by_turns=True
        ),
    ),
    Pattern(
        "X-Forwarded-For of 6,000 trusted addresses",
        HEADS,
        "request",
        100,
        lambda n: stay(*[get("/", b"X-Forwarded-For: " + fill(b"127.0.0.1,"))] * n, by_turns=True),
    ),
    Pattern(
        "X-Forwarded-For of empty elements",
        HEADS,
        "request",
        100,
        lambda n: stay(*[get("/", b"X-Forwarded-For: " + fill(b","))] * n, by_turns=True),
    ),
    Pattern(
        "Forwarded of 3,000 elements",
        HEADS,
        "request",
        100,
        lambda n: stay(*[get("/", b"Forwarded: " + fill(b"for=127.0.0.1;by=x, ") + b"for=1.2.3.4")] * n, by_turns=True),
    ),
    Pattern(
        "multipart of 16 MiB",
        UPLOADS,
        "request",
        4,
        lambda n: stay(*[post("/read", len(MULTIPART) * 300_000), MULTIPART * 300_000] * n),
    ),
    Pattern(
        "chunks of 64 KiB",
        UPLOADS,
        "request",
        4,
        lambda n: stay(*[chunked("/read"), (b"10000\r\n" + bytes(65536) + b"\r\n") * 256 + LAST] * n),
    ),
    Pattern(
        "lengths of 10 to the 18, and nothing",
        VISITS,
        "visit",
        400,
        lambda n: [Conversation([post("/read", 10**18 - 1)])] * n,
    ),
    Pattern(
        "a body of 64 MiB, not received", UNREAD, "upload", 1, lambda n: stay(post("/deaf", 64 * MIB), bytes(64 * MIB))
    ),
    Pattern(
        "responses without end that nobody reads",
        ENDLESS,
        "connection",
        20,
        lambda n: [*stay(get("/flood"), reads=False)] * n,
    ),
    Pattern(
        "TLS handshakes",
        TLS_VISITS,
        "visit",
        100,
        lambda n: visits(n, get("/", b"Connection: close"), tls=True),
        options=(TLS,),
        at_once=8,
    ),
    Pattern("plain HTTP to a TLS port", TLS_VISITS, "visit", 200, lambda n: visits(n, get("/")), options=(TLS,)),
    Pattern("broken ClientHellos", TLS_VISITS, "visit", 200, lambda n: visits(n, CLIENT_HELLO), options=(TLS,)),
    Pattern(
        "a body in TLS records of 1 byte",
        SEGMENTS,
        "record",
        10_000,
        lambda n: [Conversation([post("/read", n), *each_byte(b"x" * n)], tls=True, reads=False)],
        options=(TLS,),
    ),
    Pattern(
        "PROXY headers, version 1",
        VISITS,
        "visit",
        400,
        lambda n: visits(n, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get("/", b"Connection: close")),
        options=(PROXY,),
    ),
    Pattern(
        "PROXY headers, version 2, of 60 KB",
        VISITS,
        "visit",
        200,
        lambda n: visits(n, version2((b"\xe0\x00\x01x") * 15_000) + get("/", b"Connection: close")),
        options=(PROXY,),
    ),
    Pattern(
        "a PROXY header of 60 KB in 1-byte segments",
        SEGMENTS,
        "segment",
        20_000,
        lambda n: stay(*each_byte(version2((b"\xe0\x00\x01x") * 15_000)[:n])),
        options=(PROXY,),
    ),
    Pattern(
        "PROXY headers that are none",
        VISITS,
        "visit",
        400,
        lambda n: visits(n, b"PROXY TCP4 " + b"1" * 200),
        options=(PROXY,),
    ),
)
