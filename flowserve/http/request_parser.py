# cython: language_level=3, annotation_typing=False, binding=False
"""Parsing HTTP/1.1 requests with httptools (RFC 9112). No I/O.

Theory of operation. A parser reads the requests of a connection one after the other, and is in one of three states:

- Idle: between requests (`_request` is None, `started` is false).
- In a head (`started`): bytes up to the empty line go to llhttp, which calls `on_url()`, `on_header()` and
  `on_headers_complete()`. The latter checks the request and sets `_request`.
- In a body (`_request` is set): the body is read here, by its length (`_remaining`) or by a ChunkedDecoder. llhttp
  never sees it, as it can't be stopped at the end of a body.

`feed()` stops at the end of each request and returns the bytes after it. An error is final.

Most clients that keep a connection send the same fields again. Those that equal the last ones, byte for byte, are not
parsed again (`_repeat()`), only the request line is, if it differs.

llhttp, the parser in httptools, rejects most means of request smuggling: bare CR and LF, space before the colon, folded
lines, control characters, Content-Length repeated or together with Transfer-Encoding. What it accepts wrongly is
rejected here. What it rejects wrongly, methods that are not in its list and versions from 1.2 on, it parses again with
a method and version that it knows (`_parse_again()`).
"""

from __future__ import annotations

import re
from typing import Any, NoReturn, Protocol

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from flowserve.errors import RequestError
from flowserve.http.chunked import ChunkedDecoder
from flowserve.http.field_names import FORWARDED, INTERPRETED, NAMES
from flowserve.http.foreign_protocols import foreign_protocol
from flowserve.http.messages import RawHeaders, RequestHead, is_host, tokens

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"(?:\r\n)*[^\r\n ]+ [^\r\n ]+ HTTP/([0-9]\.[0-9])\r\n")
"""A request line, and empty lines before it, which are ignored (RFC 9112 sections 2.2 and 3)."""
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")
_METHOD = re.compile(rb"(?:\r\n)*([!#$%&'*+\-.^_`|~0-9A-Z]{1,65})( |\Z)?")
"""A token without lower case letters, as the ASGI specification has methods in upper case."""
_MAX_METHOD = 64
_UNKNOWN_VERSION = re.compile(rb"((?:\r\n)*[^\r\n ]+ [^\r\n ]+ HTTP/)(1\.[2-9]|[02-9]\.[0-9])")
_VERSION_ERROR = "Only HTTP/1.0 and HTTP/1.1 are spoken here"
_PLAIN_LINE = re.compile(rb"(GET|HEAD|DELETE) (/[!\"$-~]*) HTTP/1\.1")
"""A request line as nearly all are, without its end; llhttp takes the same characters."""
_MAX_REPEATED = 2048
"""Bytes of a head that is kept, to be compared with the next one."""
_MAX_DIGITS = 18
"""Digits of a Content-Length after leading zeros: any such number fits into a signed 64-bit integer."""


class RequestHandler(Protocol):
    """The callbacks of a parser. A request may be given again, as long as its fields are the same."""

    def on_request(self, request: RequestHead) -> None:
        """Called when the head is complete."""

    def on_body(self, data: bytes) -> None:
        """Called for each part of the body."""

    def on_end(self) -> None:
        """Called when the request is complete."""


