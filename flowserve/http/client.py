"""The client's side of HTTP/1.1 (RFC 9112): encoding a request and parsing its response. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import httptools

from flowserve.errors import HandshakeError
from flowserve.http.messages import RawHeaders
from flowserve.http.response_encoder import checked_fields

_LATER_VERSION = re.compile(rb"HTTP/1\.[2-9] ")
_MAX_BODY = 65536
"""Bytes of a response's body that are kept; more are of no interest to a client that wanted a WebSocket."""


@dataclass(slots=True)
class ResponseHead:
    """A response with its body."""

    status: int = 0
    headers: RawHeaders = field(default_factory=list)
    """Names are in lower case."""
    body: bytes = b""
    """At most the first 64 KiB; empty if the response has none."""
    reason: bytes = b""
    """The reason phrase."""
    http_version: str = ""
    """Such as '1.1'."""

    def value(self, name: bytes) -> bytes | None:
        """Return the value of the first field named `name` (lower case), None if there is none."""
        return next((value for each, value in self.headers if each == name), None)


def encode_request(method: str, target: str, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return a request without a body. Raises ASGIMisuse for fields that HTTP does not allow.

    `target` must be a valid request target in ASCII (RFC 9112 section 3.2).
    """
    lines = [line for _, _, line in checked_fields(fields)]
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode("ascii"), target.encode("ascii"), b"".join(lines))


class ResponseParser:
    """Parses one response, and skips interim responses (1xx) before it.

    Once `feed()` has returned True, or `feed_eof()` has returned, `response` is complete.
    """

    def __init__(self, method: str, max_head_size: int, max_header_count: int) -> None:
        """`method` is that of the request. `max_head_size` is in bytes, from the status line to the empty line."""
        self.response = ResponseHead()
        self.rest = b""
        """Bytes after a 101, or after the 2xx that answers CONNECT: they are not HTTP."""
        self._method = method
        self._max_size = max_head_size
        self._max_count = max_header_count
        self._head = b""  # the input until a head is complete
        self._parser: httptools.HttpResponseParser | None = None  # set while the body is read
        self._head_complete = False  # httptools has parsed a whole head
        self._complete = False  # the response is

    @property
    def in_body(self) -> bool:
        """Whether the head of the response is complete and its body is being read."""
        return self._parser is not None

    def feed(self, data: bytes) -> bool:
        """Parse bytes, and return whether the response is complete. Raises HandshakeError (status 0) if they are not
        HTTP or exceed a limit."""
        if self._complete:
            if self._parser is None:
                self.rest += data
            return True
        if self._parser is not None:
            self._feed(self._parser, data)
            return self._complete
        self._head += data
        while self._check_protocol() and (end := self._head.find(b"\r\n\r\n")) >= 0 and end + 4 <= self._max_size:
            head, self._head = self._head[: end + 4], self._head[end + 4 :]
            if self._read_head(head):
                return self._complete
        if len(self._head) > self._max_size:
            raise HandshakeError(0, f"the head of the answer has more than {self._max_size} bytes")
        return False

    def _check_protocol(self) -> bool:
        if not b"HTTP/1.".startswith(self._head[:7]):
            raise HandshakeError(0, "the answer is no HTTP")
        return True

    def feed_eof(self) -> None:
        """Note that the server has closed the connection. Raises HandshakeError (status 0), with an EOFError as its
        cause, if no head of a response is complete."""
        if self._parser is None and not self._complete:
            where = "within its answer" if self._head else "without an answer"
            raise HandshakeError(0, f"the connection was closed {where}") from EOFError()

    def _read_head(self, head: bytes) -> bool:
        """Parse a head and the bytes after it. Return False for an interim response (RFC 9110 section 15.2)."""
        response = self.response = ResponseHead()
        self._head_complete = False
        parser = httptools.HttpResponseParser(self)
        if _LATER_VERSION.match(head):  # process it as the highest known minor version (RFC 9110 section 2.5)
            head = b"HTTP/1.1" + head[8:]
        self._feed(parser, head)
        status = response.status = parser.get_status_code()
        response.http_version = parser.get_http_version()
        if 100 <= status < 200 and status != 101:
            self._complete = False
            return False
        if status == 101 or (self._method == "CONNECT" and 200 <= status < 300):
            self.rest, self._head = self._head, b""
            self._complete = True
            return True
        self._parser = parser
        self._feed(parser, self._head)
        self._head = b""
        return True

    def _feed(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        try:
            if data and not self._complete:
                parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except httptools.HttpParserError as error:
            if not self._head_complete:
                raise HandshakeError(0, f"the answer is no HTTP: {error}") from None
            if self._parser is not None:  # its body is invalid: the head still counts
                self._complete = True

    # Callbacks of httptools

    def on_status(self, reason: bytes) -> None:
        if self._parser is None:  # else it belongs to data after the response
            self.response.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._parser is not None:
            return  # a trailer field, or from data after the response
        if len(self.response.headers) >= self._max_count:
            raise HandshakeError(0, f"the answer has more than {self._max_count} header fields")
        self.response.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._head_complete = True

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self.response.body = (self.response.body + body)[:_MAX_BODY]
        self._complete = self._complete or len(self.response.body) == _MAX_BODY

    def on_message_complete(self) -> None:
        self._complete = True
