"""What is published, as bytes."""

from __future__ import annotations

import json as json_module
import re
from typing import Any

from flowserve.errors import TopicsError
from flowserve.topics.message import Kind

UNSET: Any = object()

MAX_KEY = 200
"""Characters of a key, whoever publishes."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def payload_of(text: str | None, data: Any, json: Any) -> tuple[bytes, Kind]:
    """Return the payload of one message. Raises TypeError for anything else."""
    if type(text) is str and data is None and json is UNSET:
        return text.encode(), Kind.TEXT  # as it is, mostly
    if (text is not None) + (data is not None) + (json is not UNSET) != 1:
        raise TypeError("publish one message: text, data=... or json=...")
    if text is not None:
        if not isinstance(text, str):
            raise TypeError(f"text is str, not {type(text).__name__}; write data=... for bytes, json=... for others")
        return text.encode(), Kind.TEXT
    if data is not None:
        try:
            return bytes(memoryview(data)), Kind.BINARY
        except TypeError:
            raise TypeError(f"data is bytes, not {type(data).__name__}; for other values write json=...") from None
    return json_of(json).encode(), Kind.JSON


def check_key(key: str | None) -> None:
    """Raise TypeError for a key that is no str, TopicsError for one that is too long, UnicodeEncodeError for one that
    can't be written in UTF-8."""
    if key is None:
        return
    if not isinstance(key, str):
        raise TypeError(f"key is str, not {type(key).__name__}")
    if len(key) > MAX_KEY:
        raise TopicsError(f"a key has {MAX_KEY} characters at most, not {len(key)}")
    if not key.isascii():
        key.encode()  # what can't be written raises here, whatever the backplane is


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


STRICT = json_module.JSONDecoder(parse_constant=_no_constant)
"""Reads JSON, which NaN is not. Raises ValueError, and RecursionError for what is nested too deep."""


def has_half_characters(text: str) -> bool:
    """Return whether a JSON text says half of a character, which UTF-8 can't hold."""
    if "\\u" not in text:
        return False
    return _SURROGATE.search(json_module.dumps(json_module.loads(text), ensure_ascii=False)) is not None


def json_of(value: Any) -> str:
    """Return the JSON text of a value, which UTF-8 can hold. Raises TypeError or ValueError if there is none."""
    try:
        made = json_module.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("the value is nested too deep for JSON") from None
    if made.isascii() or not _SURROGATE.search(made):
        return made
    # half of a character, which peers can send escaped, and which can be written so alone
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):x}", made)
