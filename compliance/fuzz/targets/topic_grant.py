"""A grant that a client shows to `topics.serve()`.

An input that begins with a byte of 0 is the payload of a grant that is signed with the server's secret: programs in
other languages sign, too, and may do it wrong. Any other is the whole text.

- Only InvalidGrant is raised.
- What was not signed with the secret is none.
- What a grant says has the types that the specification says, and it expires.
"""

from __future__ import annotations

import math
from typing import Any

from compliance.fuzz.findings import require
from flowserve.topics.serving.grants import Grant, InvalidGrant, _base64url, _mac, read_grant

MAX_LEN = 2000
_KEY = b"the secret of the server"
_OTHERS = b"the secret of another one"


def observe(data: bytes) -> Any:
    if data[:1] != b"\0":
        return _read(data.decode("latin-1"), _KEY)
    payload = _base64url(data[1:])
    seen = _read(f"v1.{payload}.{_mac(_KEY, payload)}", _KEY)
    require(isinstance(_read(f"v1.{payload}.{_mac(_OTHERS, payload)}", _KEY), str), "another secret's grant is taken")
    return seen


def _read(text: str, key: bytes) -> Any:
    try:
        found = read_grant(text, (key,))
    except InvalidGrant as error:
        return str(error)
    _check(found)
    return sorted(found.topics), found.prefixes, sorted(found.actions), found.expires


def _check(found: Grant) -> None:
    names = (*found.topics, *found.prefixes, *found.actions)
    require(all(isinstance(each, str) for each in names), "a name that is no text", names)
    require(math.isfinite(found.expires), "a grant that does not expire", found.expires)
    for topic in found.topics:
        for action in ("subscribe", "publish"):
            require(found.allows(topic, action) == (action in found.actions), "it allows something else", topic)
