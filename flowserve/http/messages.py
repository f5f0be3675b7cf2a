# cython: language_level=3, annotation_typing=False, binding=False
"""The head of an HTTP request, and helpers to read header fields (RFC 9110). No I/O."""

from __future__ import annotations

import re
from binascii import a2b_qp
from functools import lru_cache
from typing import Any

from flowserve.errors import ASGIMisuse

RawHeaders = list[tuple[bytes, bytes]]
"""Header fields in the order received, as (name, value); names in lower case."""

_HOST = re.compile(
    rb"(?:\[[0-9A-Za-z:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"  # RFC 3986 section 3.2.2
)
_MAX_HOST = 261
"""Bytes of a Host field: a name of 255 (RFC 1035 section 2.3.4), a colon, a port."""
_LITERAL_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
"""A percent sign that is not followed by two hexadecimal digits, and so is literal."""


def is_host(value: bytes) -> bool:
    """Whether a Host field may have this value (RFC 9110 section 7.2)."""
    return len(value) <= _MAX_HOST and _matches_host(value)


@lru_cache(maxsize=256)
def _matches_host(value: bytes) -> bool:
    """Cached: clients send few different ones."""
    return _HOST.fullmatch(value) is not None


class RequestHead:
    """The head of a request.

    `target` is the request target in origin form, or "*"; `raw_path` and `query_string` are its parts, `path` is
    `raw_path` percent-decoded as UTF-8. `http_version` is '1.0', '1.1' or '2'.
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
        "repeated",
        "scope",
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
        if "?" in self.path:  # searching bytes takes five times as long
            self.raw_path, _, self.query_string = target.partition(b"?")
            self.path = self.raw_path.decode("ascii", "replace")
        if "%" in self.path:
            self.path = unquote_path(self.path)
        self.has_body = False  # a body follows
        self.keep_alive = True  # the connection may persist after the response (RFC 9112 section 9.3)
        self.expect_continue = False  # the client waits for 100 (Continue) (RFC 9110 section 10.1.1)
        self.upgrade = False  # there is an Upgrade field
        self.forwarded = False  # there is a Forwarded, X-Forwarded-For or X-Forwarded-Proto field
        self.repeated = False  # it has come more than once, byte for byte, on a connection
        self.scope: Any = None  # what the ASGI side keeps for when it comes once more

    def with_line(self, method: str, target: bytes) -> RequestHead:
        """Return a request with the same fields, none of which is for a body or an upgrade, in HTTP/1.1."""
        request = RequestHead(method, target, "1.1", self.headers)
        request.expect_continue = self.expect_continue
        request.forwarded = self.forwarded
        return request

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all fields named `name` (lower case)."""
        return [value for field, value in self.headers if field == name]

    def has_token(self, name: bytes, token: bytes) -> bool:
        """Whether the lists in the fields named `name` contain `token` (both lower case), in upper or lower case."""
        for field, value in self.headers:
            if field == name and (value.lower() == token or token in tokens(value)):
                return True
        return False

    def is_websocket(self) -> bool:
        """Whether this is an opening handshake (RFC 6455 section 4.2.1), valid or not.

        A request with a key counts even without 'Connection: Upgrade': a proxy has removed that, and the response
        should say so.
        """
        return (
            self.upgrade
            and self.has_token(b"upgrade", b"websocket")
            and (self.has_token(b"connection", b"upgrade") or bool(self.values(b"sec-websocket-key")))
        )


def unquote_path(path: str) -> str:
    """Return `path` percent-decoded as UTF-8, like `urllib.parse.unquote()`, which takes 7 ms for 60 KB.
    Quoted-printable differs only in its escape character, and Python decodes it in C."""
    quoted = _LITERAL_PERCENT.sub("%25", path).replace("=", "%3D").replace("%", "=")
    return a2b_qp(quoted.encode()).decode("utf-8", "replace")


def tokens(value: bytes) -> list[bytes]:
    """Return the non-empty members of a comma-separated list, in lower case (RFC 9110 section 5.6.1)."""
    return [token for member in value.lower().split(b",") if (token := member.strip(b" \t"))]


def as_bytes(value: Any, name: str) -> bytes:
    """Return a bytes-like object of the application as exactly `bytes`, which compiled code requires.

    Raises ASGIMisuse, with `name` for the value, for anything else.
    """
    if type(value) is bytes:
        return value
    try:
        return memoryview(value).tobytes()
    except TypeError:
        raise ASGIMisuse(f"{name} must be bytes, not {type(value).__name__}") from None
