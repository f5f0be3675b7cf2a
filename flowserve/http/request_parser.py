# cython: language_level=3, annotation_typing=False, binding=False
"""HTTP/1.1 over httptools: requests out of bytes (RFC 9112). No I/O.

llhttp, beneath httptools, refuses most of what request smuggling is made of: bare CR and LF, space before the colon,
folded lines, control characters, Content-Length repeated or beside Transfer-Encoding. What it lets pass is refused
here. What it refuses although HTTP allows it, it gets to read once more in words that it knows: methods, of which it
has a list, and versions from 1.2 on.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NoReturn, Protocol

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from flowserve.errors import RequestError
from flowserve.http.chunked import ChunkedDecoder
from flowserve.http.foreign_protocols import foreign_protocol
from flowserve.http.messages import RawHeaders, RequestHead, tokens

_COMMON = """
accept accept-charset accept-encoding accept-language authorization cache-control connection content-encoding
content-length content-type cookie date dnt expect forwarded from host if-match if-modified-since if-none-match
if-range if-unmodified-since keep-alive origin pragma priority range referer sec-ch-ua sec-ch-ua-mobile
sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-websocket-extensions
sec-websocket-key sec-websocket-protocol sec-websocket-version te trailer transfer-encoding upgrade
upgrade-insecure-requests user-agent via x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto
x-real-ip x-request-id
"""

_FORWARDED = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"))
_FRAMING = _FORWARDED | {b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade"}
_NAMES = {
    spelling.encode(): (name.encode(), name.encode() in _FRAMING)
    for name in _COMMON.split()
    for spelling in (name, name.title().replace("Websocket", "WebSocket"))
}
"""Names as they usually come, to one shared object in lower case, and whether it is of _FRAMING."""
_HOST = re.compile(
    rb"(?:\[[0-9A-Za-z:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"  # RFC 3986 section 3.2.2
)
_MAX_HOST = 261
"""Bytes: a name of 255 (RFC 1035 section 2.3.4), a colon, a port."""
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
_LINE = re.compile(rb"(?:\r\n)*[^\r\n ]+ [^\r\n ]+ HTTP/([0-9]\.[0-9])\r\n")
"""A request line, and the empty ones before it that are to be ignored (RFC 9112 sections 2.2 and 3)."""
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")
_METHOD = re.compile(rb"(?:\r\n)*([!#$%&'*+\-.^_`|~0-9A-Z]{1,65})( |\Z)?")
"""A token without lower case, which the ASGI specification does not have in a method."""
_LONGEST_METHOD = 64
_OTHER_VERSION = re.compile(rb"((?:\r\n)*[^\r\n ]+ [^\r\n ]+ HTTP/)(1\.[2-9]|[02-9]\.[0-9])")
_VERSIONS = "Only HTTP/1.0 and HTTP/1.1 are spoken here"
_MAX_DIGITS = 18
"""Digits of a Content-Length behind its leading zeros: what they can say fits into 64 bits with a sign."""


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    """Whether a Host field may have this value (RFC 9110 section 7.2). Clients send few different ones."""
    return _HOST.fullmatch(value) is not None


class RequestHandler(Protocol):
    """What a parser tells of."""

    def on_request(self, request: RequestHead) -> None:
        """The head has come."""

    def on_body(self, data: bytes) -> None:
        """Some of the body has come."""

    def on_end(self) -> None:
        """The request is complete."""


class RequestParser:
    """Parses the requests of one connection, one at a time.

    `started` says whether the head of a request has begun to come, but has not come to its end.
    """

    __slots__ = (
        "_chunks",
        "_error",
        "_first",
        "_framing",
        "_handler",
        "_headers",
        "_host",
        "_max_count",
        "_max_size",
        "_method",
        "_parser",
        "_refusal",
        "_remaining",
        "_request",
        "_size",
        "_tail",
        "_target",
        "started",
    )

    def __init__(self, handler: RequestHandler, max_head_size: int, max_header_count: int) -> None:
        """`max_head_size` in bytes, from the method to the empty line."""
        self._handler: Any = handler
        self._max_size = max_head_size
        self._max_count = max_header_count
        self._host: bytes | None = None  # of the request before: known to be good
        self._parser: Any = None  # an HttpRequestParser, which has this object for its protocol
        self.started = False
        self._reset()

    def _reset(self) -> None:
        self._request: RequestHead | None = None
        self._target = b""
        self._headers: RawHeaders = []
        self._framing: RawHeaders = []
        self._size = 0  # of the head so far
        self._first = b""  # of a head, at least until its first field has come
        self._method = b""  # that llhttp does not know
        self._refusal: HttpParserError | None = None  # llhttp's of a method that has not come to its end
        self._tail = b""  # the last bytes of an unfinished head
        self._remaining = 0  # bytes of body still to come
        self._chunks: ChunkedDecoder | None = None
        self._error: RequestError | None = None

    @property
    def in_head_request(self) -> bool:
        """Whether the head that is coming, or was refused, is that of a HEAD: its answer has no content (RFC 9110
        section 9.3.2)."""
        return self._first.lstrip(b"\r\n").startswith(b"HEAD ")

    def close(self) -> None:
        """Break the cycles of references; nothing must be fed after that."""
        self._parser = None
        self._handler = None

    def feed(self, data: bytes) -> bytes:
        """Parse up to the end of the current request and return the bytes behind it; before its end, those of a body of
        many chunks that are left for another call.

        Raises RequestError for what RFC 9112 does not allow or the limits forbid; nothing must be fed after that.
        """
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
            self._first = head
        elif not self._headers:
            self._first += head
        self._size += len(head)
        if self._refusal is None:
            self._read(head)
        else:
            self._reread(self._refusal)
        if self._size > self._max_size:
            raise self._too_large()
        if self._request is not None:
            if self._request.has_body:
                self._parser = None  # its place is in the body, which it does not see
            self._handler.on_request(self._request)
        elif not self._tail and self._first.strip(b"\r\n"):  # what llhttp takes for HTTP/2, in silence
            raise self._malformed("malformed request line")
        return data[end:] if end < len(data) else b""

    def _read(self, head: bytes) -> None:
        """Give llhttp some of a head."""
        try:
            if self._parser is None:
                self._parser = HttpRequestParser(self)
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            self._parser = None  # it takes no more
        except HttpParserCallbackError:
            if self._error is None:
                raise
            raise self._error from None
        except HttpParserError as error:
            self._reread(error)

    def _reread(self, error: HttpParserError) -> None:
        """Have llhttp read a request line once more, in words that it knows. Raises RequestError for what it has
        refused with good reason."""
        self._parser = None
        self._target = b""
        what = str(error).lower()
        if "version" in what:
            self._lower_version(what)
        elif self._method or "method" not in what:
            raise self._malformed(what)
        elif not self._take_method(what):
            self._refusal = error  # more has to come
            return
        self._refusal = None
        line, method = self._first, self._method
        self._read(b"GET" + line[line.index(method) + len(method) :] if method else line)

    def _take_method(self, error: str) -> bool:
        """Take a method that llhttp does not know: what is done with it is for the application to say (RFC 9110 section
        9.1). False when its end has not come."""
        match = _METHOD.match(self._first)
        if match is not None and len(match[1]) > _LONGEST_METHOD:
            raise RequestError(501, "The method is too long")
        if match is None or match[2] is None:
            raise self._malformed(error)
        if not match[2]:
            return False
        self._method = match[1]
        return True

    def _lower_version(self, error: str) -> None:
        """Make a later minor version 1.1 (RFC 9110 section 2.5)."""
        match = _OTHER_VERSION.match(self._first)
        if match is None:
            raise self._malformed(error)
        if not match[2].startswith(b"1"):
            raise RequestError(505, _VERSIONS)
        self._first = match[1] + b"1.1" + self._first[match.end() :]

    def _malformed(self, detail: str) -> RequestError:
        return foreign_protocol(self._first) or RequestError(400, f"Bad request: {detail}")

    def _head_end(self, data: bytes) -> int:
        """Where in `data` the head ends: what is behind it is looked at when the head has been understood."""
        start = 0
        joined = data
        if self._tail:
            joined = self._tail + data
        elif data.startswith(b"\r\n"):  # before the request line: they may be many (RFC 9112 section 2.2)
            start = _EMPTY_LINES.match(data).end()  # type: ignore[union-attr]
        found = joined.find(b"\r\n\r\n", start)
        if found < 0:
            self._tail = joined[-3:]
            return len(data)
        end = found + 4 - len(self._tail)
        self._tail = b""
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

    # Called by httptools, in this order

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) >= self._max_count:
            self._refuse(431, f"More than {self._max_count} header fields")
        if value and value[len(value) - 1] in (32, 9):  # what is in front of a value is no longer there
            value = value.rstrip(b" \t")
        known = _NAMES.get(name)
        if known is None:
            lower = name.lower()
            known = (lower, lower in _FRAMING)
        field = (known[0], value)
        self._headers.append(field)
        if known[1]:
            self._framing.append(field)

    def on_headers_complete(self) -> None:
        name = self._method or self._parser.get_method()
        method = name.decode("ascii")
        version = "1.1"
        if not self._first.startswith(b" HTTP/1.1\r\n", len(name) + 1 + len(self._target)):
            version = self._version()
        if method == "CONNECT":
            self._refuse(501, "CONNECT is not supported")
        if b"#" in self._target:
            self._refuse(400, "Bad request: fragment in the request target")
        request = RequestHead(method, self._origin_form(method), version, self._headers)
        request.keep_alive = self._parser.should_keep_alive()
        self._frame(request)
        self._first = b""
        self._request = request
        self.started = False

    def _version(self) -> str:
        """Look closer at a request line that is not as usual: llhttp has more than HTTP, and bears with much."""
        match = _LINE.match(self._first)
        if match is None:
            self._refuse(400, "Bad request: malformed request line")
        if match[1] not in (b"1.1", b"1.0"):
            self._refuse(505, _VERSIONS)
        return match[1].decode("ascii")

    def _origin_form(self, method: str) -> bytes:
        """The target without scheme and authority; these replace the Host field (RFC 9112 section 3.2.2)."""
        match = None if self._target.startswith(b"/") else _ABSOLUTE.match(self._target)
        if match is None:
            if not self._target.startswith(b"/") and (self._target != b"*" or method != "OPTIONS"):
                self._refuse(400, "Bad request: invalid request target")
            return self._target
        host = match[1]
        if len(host) > _MAX_HOST or not _is_host(host) or host.startswith(b":") or not host:
            self._refuse(400, "Bad request: invalid host in the request target")
        given = [name for name, _ in self._framing].count(b"host")
        if given == 1:
            self._headers[:] = [(n, host if n == b"host" else v) for n, v in self._headers]
        elif not given:  # HTTP/1.0, else it is refused later
            self._headers.append((b"host", host))
        return match[2] if match[2].startswith(b"/") else b"/" + match[2]

    def _length(self, value: bytes) -> int:
        """A Content-Length, which is all digits. RFC 9110 section 8.6 warns of overflows; Python has limits, too."""
        if len(value) > _MAX_DIGITS:
            value = value.lstrip(b"0") or b"0"
            if len(value) > _MAX_DIGITS:
                self._refuse(413, "The request body is too large")
        return int(value)

    def _frame(self, request: RequestHead) -> None:
        """Find out where the body ends (RFC 9112 section 6), and check the Host field (section 3.2)."""
        hosts = 0
        for name, value in self._framing:
            if name == b"host":
                hosts += 1
                if value != self._host:
                    if len(value) > _MAX_HOST or not _is_host(value):
                        self._refuse(400, "Bad request: invalid Host header")
                    self._host = value
            elif name == b"content-length":
                self._remaining = self._length(value)
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
            elif name in _FORWARDED:
                request.forwarded = True
            elif request.http_version == "1.1":
                request.expect_continue = b"100-continue" in tokens(value)
        if hosts > 1 or (hosts == 0 and request.http_version == "1.1"):
            self._refuse(400, "Bad request: exactly one Host header is required")
