# cython: language_level=3, annotation_typing=False, binding=False
"""Decoder of the chunked transfer coding (RFC 9112 section 7.1). It stops exactly at the end of the body, as the next
byte belongs to the next request.

llhttp can't be stopped at the end of a body, and interprets trailers, so it only gets request heads.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from flowserve.errors import RequestError
from flowserve.grammar import TOKEN_BYTES

_MAX_LINE = 8192
"""Bytes of a chunk size with its extensions, or of one trailer field."""
_LINE_BUDGET = 16384
"""Bytes of lines that one call reads, with _LINE_COST added for each line: that takes some 0.2 ms, with extensions 1
ms. The chunks themselves cost almost nothing."""
_LINE_COST = 16

_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'  # RFC 9110 section 5.6.4
_EXTENSION = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (TOKEN_BYTES, TOKEN_BYTES, _QUOTED)  # section 7.1.1
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:%b)*\r\n" % _EXTENSION)
_TRAILER = re.compile(rb"(?:%b:[\t\x20-\x7e\x80-\xff]*)?\r\n" % TOKEN_BYTES)
_SIMPLE_SIZES = {b"%x\r\n" % size: size for size in range(1, 16)}
"""The size lines of small chunks, of which a body may consist."""


class ChunkedDecoder:
    """Decodes one body. `complete` is true once its last byte has been fed."""

    __slots__ = ("_chunk_remaining", "_in_trailers", "_line", "_trailer_allowance", "complete")

    def __init__(self, max_trailers: int) -> None:
        """`max_trailers` is the limit in bytes for all trailer fields together; they are ignored."""
        self.complete = False
        self._chunk_remaining = 0  # bytes of the current chunk and the CRLF after it; 0 before a size line
        self._line = b""  # the beginning of an incomplete line
        self._in_trailers = False
        self._trailer_allowance = max_trailers

    def feed(self, data: bytes, sink: Callable[[bytes], None]) -> bytes:
        """Decode `data`, call `sink` once with the bytes of the body in it, and return the rest: what follows the body
        if that is `complete`, otherwise what the caller must feed again later, as there are many chunks. Raises
        RequestError for invalid coding (400) and for too large trailers (431)."""
        body: list[bytes] = []
        try:
            return self._decode(data, body)
        finally:
            if body:
                sink(body[0] if len(body) == 1 else b"".join(body))

    def _decode(self, data: bytes, body: list[bytes]) -> bytes:
        at, size, budget = 0, len(data), _LINE_BUDGET
        while at < size and budget > 0 and not self.complete:
            if self._chunk_remaining > 2:
                end = at + self._chunk_remaining - 2 if self._chunk_remaining - 2 < size - at else size
                body.append(data[at:end])
                self._chunk_remaining -= end - at
                at = end
                continue
            end = data.find(b"\n", at) + 1 or size
            budget -= end - at + _LINE_COST
            line = data[at:end]
            at = end
            if self._line:
                line = self._line + line
            if len(line) > _MAX_LINE or (self._chunk_remaining and line != b"\r\n" and line != b"\r"):
                raise RequestError(400, "Bad request: invalid chunk")
            if line.endswith(b"\n"):
                self._line = b""
                self._read_line(line)
            else:
                self._line = line
        return data[at:]

    def _read_line(self, line: bytes) -> None:
        if self._chunk_remaining:
            self._chunk_remaining = 0
        elif self._in_trailers:
            self._trailer_allowance -= len(line)
            if not _TRAILER.fullmatch(line):
                raise RequestError(400, "Bad request: invalid trailer field")
            if self._trailer_allowance < 0:
                raise RequestError(431, "The trailer fields are too large")
            self.complete = line == b"\r\n"
        else:
            size = _SIMPLE_SIZES.get(line)
            if size is None:
                size = _parse_size(line)
            self._in_trailers = not size
            self._chunk_remaining = size + 2 if size else 0


def _parse_size(line: bytes) -> int:
    match = _SIZE.fullmatch(line)
    if match is None:
        raise RequestError(400, "Bad request: invalid chunk size or extension")
    return int(match[1], 16)
