"""Reading the log of a topic in Redis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flowserve.errors import TopicsError
from flowserve.topics.backplane import Reading
from flowserve.topics.position import BEGINNING, NOWHERE, Place
from flowserve.topics.redis.link import pack
from flowserve.topics.redis.scripts import MALFORMED, decode_log, escape, keys_of, read_command

_EPOCH, _CHECK = re.compile("[0-9a-f]{16}"), re.compile("[0-9a-f]{8}")
_LARGEST = 1 << 53
"""Numbers beyond are inexact in Lua."""


def command_to_read(prefix: str, topic: str, after: Place) -> bytes:
    """Return the command that reads what follows a place, which may come from a client."""
    return pack(read_command(keys_of(prefix, escape(topic), ""), _known(after)))


def decode_reading(topic: str, after: Place, answer: Sequence[Any]) -> Reading:
    """Return what the answer to that command says. Raises TopicsError if the log can't be read."""
    epoch, offset, check, complete, begin, begin_check, *entries = answer
    name = epoch.decode()
    try:
        messages = [*decode_log(topic, name, begin + 1, entries[0])] if entries else []
    except MALFORMED as error:
        raise TopicsError(f"the log of the topic {topic!r} in Redis can't be read: {error}") from None
    start = after if complete and after != BEGINNING else Place(name, begin, begin_check.decode())
    return Reading(bool(complete), messages, Place(name, offset, check.decode()), start)


def _known(place: Place) -> Place:
    """Return a place, or NOWHERE if it can't be one of Redis."""
    plausible = _EPOCH.fullmatch(place.epoch) and _CHECK.fullmatch(place.check) and place.offset <= _LARGEST
    return place if plausible or place == BEGINNING else NOWHERE
