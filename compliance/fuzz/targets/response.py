"""The response that a client waits for, to GET or (by the first byte) to CONNECT.

- Only HandshakeError with status 0 is raised.
- In pieces the response is the same: status, fields, reason and what is behind it; of a body the beginning.
- Names of fields are in lower case; the head is within its limits, and what is kept of a body as well.
- h11, where it reads the same bytes, sees the same status and fields (see `_h11.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compliance.fuzz.findings import require
from compliance.fuzz.pieces import same_in_pieces
from flowserve.errors import HandshakeError
from flowserve.http.client import ResponseParser

MAX_HEAD, MAX_FIELDS = 1500, 16
_MOST_BODY = 65536


def observe(data: bytes) -> Any:
    if len(data) < 2:
        return None
    method = "CONNECT" if data[0] & 1 else "GET"
    return same_in_pieces(lambda pieces: answer(method, pieces), data[2:], data[1])


def answer(method: str, pieces: Sequence[bytes]) -> dict[str, Any]:
    """The response, or why there is none."""
    parser = ResponseParser(method, MAX_HEAD, MAX_FIELDS)
    complete = False
    try:
        for piece in pieces:
            complete = parser.feed(piece)
        if not complete:
            parser.feed_eof()
    except HandshakeError as error:
        require(error.status == 0, "an answer that is none has a status")
        return {"error": error.detail}
    response = parser.response
    require(len(response.headers) <= MAX_FIELDS, "more fields than the limit")
    require(len(response.body) <= _MOST_BODY, "more of a body than is wanted")
    require(all(name == name.lower() for name, _ in response.headers), "a name that is not in lower case")
    return {
        "status": response.status,
        "version": response.http_version,
        "reason": response.reason,
        "headers": response.headers,
        "body": response.body,
        "rest": parser.rest,
        "complete": complete,
    }


def compare(data: bytes, seen: Any) -> bool:
    from compliance.fuzz.targets._h11 import agree_on_response

    return seen is not None and agree_on_response("CONNECT" if data[0] & 1 else "GET", data[2:], seen)
