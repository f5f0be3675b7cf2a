"""What a client can do with a WebSocket."""

from __future__ import annotations

from collections.abc import Sequence

from compliance.costs.bytes_of import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATE,
    EMPTY_STORED,
    FINAL,
    PING,
    PONG,
    TEXT,
    compressed,
    deflate,
    empty_fixed,
    fragments,
    frame,
    handshake,
    tiny_dynamic,
)
from compliance.costs.load import Conversation
from compliance.costs.pattern import (
    BLOCKS,
    BOMBS,
    ECHOES,
    INFLATE,
    SEGMENTS,
    SMALL_BOMBS,
    STREAM,
    TINY,
    UNREAD,
    VISITS,
    WIDE,
    Pattern,
)

MIB = 1 << 20
LARGEST = 16 * MIB
"""--ws-max-size, by default."""
EMOJI = "\N{PILE OF POO}".encode()
FINALS = deflate(bytes(32_768)) + EMPTY_STORED[1:] + FINAL * 1000 + b"\x00"
"""A window's worth of zeros, then final blocks: what follows each one needs a new decompressor with that window."""
TAKEOVER = ("--ws-deflate-context", "takeover")


def talk(path: str, *pieces: bytes, extensions: bytes = b"", reads: bool = True) -> Sequence[Conversation]:
    """One WebSocket that stays."""
    return [Conversation(pieces, handshake(path, extensions=extensions), reads=reads)]


def visits(count: int, *pieces: bytes, path: str = "/sink") -> Sequence[Conversation]:
    """WebSockets that are closed by what they send."""
    return [Conversation(pieces, handshake(path), leaves=True)] * count


def openings(count: int, *fields: bytes, extensions: bytes = b"") -> Sequence[Conversation]:
    """Handshakes and nothing else."""
    head = handshake("/sink", *fields, extensions=extensions)
    return [Conversation([head], by_turns=True, leaves=True)] * count


def each_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def bomb(size: int) -> bytes:
    return compressed(bytes(size))


