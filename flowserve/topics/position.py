"""Positions in the stream of a topic's messages."""

from __future__ import annotations

import os
import secrets
from typing import NamedTuple

_MAX_LENGTH = 100
"""Characters of a position: more than twice what there are at most."""


class Position(str):
    """Where a message stands in its topic: opaque text, to be kept and given back as `since`.

    It is empty, and so false, for a message that reached only this machine, because the backplane could not be reached.
    """

    __slots__ = ()


class Place(NamedTuple):
    """What a Position says."""

    epoch: str
    """Made anew with each log of a topic, so that positions in a log that is lost mean nothing in the next one."""
    offset: int
    """Of the message, counted from 1 without holes; 0 before the first."""
    check: str
    """Of that message: random, so that it shows if a log was rolled back and filled with other messages since."""

    def position(self) -> Position:
        """Return it as text."""
        epoch, offset, check = self
        return Position(f"{epoch}.{offset:x}.{check}")


def place_of(epoch: str, offset: int, check: str) -> Place:
    """Return a place, in half the time."""
    return tuple.__new__(Place, (epoch, offset, check))


_MAX_OFFSET = 2**53
"""Up to here Redis counts exactly."""

BEGINNING = Place("*", 0, "")
"""The place before the first message of a topic, whatever its epoch."""

NOWHERE = Place("", 0, "")
"""A place that no log has: like one that nobody has any more."""

KEPT = Place("-", 0, "")
"""Stands for the place before the oldest message that is kept, whichever that is."""


def new_epoch() -> str:
    """Return the epoch of a new log."""
    return secrets.token_hex(5)


_CHECK_SIZE = 8
_checks: list[str] = []
"""Some that were not used yet: the operating system is asked for many at a time."""


def new_check() -> str:
    """Return the check of a new message: 8 hexadecimal digits."""
    try:
        return _checks.pop()
    except IndexError:
        digits = secrets.token_hex(_CHECK_SIZE // 2 * 256)
        _checks.extend([digits[at : at + _CHECK_SIZE] for at in range(_CHECK_SIZE, len(digits), _CHECK_SIZE)])
        return digits[:_CHECK_SIZE]


if hasattr(os, "register_at_fork"):  # else there is no fork
    os.register_at_fork(after_in_child=_checks.clear)


def parse(text: object) -> Place | None:
    """Return what a position says, None for what is none: it may come from a client."""
    if not isinstance(text, str) or len(text) > _MAX_LENGTH or not text.isascii():
        return None
    try:
        epoch, offset, check = text.split(".")
        place = Place(epoch, int(offset, 16), check)
    except ValueError:
        return None
    return place if 0 <= place.offset <= _MAX_OFFSET and place.position() == text else None
