"""The heads of an opening handshake as users see them: the client's request and the server's answer.

A WebSocket keeps them as bytes until somebody asks: idle connections are many, and fields as text take ten times as
much.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from flowserve.http.headers import Headers


@dataclass(slots=True)
class Request:
    """What a client asked for: `path` is the request target as it was sent, with its query."""

    path: str
    headers: Headers


@dataclass(slots=True)
class Response:
    """What a server answered, or is to answer; `body` is what came with a refusal, cut where it is long."""

    status_code: int
    reason_phrase: str
    headers: Headers
    body: bytes = b""

    @classmethod
    def made_of(
        cls, status: int, fields: Iterable[tuple[bytes, bytes]], body: bytes = b"", reason: str = ""
    ) -> Response:
        """The response with these `fields`; without a `reason`, the status's usual one."""
        return cls(status, reason or usual_reason(status), Headers(fields), body)


def usual_reason(status: int) -> str:
    """The reason phrase that goes with a status (RFC 9110 section 15), "" for one that is not known."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def pack(start: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a head as bytes, made of its first line and its fields."""
    return b"\r\n".join([start, *(b"%b: %b" % field for field in fields)])


def unpack_request(head: bytes) -> Request:
    """Return what `pack()` made of a request's head, or what was sent as one."""
    start, fields = _unpack(head)
    return Request(start.split(" ", 2)[1], fields)


def unpack_response(head: bytes) -> Response:
    """Return what `pack()` made of a response's head, or what was sent as one."""
    start, fields = _unpack(head)
    _, status, reason = start.split(" ", 2)
    return Response(int(status), reason, fields)


def _unpack(head: bytes) -> tuple[str, Headers]:
    start, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    pairs = [line.split(b":", 1) for line in lines]
    return start.decode("latin-1"), Headers([(name, value.strip(b" \t")) for name, value in pairs])
