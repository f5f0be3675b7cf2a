"""A response as an application gives it (status, fields, body in pieces), encoded for a request.

An input: a byte of choices, two for the status, then names, values and pieces of body with 0xFE between them; the
choices say how many are fields.

- Only ASGIMisuse is raised.
- What was encoded is one response and nothing else: parsed by flowserve's client it has this status, these fields (but
  for those that frame it) and this body, whatever stands in the fields.
- h11's client reads the same, and whether the connection goes on (see `_h11.py`).
"""

from __future__ import annotations

from typing import Any

from compliance.fuzz.findings import require
from compliance.fuzz.targets._values import Given
from flowserve.errors import ASGIMisuse
from flowserve.http.client import ResponseParser
from flowserve.http.messages import RequestHead
from flowserve.http.response_encoder import ResponseEncoder

MAX_LEN = 1000
_DEFAULTS = b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: flowserve\r\n"
_FRAMING = (b"connection", b"content-length", b"transfer-encoding", b"date", b"server")


def observe(data: bytes) -> Any:
    if len(data) < 3:
        return None
    given = Given.of(data)
    try:
        sent, keep_alive = encode(given)
    except ASGIMisuse as error:
        return str(error)
    parser = ResponseParser("GET", 1 << 16, 100)
    if given.method == "GET" and given.status != 204:
        parser.feed(sent)
        response = parser.response
        require(response.status == given.status, "another status is sent than was given", sent)
        require(_own(response.headers) == _own(given.fields), "other fields are sent than were given", sent)
        bodyless = given.status == 304
        require(bodyless or response.body == b"".join(given.body), "another body is sent than was given", sent)
        require(not parser.rest, "there is something behind the response", sent)
    require(sent.count(b"\r\n\r\n") >= 1, "a head without an end")
    return sent, keep_alive


def _own(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value.strip(b" \t")) for name, value in fields if name.lower() not in _FRAMING]


def encode(given: Given) -> tuple[bytes, bool]:
    """The bytes that are sent, and whether the connection can be used again."""
    request = RequestHead(given.method, b"/", given.version, [(b"host", b"a")])
    request.keep_alive = given.version == "1.1"
    encoder = ResponseEncoder(request)
    encoder.start(given.status, given.fields)
    pieces = [b"".join(given.body)] if given.at_once else given.body or [b""]
    sent = encoder.head(_DEFAULTS, len(pieces[0]) if given.at_once else None)
    for at, piece in enumerate(pieces):
        sent += encoder.body(piece, at < len(pieces) - 1)
    return sent, encoder.keep_alive


def compare(data: bytes, seen: Any) -> bool:
    from compliance.fuzz.targets._h11 import agree_on_encoded

    return isinstance(seen, tuple) and agree_on_encoded(Given.of(data), *seen)
