"""The messages that every client sends: the same ones in every run."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

LARGEST = 256 * 1024  # bytes
EDGES = (0, 1, 2, 125, 126, 127, 255, 256, 257, 32767, 32768, 65535, 65536, 65537, LARGEST - 1, LARGEST)
WORDS = ("price", "symbol", "größe", "価格", "цена", "😀", "\u2028", '"', ":", ", ", "0.25", "null", "\0", "\ufeff")


def corpus(number: int) -> Iterator[str | bytes]:
    """`number` messages, text and binary, from empty to LARGEST bytes; some hardly compress, most do."""
    rng = random.Random(7692)
    for index in range(number):
        # Each edge once as text and once as binary, then sizes that are as often below 512 bytes as above.
        size = EDGES[index // 2] if index < 2 * len(EDGES) else int(2 ** rng.uniform(0, 18))
        yield text(rng, size) if index % 2 else binary(rng, size)


def text(rng: random.Random, size: int) -> str:
    """A text of `size` bytes of UTF-8."""
    words = rng.choices(WORDS, k=min(size, 2000)) or [""]
    data = "".join(words).encode()
    return fill((data * (size // len(data) + 1))[:size].decode(errors="ignore") if data else "", size)


def fill(cut: str, size: int) -> str:
    return cut + "x" * (size - len(cut.encode()))


def binary(rng: random.Random, size: int) -> bytes:
    if rng.random() < 0.3:
        return rng.randbytes(size)
    data = rng.randbytes(rng.randint(1, 5000))
    return (data * (size // len(data) + 1))[:size]


def write(path: Path, number: int) -> None:
    """The file that clients read: for each message a byte (1 text, 2 binary), its size in four bytes, its bytes."""
    with path.open("wb") as file:
        for message in corpus(number):
            data = message.encode() if isinstance(message, str) else message
            file.write(struct.pack("!BI", 1 if isinstance(message, str) else 2, len(data)) + data)
