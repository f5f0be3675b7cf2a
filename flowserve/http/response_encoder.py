# cython: language_level=3, annotation_typing=False, binding=False
"""Encoding HTTP/1.1 responses (RFC 9112). No I/O."""

from __future__ import annotations

import http
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from flowserve.errors import ASGIMisuse, HandshakeError, RequestError
from flowserve.grammar import is_token_bytes
from flowserve.http.messages import RequestHead, as_bytes, tokens

_STATUS_LINES = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in http.HTTPStatus}
_MAX_CACHED_VALUE = 256
"""Bytes of a field's value up to which the field is cached; longer values are mostly cookies."""
_MAX_DIGITS = 18
"""Digits of a Content-Length: any such number fits into a signed 64-bit integer."""
_MAX_CACHED_FIELDS = 512
_field_cache: dict[tuple[bytes, bytes], tuple[bytes, bytes, bytes]] = {}
"""Fields that were checked, with the results of `checked_fields()`: applications send the same few repeatedly."""
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class ResponseEncoder:
    """Encodes the response to one request, framed by RFC 9112 section 6: call `start()`, `head()`, then `body()`.

    After `head()`, `started` is true, and `keep_alive` says whether the connection persists after the response.
    """

    __slots__ = (
        "_chunked",
        "_connection_close",
        "_connection_line",
        "_declared_length",
        "_head_only",
        "_lines",
        "_remaining",
        "_replaced_defaults",
        "_request",
        "_status",
        "keep_alive",
        "started",
    )

    def __init__(self, request: RequestHead) -> None:
        self._request = request
        self.keep_alive = self._request.keep_alive  # through the attribute, whose type Cython knows
        self.started = False
        self._status = 0
        self._lines: list[bytes] = []  # the status line, a place for the server's lines, the application's lines
        self._declared_length: int | None = None  # value of the application's Content-Length
        self._connection_line: bytes | None = None  # the application's Connection field
        self._connection_close = False  # it contains "close"
        self._replaced_defaults: tuple[bytes, ...] = ()  # names of the server's fields that the application sends too
        self._chunked = False
        self._head_only = False  # the response has no content
        self._remaining: int | None = None  # bytes of the body that must follow, if declared

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Set status and header fields of the response. Raises ASGIMisuse if they can't be sent."""
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
                self._connection_line = line
                self._connection_close = self._connection_close or b"close" in tokens(value)
            elif name == b"transfer-encoding":
                continue  # the server frames the body
            elif name in (b"date", b"server"):
                self._replaced_defaults = (*self._replaced_defaults, name)
            lines.append(line)
        self._status = status
        self._lines = lines
        self._declared_length = declared

    def head(self, defaults: bytes, length: int | None) -> bytes:
        """Return the head of the response.

        `defaults` are the server's header lines; the application's Date or Server field replaces the line of that name.
        `length` is the length of the body in bytes, if it is complete. Raises ASGIMisuse if it is not as declared.
        """
        request = self._request
        lines = self._lines
        bodyless = self._status == 204 or self._status == 304
        self._head_only = bodyless or request.method == "HEAD"
        if self._declared_length is not None:
            self._remaining = None if self._head_only else self._declared_length
        elif not bodyless:
            if length is not None and (length or not self._head_only):
                lines.append(_length_line(length))
            elif not self._head_only:
                self._chunked = request.http_version == "1.1"
                if self._chunked:
                    lines.append(b"transfer-encoding: chunked\r\n")
                else:
                    self.keep_alive = False
        if self._connection_close:
            self.keep_alive = False
        elif not self.keep_alive:
            lines = [line for line in lines if line is not self._connection_line]
            lines.append(b"connection: close\r\n")
        elif self._connection_line is None and request.http_version == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        if self._remaining is not None and length is not None and length != self._remaining:
            raise ASGIMisuse(f"the response body has {length} bytes, its content-length says {self._remaining}")
        self.started = True
        lines[1] = _without_fields(defaults, *self._replaced_defaults) if self._replaced_defaults else defaults
        lines.append(b"\r\n")
        return b"".join(lines)

    def body(self, data: bytes, more: bool) -> bytes:
        """Return the encoding of a part of the body; `more` is false for the last. Raises ASGIMisuse if the body is
        longer or shorter than its Content-Length."""
        if self._head_only:
            return b""
        if self._remaining is not None:
            self._remaining -= len(data)
            if self._remaining < 0:
                raise ASGIMisuse("the response body is longer than its content-length")
            if self._remaining and not more:
                raise ASGIMisuse("the response body is shorter than its content-length")
        if not self._chunked:
            return data
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return chunk if more else chunk + b"0\r\n\r\n"