class RequestParser:
    """Parses the requests of one connection, one at a time.

    `started` is true while the head of a request is incomplete, from its first byte on.
    """

    __slots__ = (
        "_chunks",
        "_error",
        "_handler",
        "_head_start",
        "_headers",
        "_interpreted",
        "_last_bytes",
        "_last_host",
        "_max_count",
        "_max_size",
        "_method",
        "_method_error",
        "_parser",
        "_remaining",
        "_repeated",
        "_repeated_fields",
        "_repeated_line",
        "_request",
        "_size",
        "_target",
        "started",
    )

    def __init__(self, handler: RequestHandler, max_head_size: int, max_header_count: int) -> None:
        """`max_head_size` is the limit in bytes, from the method to the empty line; `max_header_count` that of header
        fields."""
        self._handler: Any = handler
        self._max_size = max_head_size
        self._max_count = max_header_count
        self._last_host: bytes | None = None  # value of the last valid Host field
        self._parser: Any = None  # an HttpRequestParser, whose callbacks are in this object
        self._repeated: RequestHead | None = None  # the last request, if its fields may come again
        self._repeated_line = self._repeated_fields = b""  # its request line without the end, and the rest of its head
        self.started = False
        self._reset()

    def _reset(self) -> None:
        self._request: RequestHead | None = None
        self._target = b""
        self._headers: RawHeaders = []
        self._interpreted: RawHeaders = []  # those of the fields that are in INTERPRETED
        self._size = 0  # bytes of the head so far
        self._head_start = b""  # the head, at least until its first field is complete
        self._method = b""  # the method, if llhttp does not know it
        self._method_error: HttpParserError | None = None  # llhttp's error for an unknown method that is incomplete
        self._last_bytes = b""  # the last 3 bytes of an incomplete head
        self._remaining = 0  # bytes of the body that have not been read
        self._chunks: ChunkedDecoder | None = None
        self._error: RequestError | None = None

    @property
    def in_head_request(self) -> bool:
        """Whether the head that is incomplete or was rejected is that of a HEAD request, whose response has no content
        (RFC 9110 section 9.3.2)."""
        return self._head_start.lstrip(b"\r\n").startswith(b"HEAD ")

    def close(self) -> None:
        """Break the reference cycles. Nothing must be fed afterwards."""
        self._parser = self._handler = self._repeated = None
        self._repeated_line = self._repeated_fields = b""

    def feed(self, data: bytes) -> bytes:
        """Parse up to the end of the current request, and return the bytes after it. Before its end, these are bytes of
        a body with many chunks, which the caller must feed again later.

        Raises RequestError for a request that RFC 9112 does not allow or that exceeds a limit. Nothing must be fed
        afterwards.
        """
        if self._repeated is not None and not self.started and (size := self._repeat(data)):
            self._handler.on_request(self._repeated)
            self._handler.on_end()
            return data[size:] if size < len(data) else b""
        while data:
            in_body = self._request is not None
            data = self._feed_body(data) if in_body else self._feed_head(data)
            if self._request is not None and not self._remaining and self._chunks is None:
                self._reset()
                self._handler.on_end()
                break
            if in_body:
                break
        return data

    def _feed_head(self, data: bytes) -> bytes:
        end = self._head_end(data)
        head = data if end >= len(data) else data[:end]
        if not self.started:
            self.started = True
            self._head_start = head
        elif not self._headers:
            self._head_start += head
        self._size += len(head)
        if self._method_error is None:
            self._parse_head(head)
        else:
            self._parse_again(self._method_error)
        if self._size > self._max_size:
            raise self._too_large()
        if self._request is not None:
            if self._request.has_body:
                self._parser = None  # it is of no use any more: it does not see the body
            self._keep(head)
            self._handler.on_request(self._request)
        elif not self._last_bytes and self._head_start.strip(b"\r\n"):  # llhttp ignores the HTTP/2 preface silently
            raise self._malformed("malformed request line")
        return data[end:] if end < len(data) else b""

    def _keep(self, head: bytes) -> None:
        """Keep the request if its fields may come again: it has no body or upgrade, and its head came in one piece."""
        request = self._request
        assert request is not None
        simple = request.keep_alive and not request.has_body and not request.upgrade
        end = head.find(b"\r\n") if simple and self._size == len(head) <= _MAX_REPEATED else 0
        kept = end > 0 and _PLAIN_LINE.fullmatch(head, 0, end) is not None
        self._repeated = request if kept else None
        self._repeated_line, self._repeated_fields = (head[:end], head[end:]) if kept else (b"", b"")

    def _repeat(self, data: bytes) -> int:
        """Return the size of the head that `data` begins with if its fields are those of `_repeated`, which becomes
        this request; otherwise 0."""
        line, fields = self._repeated_line, self._repeated_fields
        end = len(line)
        if not data.startswith(line) or not data.startswith(fields, end):
            end = data.find(b"\r\n")
            if end < 0 or not data.startswith(fields, end):
                return 0
            if (match := _PLAIN_LINE.fullmatch(data, 0, end)) is None or end + len(fields) > self._max_size:
                return 0
            self._repeated = self._repeated.with_line(match[1].decode("ascii"), match[2])  # type: ignore[union-attr]
            self._repeated_line = data[:end]
        else:
            self._repeated.repeated = True  # type: ignore[union-attr]
        return end + len(fields)

    def _parse_head(self, head: bytes) -> None:
        """Pass a part of a head to llhttp."""
        try:
            if self._parser is None:
                self._parser = HttpRequestParser(self)
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            self._parser = None  # it accepts no more data
        except HttpParserCallbackError:
            if self._error is None:
                raise
            raise self._error from None
        except HttpParserError as error:
            self._parse_again(error)

    def _parse_again(self, error: HttpParserError) -> None:
        """Let llhttp parse the head again, with a method and version that it knows. Raises RequestError if it was right
        to reject it."""
        self._parser = None
        self._target = b""
        message = str(error).lower()
        if "version" in message:
            self._replace_version(message)
        elif self._method or "method" not in message:
            raise self._malformed(message)
        elif not self._replace_method(message):
            self._method_error = error  # wait for the rest of the method
            return
        self._method_error = None
        line, method = self._head_start, self._method
        self._parse_head(b"GET" + line[line.index(method) + len(method) :] if method else line)

    def _replace_method(self, error: str) -> bool:
        """Keep a method that llhttp does not know, as the application decides what to do with it (RFC 9110 section
        9.1). Return False if it is incomplete."""
        match = _METHOD.match(self._head_start)
        if match is not None and len(match[1]) > _MAX_METHOD:
            raise RequestError(501, "The method is too long")
        if match is None or match[2] is None:
            raise self._malformed(error)
        if not match[2]:
            return False
        self._method = match[1]
        return True

    def _replace_version(self, error: str) -> None:
        """Replace a higher minor version by 1.1 (RFC 9110 section 2.5)."""
        match = _UNKNOWN_VERSION.match(self._head_start)
        if match is None:
            raise self._malformed(error)
        if not match[2].startswith(b"1"):
            raise RequestError(505, _VERSION_ERROR)
        self._head_start = match[1] + b"1.1" + self._head_start[match.end() :]

    def _malformed(self, detail: str) -> RequestError:
        return foreign_protocol(self._head_start) or RequestError(400, f"Bad request: {detail}")

    def _head_end(self, data: bytes) -> int:
        """Return the index in `data` where the head ends, or its length if the head is incomplete."""
        start, joined = 0, data
        if self._last_bytes:
            joined = self._last_bytes + data
        elif data.startswith(b"\r\n"):  # any number of empty lines before the request line (RFC 9112 section 2.2)
            start = _EMPTY_LINES.match(data).end()  # type: ignore[union-attr]
        found = joined.find(b"\r\n\r\n", start)
        if found < 0:
            self._last_bytes = joined[-3:]
            return len(data)
        end = found + 4 - len(self._last_bytes)
        self._last_bytes = b""
        return end

    def _feed_body(self, data: bytes) -> bytes:
        if self._chunks is not None:
            data = self._chunks.feed(data, self._handler.on_body)
            if self._chunks.complete:
                self._chunks = None
            return data
        body = data[: self._remaining]
        self._remaining -= len(body)
        self._handler.on_body(body)
        return data[len(body) :]

    def _too_large(self) -> RequestError:
        if len(self._target) <= self._max_size // 2:
            return RequestError(431, f"The request head is larger than the limit of {self._max_size} bytes")
        return RequestError(414, f"The request target is too long; a head may have {self._max_size} bytes")

    def _refuse(self, status: int, detail: str) -> NoReturn:
        self._error = RequestError(status, detail)
        raise self._error

    # Callbacks of httptools, in this order

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) >= self._max_count:
            self._refuse(431, f"More than {self._max_count} header fields")
        if value and value[len(value) - 1] in (32, 9):  # leading whitespace is removed already
            value = value.rstrip(b" \t")
        known = NAMES.get(name)
        if known is None:
            lower = name.lower()
            known = (lower, lower in INTERPRETED)
        field = (known[0], value)
        self._headers.append(field)
        if known[1]:
            self._interpreted.append(field)

    def on_headers_complete(self) -> None:
        name = self._method or self._parser.get_method()
        method = name.decode("ascii")
        version = "1.1"
        if not self._head_start.startswith(b" HTTP/1.1\r\n", len(name) + 1 + len(self._target)):
            version = self._check_request_line()
        if method == "CONNECT":
            self._refuse(501, "CONNECT is not supported")
        if b"#" in self._target:
            self._refuse(400, "Bad request: fragment in the request target")
        request = RequestHead(method, self._origin_form(method), version, self._headers)
        request.keep_alive = self._parser.should_keep_alive()
        self._read_framing(request)
        self._head_start = b""
        self._request = request
        self.started = False

    def _check_request_line(self) -> str:
        """Check a request line that is not in the usual form, as llhttp also accepts other protocols and malformed
        lines. Return the HTTP version."""
        match = _REQUEST_LINE.match(self._head_start)
        if match is None:
            self._refuse(400, "Bad request: malformed request line")
        if match[1] not in (b"1.1", b"1.0"):
            self._refuse(505, _VERSION_ERROR)
        return match[1].decode("ascii")

    def _origin_form(self, method: str) -> bytes:
        """Return the target without scheme and authority. An authority replaces the Host field (RFC 9112 section
        3.2.2)."""
        match = None if self._target.startswith(b"/") else _ABSOLUTE.match(self._target)
        if match is None:
            if not self._target.startswith(b"/") and (self._target != b"*" or method != "OPTIONS"):
                self._refuse(400, "Bad request: invalid request target")
            return self._target
        host = match[1]
        if not is_host(host) or host.startswith(b":") or not host:
            self._refuse(400, "Bad request: invalid host in the request target")
        given = [name for name, _ in self._interpreted].count(b"host")
        if given == 1:
            self._headers[:] = [(n, host if n == b"host" else v) for n, v in self._headers]
        elif not given:  # valid in HTTP/1.0 only; 1.1 is rejected later
            self._headers.append((b"host", host))
        return match[2] if match[2].startswith(b"/") else b"/" + match[2]

    def _content_length(self, value: bytes) -> int:
        """Return the value of a Content-Length, which llhttp has checked to be all digits. Its size is limited (RFC
        9110 section 8.6), as int() also limits the number of digits."""
        if len(value) > _MAX_DIGITS:
            value = value.lstrip(b"0") or b"0"
            if len(value) > _MAX_DIGITS:
                self._refuse(413, "The request body is too large")
        return int(value)

    def _read_framing(self, request: RequestHead) -> None:
        """Read the fields in INTERPRETED: those that frame the body (RFC 9112 section 6), Host (section 3.2), Expect,
        Upgrade and those of proxies."""
        hosts = 0
        for name, value in self._interpreted:
            if name == b"host":
                hosts += 1
                if value != self._last_host:
                    if not is_host(value):
                        self._refuse(400, "Bad request: invalid Host header")
                    self._last_host = value
            elif name == b"content-length":
                self._remaining = self._content_length(value)
                request.has_body = self._remaining > 0
            elif name == b"transfer-encoding":
                if request.http_version == "1.0":
                    self._refuse(400, "Bad request: Transfer-Encoding in HTTP/1.0")
                if value.lower() != b"chunked":
                    self._refuse(501, "No other transfer coding than chunked is supported")
                self._chunks = ChunkedDecoder(self._max_size)
                request.has_body = True
            elif name == b"upgrade":
                request.upgrade = True
            elif name in FORWARDED:
                request.forwarded = True
            elif request.http_version == "1.1":
                request.expect_continue = b"100-continue" in tokens(value)
        if hosts > 1 or (hosts == 0 and request.http_version == "1.1"):
            self._refuse(400, "Bad request: exactly one Host header is required")
