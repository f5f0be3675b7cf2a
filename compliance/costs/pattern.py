"""What a pattern is, and what it may cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from compliance.costs.load import Conversation

HOLD_MS = 10.0
"""CPU time of the longest turn of the event loop, whatever the peer does."""


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


@dataclass(frozen=True)
class Pattern:
    """One thing that a peer can do. `build(n)` makes its conversations for n units."""

    name: str
    limits: Limits
    unit: str
    count: int
    build: Callable[[int], Sequence[Conversation]]
    at_once: int = 50
    options: Sequence[str] = field(default=())


STREAM = Limits("streams", "large payloads: copied, unmasked, checked as UTF-8", 10)
INFLATE = Limits("inflation", "each byte may stand for a thousand; inflated in pieces, of which one is kept", 3000)
BLOCKS = Limits("DEFLATE blocks", "blocks that give nothing cost a table each, in zlib", 200)
TINY = Limits("tiny units", "a frame, chunk or message of a byte or none: some function calls for six bytes", 400)
SEGMENTS = Limits("tiny segments", "a wake-up of the loop and a read for each byte, by the kernel's way", 60_000)
REQUESTS = Limits("requests", "the application is called for each", 5000)
HEADS = Limits("large heads", "up to 64 KiB a head, parsed once", 100)
VISITS = Limits("visits", "a connection, or a handshake, for a few bytes each", 0, us_per_connection=3000)
UNREAD = Limits("unread", "what the application does not take, or the peer: held by backpressure", 400, memory_mib=16)
ECHOES = Limits("echoes", "what a bomb holds is compressed again", 6000)
EXTENDED = Limits("extensions and trailers", "grammar of what nobody reads, checked by regular expressions", 100)
TLS_VISITS = Limits("TLS visits", "a signature and a key exchange each, in OpenSSL", 0, us_per_connection=10_000)
TLS = "tls"
"""Stands for the options that name the certificate."""
PROXY = "--proxy-protocol"
