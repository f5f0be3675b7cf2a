"""What a pattern is, and what it may cost: two to five times what is seen on the reference machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compliance.costs.load import Conversation

HOLD_MS = 10.0
"""CPU time of the longest turn of the event loop, whatever the peer does; what has more says why."""


@dataclass(frozen=True)
class Limits:
    """What patterns of one class may cost: CPU by the byte and by the connection, memory likewise above a base."""

    name: str
    why: str
    ns_per_byte: float
    us_per_connection: float = 1500.0
    memory_mib: float = 4.0
    memory_per_byte: float = 0.0
    memory_kib_per_connection: float = 64.0
    hold_ms: float = HOLD_MS


@dataclass(frozen=True)
class Pattern:
    """One thing that a peer can do. `build(n)` makes its conversations for n units, of which so many run `at_once`."""

    name: str
    limits: Limits
    unit: str
    count: int
    build: Callable[[int], Sequence[Conversation]]
    at_once: int = 50
    options: tuple[str, ...] = ()
    """Of the server."""


TLS = "tls"
"""Stands for the options that name the certificate."""
PROXY = "--proxy-protocol"

LARGEST = 52
"""MiB: a message of --ws-max-size thrice (as it comes, as it is handed over, and the one before) and a little."""

STREAM = Limits(
    "streams",
    "large payloads: copied, unmasked, checked as UTF-8; the last step: up to 1 ms a MiB of --ws-max-size",
    10,
    memory_mib=LARGEST,
    hold_ms=16,
)
WIDE = Limits(
    "texts of which one character is wide",
    "Python has 4 bytes for each character then: copied in one step, up to 4 ms for each MiB of --ws-max-size",
    10,
    memory_mib=192,
    hold_ms=64,
)
UPLOADS = Limits("uploads", "large bodies: copied twice", 5)
INFLATE = Limits("inflation", "each byte may stand for a thousand, at 1 ns each", 3000, memory_mib=LARGEST)
ECHOES = Limits("echoes", "what a bomb holds is compressed again", 6000, memory_mib=LARGEST)
BLOCKS = Limits("DEFLATE blocks", "blocks that give nothing cost a table each, in zlib", 600)
TINY = Limits("tiny units", "a frame, chunk or message of a byte or none: some function calls for six bytes", 300)
SEGMENTS = Limits("tiny segments", "a turn of the loop and a read for each byte, if none come together", 60_000)
REQUESTS = Limits(
    "requests", "the application is called for each, in a task of its own: 25 us for 20 to 80 bytes", 3000
)
HEADS = Limits("large heads", "up to 64 KiB a head; percent-encoding is the dearest, then fields of few bytes", 150)
EXTENDED = Limits("extensions and trailers", "what nobody reads, checked by regular expressions nevertheless", 150)
VISITS = Limits("visits", "a connection, or a handshake, for a few bytes", 0, us_per_connection=1000)
TLS_VISITS = Limits("TLS visits", "a signature and a key exchange each, in OpenSSL", 0, us_per_connection=5000)
BOMBS = Limits(
    "unread bombs",
    "a connection holds one message of --ws-max-size, and has inflated no other",
    0,
    us_per_connection=60_000,
    memory_mib=16,
    memory_kib_per_connection=18 * 1024,
)
SMALL_BOMBS = Limits(
    "unread bombs with --ws-max-size 1MiB",
    "likewise: 40 MiB on 12 connections",
    0,
    us_per_connection=6000,
    memory_mib=16,
    memory_kib_per_connection=2 * 1024,
)
UNREAD = Limits("unread", "what the application or the peer does not take: backpressure holds it", 500, memory_mib=16)
ENDLESS = Limits(
    "endless responses",
    "an application that sends to a client which has left may go on for --timeout-disconnect",
    500,
    us_per_connection=60_000,
    memory_mib=16,
)