@lru_cache(maxsize=1024)
def _length_line(length: int) -> bytes:
    return b"content-length: %d\r\n" % length


def status_line(status: int) -> bytes:
    """Return the status line of a response."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def encode_error(error: RequestError | HandshakeError, defaults: bytes, head_only: bool = False) -> bytes:
    """Return the complete response for `error`, with the fields that it has: plain text, with 'connection: close'.
    `defaults` as for `ResponseEncoder.head()`; `head_only` omits the content, for HEAD."""
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
    """Return a 101 response with the handshake's `own` fields, names in lower case, and the application's `extra`
    fields. Both replace `defaults` of the same name. Raises ASGIMisuse like `checked_fields()`, for `extra` only."""
    parts = [status_line(101), b""]
    names = []
    for name, value in own:
        names.append(name)
        parts.append(name)
        parts.append(b": ")
        parts.append(value)
        parts.append(b"\r\n")
    for name, _, line in checked_fields(extra):
        names.append(name)
        parts.append(line)
    parts[1] = _without_fields(defaults, *names)
    parts.append(b"\r\n")
    return b"".join(parts)


def checked_fields(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes, bytes]]:
    """Return an application's header fields as (name in lower case, value, encoded line).

    Raises ASGIMisuse for names and values that HTTP does not allow (RFC 9110 sections 5.1 and 5.5), so that they are
    never sent.
    """
    checked = []
    try:
        for field in fields:
            checked.append(_cached_field(field) or _check_field(*field))
    except (TypeError, ValueError):
        raise ASGIMisuse("headers must be pairs of bytes: (name, value)") from None
    return checked


def _cached_field(field: Any) -> tuple[bytes, bytes, bytes] | None:
    try:
        return _field_cache.get(field)
    except (TypeError, ValueError):  # not hashable: a list, or a pair with a bytearray or memoryview
        return None


def _check_field(name: Any, value: Any) -> tuple[bytes, bytes, bytes]:
    """Check one field and add it to the cache."""
    name, value = as_bytes(name, "a header's name"), as_bytes(value, "a header's value")
    if not is_token_bytes(name):
        raise ASGIMisuse(f"{name!r} can't be the name of a header")
    bad = _BAD_VALUE.search(value)
    if bad is not None:
        raise ASGIMisuse(f"a header's value has {bad[0]!r} in it, which HTTP does not allow")
    checked = name.lower(), value, b"%b: %b\r\n" % (name, value)
    if len(value) <= _MAX_CACHED_VALUE:
        if len(_field_cache) >= _MAX_CACHED_FIELDS:
            _field_cache.clear()  # the frequent ones are soon back
        _field_cache[name, value] = checked
    return checked


def _content_length(value: bytes, declared: int | None) -> int:
    if not value.isdigit() or len(value) > _MAX_DIGITS or (declared is not None and int(value) != declared):
        raise ASGIMisuse("content-length must be one number, of at most 18 digits")
    return int(value)


@lru_cache(maxsize=64)
def _without_fields(lines: bytes, *names: bytes) -> bytes:
    """Return the server's header lines, which change once a second, without those of the given names."""
    return b"".join([line for line in lines.splitlines(keepends=True) if line.partition(b":")[0].lower() not in names])
