"""Messages that say whose they are, which in line, and what they have to hold; both ends make and check them."""

from __future__ import annotations

import zlib
from random import Random

WORDS = ("price", "volume", "żółw", "漢字", "😀", "bid", "ask", "0.00125", "null", '{"symbol": "FLOW"}')
SIZES = ((0, 100), (100, 2_000), (2_000, 20_000), (65_000, 66_000), (66_000, 200_000))
WEIGHTS = (50, 30, 12, 4, 4)

Message = str | bytes


class Corrupt(Exception):
    """A message is not what its sender made."""


def make(key: str, number: int, rng: Random, size: int | None = None) -> Message:
    """The message `number` of the sender `key`: text or binary, easy or hard to compress, of a random or given size."""
    if size is None:
        size = rng.randint(*rng.choices(SIZES, WEIGHTS)[0])
    if rng.random() < 0.5:
        filler = rng.randbytes(size)
        return b"%s %d %08x " % (key.encode(), number, zlib.crc32(filler)) + filler
    words = " ".join(rng.choices(WORDS, k=20)) if rng.random() < 0.7 else f"{rng.getrandbits(600):x}"
    text = (words * (size // len(words) + 1))[:size]
    return f"{key} {number} {zlib.crc32(text.encode()):08x} {text}"


def check(message: Message) -> tuple[str, int]:
    """The sender and the number of a message. Raises Corrupt."""
    binary = message if isinstance(message, bytes) else message.encode()
    try:
        key, number, checksum, filler = binary.split(b" ", 3)
        if int(checksum, 16) == zlib.crc32(filler):
            return key.decode(), int(number)
    except ValueError:
        pass
    raise Corrupt(f"{len(binary)} bytes that begin with {binary[:60]!r}")
