"""The chunked transfer coding.

- Only RequestError is raised.
- In pieces, body, end and what is behind it are the same; nothing behind the end is touched.
- The body is not longer than what came; trailers are bounded.
- h11 makes the same of it (see `compare`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compliance.fuzz.findings import require
from compliance.fuzz.pieces import same_in_pieces
from flowserve.errors import RequestError
from flowserve.http.chunked import ChunkedDecoder

_TRAILERS = 200


def observe(data: bytes) -> Any:
    if not data:
        return None
    seen = same_in_pieces(_decode, data[1:], data[0])
    body, rest, _ = seen
    require(len(body) + len(rest) <= len(data), "there is more than came")
    require(data.endswith(rest), "what is behind the body was touched")
    return seen


def _decode(pieces: Sequence[bytes]) -> tuple[bytes, bytes, Any]:
    decoder, body, rest = ChunkedDecoder(_TRAILERS), bytearray(), b""
    for at, piece in enumerate(pieces):
        try:
            rest = decoder.feed(piece, body.extend)
        except RequestError as error:
            return bytes(body), b"", (error.status, error.detail)
        if decoder.complete:
            return bytes(body), rest + b"".join(pieces[at + 1 :]), None
        require(not rest, "bytes are left before the end of a body")
    return bytes(body), b"", "incomplete"


def compare(data: bytes, seen: Any) -> bool:
    from compliance.fuzz.targets._h11 import agree_on_chunks

    return seen is not None and agree_on_chunks(data[1:], seen)
