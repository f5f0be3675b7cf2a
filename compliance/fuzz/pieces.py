"""One input in several cuts: a stream's meaning must not depend on how it was cut (TCP has no messages)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from compliance.fuzz.findings import Broken

T = TypeVar("T")

_BYTE_BY_BYTE = 1024
"""Bytes of a stream up to which it is fed one by one, too: plain Python takes its time."""


def cuts(data: bytes, seed: int) -> Iterator[list[bytes]]:
    """The stream as a whole, cut by chance as `seed` says, and byte by byte."""
    yield [data] if data else []
    chance = random.Random(seed)
    longest = chance.choice((3, 17, 200, 4000))
    yield list(_cut(data, chance, longest))
    if len(data) <= _BYTE_BY_BYTE:
        yield [data[at : at + 1] for at in range(len(data))]


def _cut(data: bytes, chance: random.Random, longest: int) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = chance.randint(1, longest)
        yield data[at : at + size]
        at += size


def same_in_pieces(parse: Callable[[Sequence[bytes]], T], data: bytes, seed: int) -> T:
    """What `parse` makes of the stream. Raises Broken if it makes something else of it in pieces."""
    ways = cuts(data, seed)
    whole = parse(next(ways))
    for way in ways:
        found = parse(way)
        if found != whole:
            raise Broken(f"a stream in pieces is not what it is as a whole{_where(whole, found)}", whole, found)
    return whole


def _where(one: object, other: object) -> str:
    """The place of the first difference, as far as both are alike in shape."""
    if isinstance(one, dict) and isinstance(other, dict):
        return f": {', '.join(key for key in one if one[key] != other.get(key))}"
    return ""
