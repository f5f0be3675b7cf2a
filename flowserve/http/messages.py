# cython: language_level=3, annotation_typing=False, binding=False
"""HTTP as values: a request, and what its header fields say (RFC 9110). No I/O."""

from __future__ import annotations

import re
from binascii import a2b_qp
from typing import Any

from flowserve.errors import ASGIMisuse

RawHeaders = list[tuple[bytes, bytes]]
"""Fields in the order they came; names in lower case."""

_LITERAL = re.compile("%(?![0-9A-Fa-f]{2})")
"""A percent sign that begins no encoded byte, and so stands for itself."""


class RequestHead:
    """The head of a request.

    `target` is as it was received; `raw_path` and `query_string` are its parts, `path` is `raw_path` with its
    percent-encoding decoded as UTF-8. `http_version` is '1.0', '1.1' or '2'. `has_body` says whether a body follows,
    `forwarded` whether there are fields in which proxies tell of the client.
    """

    __slots__ = (
        "expect_continue",
        "forwarded",
        "has_body",
        "headers",
        "http_version",
        "keep_alive",
        "method",
        "path",
        "query_string",
        "raw_path",
        "target",
        "upgrade",
    )

    def __init__(self, method: str, target: bytes, http_version: str, headers: RawHeaders) -> None:
        self.method = method
        self.target = target
        self.http_version = http_version
        self.headers = headers
        self.raw_path = target
        self.query_string = b""
        self.path = self.raw_path.decode("ascii", "replace")
        if "?" in self.path:  # asked of a str: bytes take five times as long
            self.raw_path, _, self.query_string = target.partition(b"?")
            self.path = self.raw_path.decode("ascii", "replace")
        if "%" in self.path:
            self.path = decoded(self.path)
        self.has_body = False
        self.keep_alive = True
        self.expect_continue = False
        self.upgrade = False  # there is a field of that name
        self.forwarded = False

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of every field called `name` (lower case)."""
        return [value for field, value in self.headers if field == name]

    def has_token(self, name: bytes, token: bytes) -> bool:
        """Return whether the lists in the fields called `name` contain `token` (both lower case), in any case."""
        for field, value in self.headers:
            if field == name and (value.lower() == token or token in tokens(value)):
                return True
        return False

    def is_websocket(self) -> bool:
        """Whether this asks for a WebSocket (RFC 6455 section 4.2.1), if perhaps wrongly.

        A request with a key counts without 'Connection: Upgrade' too: a proxy took it away, and the answer should
        say so.
        """
        return (
            self.upgrade
            and self.has_token(b"upgrade", b"websocket")
            and (self.has_token(b"connection", b"upgrade") or bool(self.values(b"sec-websocket-key")))
        )


def decoded(path: str) -> str:
    """Return `path` without its percent-encoding, as UTF-8 where it is: as `urllib.parse.unquote()`, which takes 7 ms
    for 60 KB. That of quoted-printable differs only in its sign, and Python decodes it in C."""
    quoted = _LITERAL.sub("%25", path).replace("=", "%3D").replace("%", "=")
    return a2b_qp(quoted.encode()).decode("utf-8", "replace")


def tokens(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, in lower case, without empty ones (RFC 9110 section 5.6.1)."""
    return [token for member in value.lower().split(b",") if (token := member.strip(b" \t"))]


def as_bytes(value: Any, name: str) -> bytes:
    """Return what an application hands over as exactly bytes, which compiled code insists on: whatever has a buffer,
    and of a subclass what it holds.

    Raises ASGIMisuse, with the `name` of the thing, for what has none.
    """
    if type(value) is bytes:
        return value
    try:
        return memoryview(value).tobytes()
    except TypeError:
        raise ASGIMisuse(f"{name} must be bytes, not {type(value).__name__}") from None
