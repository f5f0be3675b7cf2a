# cython: language_level=3, annotation_typing=False, binding=False
"""HTTP/1.1: bytes out of responses (RFC 9112). No I/O."""

from __future__ import annotations

import http
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from flowserve.errors import ASGIMisuse, HandshakeError, RequestError
from flowserve.http.messages import RequestHead, as_bytes, tokens

_STATUS_LINES = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in http.HTTPStatus}
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MAX_KEPT = 256
"""Bytes of a field's value: longer ones, cookies mostly, are not kept as known to be good."""
_MAX_DIGITS = 18
"""Digits of a Content-Length: what they can say fits into 64 bits with a sign."""
_MOST_KNOWN = 512
_known: dict[tuple[bytes, bytes], tuple[bytes, bytes, bytes]] = {}
"""Fields that were sent, as `checked_fields()` returns them: applications send the same few again and again."""
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class ResponseEncoder:
    """Bytes of the response to one request, framed as RFC 9112 section 6 says: `start()`, `head()`, `body()`.

    After `head()`, `started` is true, and `keep_alive` says whether the connection can be used for another request.
    """

    __slots__ = (
        "_chunked",
        "_closes",
        "_connection",
        "_declared",
        "_expected",
        "_head_only",
        "_lines",
        "_replaced",
        "_request",
        "_status",
        "keep_alive",
        "started",
    )

    def __init__(self, request: RequestHead) -> None:
        self._request = request
        self.keep_alive = self._request.keep_alive  # by way of the attribute, whose type is known
        self.started = False
        self._status = 0
        self._lines: list[bytes] = []  # the status line, a place for the server's own, and the application's
        self._declared: int | None = None  # bytes of body, as the application's content-length has it
        self._connection: bytes | None = None  # the line, if the application sends one
        self._closes = False  # that line says so
        self._replaced: tuple[bytes, ...] = ()  # fields of the server's own that the application sends itself
        self._chunked = False
        self._head_only = False
        self._expected: int | None = None  # bytes of body still to come

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take what the application says of the response. Raises ASGIMisuse for what can't be sent."""
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise ASGIMisuse(f"status must be an int from 200 to 999, not {status!r}")
        lines = [status_line(status), b""]
        declared: int | None = None
        for name, value, line in checked_fields(headers):
            if name == b"content-length":
                repeated = declared is not None
                declared = _content_length(value, declared)
                if repeated or status == 204:
                    continue
            elif name == b"connection":
                self._connection = line
                self._closes = self._closes or b"close" in tokens(value)
            elif name == b"transfer-encoding":
                continue  # how the body is framed is the server's to say
            elif name in (b"date", b"server"):
                self._replaced = (*self._replaced, name)
            lines.append(line)
        self._status = status
        self._lines = lines
        self._declared = declared

    def head(self, defaults: bytes, length: int | None) -> bytes:
        """Return the head of the response.

        `defaults` are the server's own header lines; a date or server of the application's replaces those of that name.
        `length` is the body's, in bytes, when all of it is known. Raises ASGIMisuse where that is not as declared.
        """
        request = self._request
        lines = self._lines
        bodyless = self._status == 204 or self._status == 304
        self._head_only = bodyless or request.method == "HEAD"
        if self._declared is not None:
            self._expected = None if self._head_only else self._declared
        elif not bodyless:
            if length is not None and (length or not self._head_only):
                lines.append(_length_line(length))
            elif not self._head_only:
                self._chunked = request.http_version == "1.1"
                if self._chunked:
                    lines.append(b"transfer-encoding: chunked\r\n")
                else:
                    self.keep_alive = False
        if self._closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines = [line for line in lines if line is not self._connection]
            lines.append(b"connection: close\r\n")
        elif self._connection is None and request.http_version == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        if self._expected is not None and length is not None and length != self._expected:
            raise ASGIMisuse(f"the response body has {length} bytes, its content-length says {self._expected}")
        self.started = True
        lines[1] = _without(defaults, *self._replaced) if self._replaced else defaults
        lines.append(b"\r\n")
        return b"".join(lines)

    def body(self, data: bytes, more: bool) -> bytes:
        """Return the bytes for a part of the body. Raises ASGIMisuse when they don't fit the content-length."""
        if self._head_only:
            return b""
        if self._expected is not None:
            self._expected -= len(data)
            if self._expected < 0:
                raise ASGIMisuse("the response body is longer than its content-length")
            if self._expected and not more:
                raise ASGIMisuse("the response body is shorter than its content-length")
        if not self._chunked:
            return data
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return chunk if more else chunk + b"0\r\n\r\n"


