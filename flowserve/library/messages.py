"""The request and response of an opening handshake, as the library's users see them.

A WebSocket keeps both as bytes until they are first read: a server has many idle connections, and decoded header fields
take ten times the memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from flowserve.http.headers import Headers


@dataclass(slots=True)
class Request:
    """The request of an opening handshake."""

    path: str
    """The request target as the client sent it, with its query (RFC 9112 section 3.2)."""
    headers: Headers
    """The header fields."""


@dataclass(slots=True)
class Response:
    """The response to an opening handshake, received by a client or to be sent by a server."""

    status_code: int
    """101 if the WebSocket was opened (RFC 6455 section 4.2.2)."""
    reason_phrase: str
    """The text after the status code; a server sends the standard one instead."""
    headers: Headers
    """The header fields."""
    body: bytes = b""
    """The body to send with a refusal."""


def make_response(status: int, fields: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> Response:
    """Return a response with the header `fields`, pairs of bytes, and the standard reason phrase of `status`."""
    return Response(status, reason_phrase(status), Headers(fields), body)


def reason_phrase(status: int) -> str:
    """Return the standard reason phrase of a status code (RFC 9110 section 15), "" for an unknown one."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def pack(start: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a message as bytes, from its start line and header fields; `unpack_*()` decode it."""
    return b"\r\n".join([start, *(b"%b: %b" % field for field in fields)])


def unpack_request(head: bytes) -> Request:
    """Decode the head of a request that `pack()` returned or that was sent."""
    start, fields = _unpack(head)
    return Request(start.split(" ", 2)[1], fields)


def unpack_response(head: bytes) -> Response:
    """Decode the head of a response that `pack()` returned or that was sent."""
    start, fields = _unpack(head)
    _, status, reason = start.split(" ", 2)
    return Response(int(status), reason, fields)


def _unpack(head: bytes) -> tuple[str, Headers]:
    start, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    pairs = [line.split(b":", 1) for line in lines]
    return start.decode("latin-1"), Headers([(name, value.strip(b" \t")) for name, value in pairs])
