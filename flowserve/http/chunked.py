# cython: language_level=3, annotation_typing=False, binding=False
"""The chunked transfer coding (RFC 9112 section 7.1), decoded to the byte: what follows a body is the next request's.

llhttp can't be stopped at the end of a body, and reads meaning into trailers, so it is given heads only.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from flowserve.errors import RequestError

_MAX_LINE = 8192
"""Bytes of a chunk's size with its extensions, or of one trailer field."""
_STEP = 16384
"""Bytes of lines that are read in one call, each of them as if it were _LINE_COST longer: they take some 0.2 ms, and
with extensions 1 ms. The chunks themselves cost next to nothing."""
_LINE_COST = 16

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'  # RFC 9110 section 5.6.4
_EXTENSION = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)  # section 7.1.1
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:%b)*\r\n" % _EXTENSION)
_TRAILER = re.compile(rb"(?:%b:[\t\x20-\x7e\x80-\xff]*)?\r\n" % _TOKEN)
_SIMPLE_SIZES = {b"%x\r\n" % size: size for size in range(1, 16)}
"""Lines that small chunks have: a body can be full of them."""


class ChunkedDecoder:
    """Decodes one body. `complete` is true once its last byte has been fed."""

    __slots__ = ("_in_trailers", "_left", "_line", "_trailer_room", "complete")

    def __init__(self, max_trailers: int) -> None:
        """`max_trailers` bounds all trailer fields together, in bytes; they are ignored."""
        self.complete = False
        self._left = 0  # bytes of the chunk, and of the CRLF behind it
        self._line = b""
        self._in_trailers = False
        self._trailer_room = max_trailers

    def feed(self, data: bytes, sink: Callable[[bytes], None]) -> bytes:
        """Give `sink` the body's bytes in `data`, in one piece; return what is behind the body, or, before its end,
        what is left for another call where there are many chunks. Raises RequestError."""
        body: list[bytes] = []
        try:
            return self._split(data, body)
        finally:
            if body:
                sink(body[0] if len(body) == 1 else b"".join(body))

    def _split(self, data: bytes, body: list[bytes]) -> bytes:
        at, size, room = 0, len(data), _STEP
        while at < size and room > 0 and not self.complete:
            if self._left > 2:
                end = at + self._left - 2 if self._left - 2 < size - at else size
                body.append(data[at:end])
                self._left -= end - at
                at = end
                continue
            end = data.find(b"\n", at) + 1 or size
            room -= end - at + _LINE_COST
            line = data[at:end]
            at = end
            if self._line:
                line = self._line + line
            if len(line) > _MAX_LINE or (self._left and line != b"\r\n" and line != b"\r"):
                raise RequestError(400, "Bad request: invalid chunk")
            if line.endswith(b"\n"):
                self._line = b""
                self._take(line)
            else:
                self._line = line
        return data[at:]

    def _take(self, line: bytes) -> None:
        if self._left:
            self._left = 0
        elif self._in_trailers:
            self._trailer_room -= len(line)
            if not _TRAILER.fullmatch(line):
                raise RequestError(400, "Bad request: invalid trailer field")
            if self._trailer_room < 0:
                raise RequestError(431, "The trailer fields are too large")
            self.complete = line == b"\r\n"
        else:
            size = _SIMPLE_SIZES.get(line)
            if size is None:
                size = _size(line)
            self._in_trailers = not size
            self._left = size + 2 if size else 0


def _size(line: bytes) -> int:
    match = _SIZE.fullmatch(line)
    if match is None:
        raise RequestError(400, "Bad request: invalid chunk size or extension")
    return int(match[1], 16)