@lru_cache(maxsize=1024)
def _length_line(length: int) -> bytes:
    return b"content-length: %d\r\n" % length


def status_line(status: int) -> bytes:
    """Return the first line of a response."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def encode_error(error: RequestError | HandshakeError, defaults: bytes, head_only: bool = False) -> bytes:
    """Return the whole response for `error`, as plain text; the connection is to be closed behind it. `defaults` are
    header lines that every response gets, `head_only` leaves the body out (HEAD)."""
    body = error.detail.encode()
    extra = b"".join(b"%b: %b\r\n" % field for field in error.headers)
    return b"%b%b%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        status_line(error.status),
        defaults,
        extra,
        len(body),
        b"" if head_only else body,
    )


def encode_switching(
    own: Iterable[tuple[bytes, bytes]], extra: Iterable[tuple[bytes, bytes]], defaults: bytes
) -> bytes:
    """Return a 101 response with the fields of the handshake's `own`, names in lower case, and the application's
    `extra`; these replace `defaults` of the same name. Raises ASGIMisuse as below, for `extra` alone."""
    parts = [status_line(101), b""]
    names = []
    for name, value in own:
        names.append(name)
        parts += (name, b": ", value, b"\r\n")
    for name, _, line in checked_fields(extra):
        names.append(name)
        parts.append(line)
    parts[1] = _without(defaults, *names)
    parts.append(b"\r\n")
    return b"".join(parts)


def checked_fields(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes, bytes]]:
    """Return what an application sends: names in lower case, values, and the lines for the wire.

    Raises ASGIMisuse for what HTTP does not allow (RFC 9110 sections 5.1 and 5.5), so that it never reaches the wire.
    """
    checked = []
    try:
        for field in fields:
            checked.append(_known_as(field) or _check(*field))
    except (TypeError, ValueError):
        raise ASGIMisuse("headers must be pairs of bytes: (name, value)") from None
    return checked


def _known_as(field: Any) -> tuple[bytes, bytes, bytes] | None:
    try:
        return _known.get(field)
    except (TypeError, ValueError):  # a list, a bytearray in it, or a memoryview
        return None


def _check(name: Any, value: Any) -> tuple[bytes, bytes, bytes]:
    """One of `checked_fields()`, which is then known."""
    name, value = as_bytes(name, "a header's name"), as_bytes(value, "a header's value")
    if not _TOKEN.fullmatch(name):
        raise ASGIMisuse(f"{name!r} can't be the name of a header")
    bad = _BAD_VALUE.search(value)
    if bad is not None:
        raise ASGIMisuse(f"a header's value has {bad[0]!r} in it, which HTTP does not allow")
    checked = name.lower(), value, b"%b: %b\r\n" % (name, value)
    if len(value) <= _MAX_KEPT:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()  # those that matter are soon back
        _known[name, value] = checked
    return checked


def _content_length(value: bytes, declared: int | None) -> int:
    if not value.isdigit() or len(value) > _MAX_DIGITS or (declared is not None and int(value) != declared):
        raise ASGIMisuse("content-length must be one number, of at most 18 digits")
    return int(value)


@lru_cache(maxsize=64)
def _without(lines: bytes, *names: bytes) -> bytes:
    """The server's own header lines, which change once a second, but those of these names."""
    return b"".join([line for line in lines.splitlines(keepends=True) if line.partition(b":")[0].lower() not in names])