def long_list(item: bytes, size: int = 60_000) -> bytes:
    return b", ".join([item] * (size // (len(item) + 2)))


WEBSOCKET = (
    Pattern("messages of 1 byte", TINY, "message", 100_000, lambda n: talk("/sink", frame(TEXT, b"x") * n)),
    Pattern("empty messages", TINY, "message", 100_000, lambda n: talk("/sink", frame(BINARY) * n)),
    Pattern(
        "empty fragments without end",
        TINY,
        "frame",
        130_000,
        lambda n: talk("/sink", frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * n),
    ),
    Pattern("1-byte fragments", TINY, "frame", 100_000, lambda n: talk("/sink", fragments(b"x" * n, BINARY))),
    Pattern(
        "text of 4-byte characters in 1-byte fragments",
        TINY,
        "frame",
        65_536,
        lambda n: talk("/sink", fragments(EMOJI * (n // 4))),
    ),
    Pattern("empty pings, pongs read", TINY, "ping", 100_000, lambda n: talk("/sink", frame(PING) * n)),
    Pattern(
        "pings of 125 bytes, pongs read", TINY, "ping", 50_000, lambda n: talk("/sink", frame(PING, bytes(125)) * n)
    ),
    Pattern(
        "pings of 125 bytes, pongs not read",
        TINY,
        "ping",
        50_000,
        lambda n: talk("/sink", frame(PING, bytes(125)) * n, reads=False),
    ),
    Pattern("pongs", TINY, "pong", 100_000, lambda n: talk("/sink", frame(PONG) * n)),
    Pattern(
        "pings between fragments",
        TINY,
        "frame",
        100_000,
        lambda n: talk(
            "/sink", frame(TEXT, fin=False) + (frame(PING) + frame(CONTINUATION, b"x", fin=False)) * (n // 2)
        ),
    ),
    Pattern("frames without a mask", VISITS, "visit", 400, lambda n: visits(n, frame(TEXT, b"hello", masked=False))),
    Pattern("reserved bits", VISITS, "visit", 400, lambda n: visits(n, frame(TEXT, b"hello", rsv=2))),
    Pattern("reserved opcodes", VISITS, "visit", 400, lambda n: visits(n, frame(3))),
    Pattern("closes", VISITS, "visit", 400, lambda n: visits(n, frame(CLOSE, b"\x03\xe8"))),
    Pattern(
        "256 KB behind a close",
        VISITS,
        "visit",
        40,
        lambda n: visits(n, frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"x") * 36_000),
        at_once=4,
    ),
    Pattern("handshakes", VISITS, "visit", 400, openings),
    Pattern(
        "TCP resets behind a handshake",
        VISITS,
        "visit",
        400,
        lambda n: [Conversation([handshake("/echo")], leaves=True, reads=False)] * n,
    ),
    Pattern(
        "handshakes with 120 header fields",
        VISITS,
        "visit",
        100,
        lambda n: openings(n, *(b"X-%d: %b" % (at, b"y" * 400) for at in range(120))),
        at_once=10,
    ),
    Pattern(
        "offers of 2,000 extensions",
        VISITS,
        "visit",
        50,
        lambda n: openings(n, extensions=long_list(b"permessage-deflate; x_y=15")),
        at_once=4,
    ),
    Pattern(
        "an offer with 6,000 parameters",
        VISITS,
        "visit",
        50,
        lambda n: openings(n, extensions=b"permessage-deflate" + b'; a="\\b"' * 6000),
        at_once=4,
    ),
    Pattern(
        "offers of 9,000 subprotocols",
        VISITS,
        "visit",
        50,
        lambda n: openings(n, b"Sec-WebSocket-Protocol: " + b", ".join(b"%x" % at for at in range(9_000))),
        at_once=4,
    ),
    Pattern(
        "text of 15 MiB in one frame",
        STREAM,
        "message",
        4,
        lambda n: talk("/sink", *[frame(TEXT, EMOJI * (15 * MIB // 4))] * n),
    ),
    Pattern(
        "text of 16 MiB, ASCII but for its end",
        WIDE,
        "message",
        4,
        lambda n: talk("/sink", *[frame(TEXT, b"x" * (LARGEST - 4) + EMOJI)] * n),
    ),
    Pattern(
        "binary of 16 MiB in one frame",
        STREAM,
        "message",
        4,
        lambda n: talk("/sink", *[frame(BINARY, bytes(LARGEST))] * n),
    ),
    Pattern(
        "text of 8 MiB, invalid at the end",
        STREAM,
        "visit",
        4,
        lambda n: visits(n, frame(TEXT, b"x" * (8 * MIB - 1) + b"\xff")),
        at_once=1,
    ),
    Pattern("lengths of 2 to the 63", VISITS, "visit", 400, lambda n: visits(n, b"\x82\xff" + b"\x7f" + b"\xff" * 7)),
    Pattern(
        "a message in 1-byte segments",
        SEGMENTS,
        "segment",
        20_000,
        lambda n: talk("/sink", *each_byte(frame(BINARY, bytes(n)))),
    ),
    Pattern(
        "messages of 1 byte in 1-byte segments",
        SEGMENTS,
        "segment",
        20_000,
        lambda n: talk("/sink", *each_byte(frame(TEXT, b"x") * (n // 7))),
    ),
    Pattern(
        "bombs of 16 MiB, the most that is taken",
        INFLATE,
        "message",
        6,
        lambda n: talk("/sink", *[bomb(LARGEST)] * n, extensions=DEFLATE),
    ),
    Pattern(
        "bombs of 256 MiB",
        INFLATE,
        "visit",
        4,
        lambda n: [Conversation([bomb(256 * MIB)], handshake("/sink", extensions=DEFLATE), leaves=True)] * n,
        at_once=1,
    ),
    Pattern(
        "bombs of 64 KiB",
        INFLATE,
        "message",
        2_000,
        lambda n: talk("/sink", bomb(65_536) * n, extensions=DEFLATE),
    ),
    Pattern(
        "bombs of 1 MiB in 1-byte fragments",
        INFLATE,
        "message",
        20,
        lambda n: talk("/sink", fragments(deflate(bytes(MIB)), BINARY, rsv=4) * n, extensions=DEFLATE),
    ),
    Pattern(
        "bombs of 64 KiB, not received, on 12 WebSockets",
        UNREAD,
        "message",
        36_000,
        lambda n: [*talk("/deaf", bomb(65_536) * (n // 12), extensions=DEFLATE)] * 12,
    ),
    Pattern(
        "bombs of 16 MiB, not received, on 12 WebSockets",
        BOMBS,
        "message",
        180,
        lambda n: [*talk("/deaf", bomb(LARGEST) * (n // 12), extensions=DEFLATE)] * 12,
    ),
    Pattern(
        "bombs of 1 MiB, not received, --ws-max-size 1MiB, on 12 WebSockets",
        SMALL_BOMBS,
        "message",
        2_700,
        lambda n: [*talk("/deaf", bomb(MIB) * (n // 12), extensions=DEFLATE)] * 12,
        options=("--ws-max-size", "1MiB"),
    ),
    Pattern(
        "empty stored blocks",
        BLOCKS,
        "block",
        200_000,
        lambda n: talk("/sink", frame(BINARY, EMPTY_STORED * n, rsv=4), extensions=DEFLATE),
    ),
    Pattern(
        "empty blocks of fixed codes",
        BLOCKS,
        "block",
        400_000,
        lambda n: talk("/sink", frame(BINARY, empty_fixed(n), rsv=4), extensions=DEFLATE),
    ),
    Pattern(
        "empty blocks of dynamic codes",
        BLOCKS,
        "block",
        80_000,
        lambda n: talk("/sink", frame(BINARY, tiny_dynamic(n), rsv=4), extensions=DEFLATE),
    ),
    Pattern(
        "messages of 1,000 final blocks",
        BLOCKS,
        "block",
        120_000,
        lambda n: talk("/sink", frame(BINARY, FINALS, rsv=4) * (n // 1000), extensions=DEFLATE),
    ),
    Pattern(
        "messages of 1,000 final blocks, context kept",
        BLOCKS,
        "block",
        120_000,
        lambda n: talk("/sink", frame(BINARY, FINALS, rsv=4) * (n // 1000), extensions=DEFLATE),
        options=TAKEOVER,
    ),
    Pattern(
        "bombs of 64 KiB, context kept",
        INFLATE,
        "message",
        2_000,
        lambda n: talk("/sink", bomb(65_536) * n, extensions=DEFLATE),
        options=TAKEOVER,
    ),
    Pattern(
        "bombs of 1 MiB, echoed",
        ECHOES,
        "message",
        60,
        lambda n: talk("/echo", bomb(MIB) * n, extensions=DEFLATE),
    ),
    Pattern(
        "bombs of 1 MiB, echoed, context kept",
        ECHOES,
        "message",
        60,
        lambda n: talk("/echo", bomb(MIB) * n, extensions=DEFLATE),
        options=TAKEOVER,
    ),
    Pattern(
        "messages of 1 byte, not received",
        UNREAD,
        "message",
        200_000,
        lambda n: talk("/deaf", frame(TEXT, b"x") * n),
    ),
    Pattern(
        "echoes of 64 KiB that nobody reads",
        UNREAD,
        "message",
        400,
        lambda n: talk("/echo", frame(BINARY, bytes(65_536)) * n, reads=False),
    ),
    Pattern(
        "a stream that nobody reads, on 20 WebSockets",
        UNREAD,
        "connection",
        20,
        lambda n: [*talk("/flood", reads=False)] * n,
    ),
)
