"""The client's side of HTTP/1.1: a request's head into bytes, and a response out of bytes (RFC 9112). No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import httptools

from flowserve.errors import HandshakeError
from flowserve.http.messages import RawHeaders
from flowserve.http.response_encoder import checked_fields

_LATER = re.compile(rb"HTTP/1\.[2-9] ")
_MAX_BODY = 65536
"""Bytes of a response's body that are kept; what comes behind them is of no interest to somebody who wanted a
WebSocket."""


@dataclass(slots=True)
class ResponseHead:
    """A response: names in `headers` are in lower case; `body` is empty where none is wanted, or cut if long."""

    status: int = 0
    headers: RawHeaders = field(default_factory=list)
    body: bytes = b""
    reason: bytes = b""
    http_version: str = ""

    def value(self, name: bytes) -> bytes | None:
        """Return the value of the first field called `name` (lower case)."""
        return next((value for each, value in self.headers if each == name), None)


def encode_request(method: str, target: str, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return a request without a body. Raises ASGIMisuse for fields that HTTP does not allow.

    `target` is in ASCII, and its characters are such as a request target may have (RFC 9112 section 3.2).
    """
    lines = [line for _, _, line in checked_fields(fields)]
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode("ascii"), target.encode("ascii"), b"".join(lines))


class ResponseParser:
    """Parses the one response that a client waits for; 100 and its like before it are passed over.

    After `feed()` has returned True, or `feed_eof()` was called, `response` is complete.
    """

    def __init__(self, method: str, max_head_size: int, max_header_count: int) -> None:
        """`method` is the request's. `max_head_size` is in bytes, from the status to the empty line."""
        self.response = ResponseHead()
        self.rest = b""
        """What came behind a 101, or behind the 2xx that answers CONNECT: it is no HTTP."""
        self._method = method
        self._max_size = max_head_size
        self._max_count = max_header_count
        self._head = b""
        self._parser: httptools.HttpResponseParser | None = None  # of a body
        self._headed = False  # the parser has seen the end of a head
        self._complete = False

    @property
    def in_body(self) -> bool:
        """Whether the head of the response is there; the rest only explains it."""
        return self._parser is not None

    def feed(self, data: bytes) -> bool:
        """Take bytes; return whether the response is complete. Raises HandshakeError (status 0) for what is no HTTP,
        or over a limit."""
        if self._complete:
            if self._parser is None:
                self.rest += data
            return True
        if self._parser is not None:
            self._feed(self._parser, data)
            return self._complete
        self._head += data
        while self._begins_well() and (end := self._head.find(b"\r\n\r\n")) >= 0 and end + 4 <= self._max_size:
            head, self._head = self._head[: end + 4], self._head[end + 4 :]
            if self._read_head(head):
                return self._complete
        if len(self._head) > self._max_size:
            raise HandshakeError(0, f"the head of the answer has more than {self._max_size} bytes")
        return False

    def _begins_well(self) -> bool:
        if not b"HTTP/1.".startswith(self._head[:7]):
            raise HandshakeError(0, "the answer is no HTTP")
        return True

    def feed_eof(self) -> None:
        """The server has closed. Raises HandshakeError (status 0), with an EOFError as its cause, if it has not
        answered."""
        if self._parser is None and not self._complete:
            where = "within its answer" if self._head else "without an answer"
            raise HandshakeError(0, f"the connection was closed {where}") from EOFError()

    def _read_head(self, head: bytes) -> bool:
        """Read a head, and what lies behind it; False for one that announces another (RFC 9110 section 15.2)."""
        response = self.response = ResponseHead()
        self._headed = False
        parser = httptools.HttpResponseParser(self)
        if _LATER.match(head):  # which is to be taken for the last version that is known (RFC 9110 section 2.5)
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
            if not self._headed:
                raise HandshakeError(0, f"the answer is no HTTP: {error}") from None
            if self._parser is not None:  # its body is broken: what the head says counts
                self._complete = True

    # What httptools calls

    def on_status(self, reason: bytes) -> None:
        if self._parser is None:  # else it is of something behind the response
            self.response.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._parser is not None:
            return  # a trailer, or of something behind the response
        if len(self.response.headers) >= self._max_count:
            raise HandshakeError(0, f"the answer has more than {self._max_count} header fields")
        self.response.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._headed = True

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self.response.body = (self.response.body + body)[:_MAX_BODY]
        self._complete = self._complete or len(self.response.body) == _MAX_BODY

    def on_message_complete(self) -> None:
        self._complete = True
