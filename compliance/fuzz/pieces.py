"""One input in several cuts: a stream's meaning must not depend on how it was cut (TCP has no messages)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from compliance.fuzz.findings import Broken

T = TypeVar("T")

_BYTE_BY_BYTE = 300
"""Bytes of a stream up to which it is fed one by one: plain Python takes its time."""
_MOST_PIECES = 150
"""About as many as a long stream is cut into."""


def cut(data: bytes, seed: int) -> list[bytes]:
    """The stream as the input's own `seed` says: byte by byte, or cut by chance."""
    if seed % 4 == 0 and len(data) <= _BYTE_BY_BYTE:
        return [data[at : at + 1] for at in range(len(data))]
    chance = random.Random(seed)
    longest = chance.choice((3, 17, 200, 4000))
    return list(_cut(data, chance, max(longest, len(data) // _MOST_PIECES)))


def whole(data: bytes) -> list[bytes]:
    """The stream in one piece, in none if it is empty."""
    return [data] if data else []


def _cut(data: bytes, chance: random.Random, longest: int) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = chance.randint(1, longest)
        yield data[at : at + size]
        at += size


def same_in_pieces(
    parse: Callable[[Sequence[bytes]], T], data: bytes, seed: int, known: Callable[[T], T] = lambda seen: seen
) -> T:
    """What `parse` makes of the stream. Raises Broken if it makes something else of it in pieces, apart from what
    `known()` leaves out: what is known to depend on how a stream was cut."""
    seen = parse(whole(data))
    expected, found = known(seen), known(parse(cut(data, seed)))
    if found != expected:
        raise Broken(f"a stream in pieces is not what it is as a whole{_where(expected, found)}", expected, found)
    return seen


def _where(one: object, other: object) -> str:
    """The place of the first difference, as far as both are alike in shape."""
    if isinstance(one, dict) and isinstance(other, dict):
        return f": {', '.join(key for key in one if one[key] != other.get(key))}"
    return ""
