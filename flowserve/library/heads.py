"""The heads of an opening handshake as users see them: the client's request and the server's answer."""

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
