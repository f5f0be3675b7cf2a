"""permessage-deflate: what inflates a peer's payloads, over every DEFLATE that is installed, and what deflates ours.

The input is a message's payload, or (by its first byte) several with a byte between them.

- Only ProtocolError and PayloadTooBig are raised; no more than the limit comes out.
- In pieces it is what it is as a whole, and so over each library; with takeover up to the first message that stops in
  the midst of a block, or has a final one.
- A payload of blocks that are not final is what zlib makes of it.
- What the input is as a message, deflated by any library and in any context, is inflated to the same.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any

from compliance.fuzz.findings import Broken, require
from compliance.fuzz.pieces import cut, whole
from flowserve.errors import PayloadTooBig, ProtocolError
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate
from flowserve.websocket.deflate_backends import Backend, _backend

_LIMITS = (0, 100, 70_000, 1 << 20)
_MESSAGES = 4
_BAD_CODE = "invalid Huffman code"
Inflated = tuple[list[bytes], str | None]


@functools.cache
def libraries() -> list[Backend]:
    """Those that are installed; zlib always is."""
    found = [_backend("zlib")]
    for name in ("isal", "zlib-ng"):
        try:
            found.append(_backend(name))
        except ImportError:
            pass
    return found


def observe(data: bytes) -> Any:
    if len(data) < 3:
        return None
    takeover, bits, limit = bool(data[0] & 1), 8 + (data[0] >> 1 & 7), _LIMITS[data[0] >> 4 & 3]
    payloads = [data[3:]] if data[0] & 64 else data[3:].split(data[2:3], _MESSAGES - 1)
    seen = [_inflated(library, payloads, takeover, bits, limit, data[1]) for library in libraries()]
    sure = _whole_messages(payloads, max(bits, 9)) if takeover else len(payloads)
    for library, other in zip(libraries()[1:], seen[1:], strict=True):
        if library.name == "isal" and seen[0][1] == _BAD_CODE:
            continue  # it decodes with a Huffman code of which some words mean nothing, as long as none of them comes
        if other[1] is not None and other != seen[0]:
            # zlib follows a distance beyond the window as far as it has the bytes still, zlib-ng does not
            wide = [_inflated(each, payloads, takeover, 15, limit, data[1]) for each in (libraries()[0], library)]
            if seen[0] == wide[0] == wide[1]:
                continue
        _same(f"zlib and {library.name} inflate a payload to different things", seen[0], other, sure)
    if bits >= 9:  # zlib itself has no smaller window
        _check_with_zlib(payloads[0], bits, limit, seen[0])
    _round_trip(data[3:], takeover, max(bits, 9), data[1])
    return [seen[0][0], seen[0][1]]


def _codec(library: Backend, takeover: bool, bits: int, role: Role = Role.SERVER) -> PerMessageDeflate:
    settings = DeflateSettings("takeover" if takeover else "shared", send_window_bits=max(bits, 9))
    return PerMessageDeflate(settings, DeflateParameters(not takeover, not takeover, bits, bits), role, library)


def _inflated(
    library: Backend, payloads: Sequence[bytes], takeover: bool, bits: int, limit: int, seed: int
) -> Inflated:
    """The messages, and what ended them."""
    one = _one_way(_codec(library, takeover, bits), [whole(payload) for payload in payloads], limit, 1 << 18)
    pieces = [cut(payload, seed) for payload in payloads]
    other = _one_way(_codec(library, takeover, bits), pieces, limit, 1000)
    if one != other and bits < 15:
        # Who refers further back than the window that was agreed on has that taken as long as it lies in what one call
        # inflates. With the largest window it makes no difference how much that is.
        bits = 15
        one = _one_way(_codec(library, takeover, bits), [whole(payload) for payload in payloads], limit, 1 << 18)
        other = _one_way(_codec(library, takeover, bits), pieces, limit, 1000)
    _same(f"{library.name} inflates pieces to something else than the whole", one, other, len(payloads))
    return one


def _one_way(codec: PerMessageDeflate, messages: Sequence[Sequence[bytes]], limit: int, most: int) -> Inflated:
    """At most `most` bytes at once."""
    found: list[bytes] = []
    for pieces in messages:
        pieces = pieces or [b""]
        out = b""
        try:
            for at, piece in enumerate(pieces):
                out += codec.inflate(piece, limit - len(out), at == len(pieces) - 1, most)
                while codec.unfinished:
                    out += codec.inflate_more(limit - len(out), most)
        except PayloadTooBig:
            return found, "too big"
        except ProtocolError as error:
            is_code = "set" in str(error.__context__).split()  # "invalid distances set", and the like
            return found, _BAD_CODE if is_code else "invalid"
        require(len(out) <= limit, "more comes out than the limit")
        found.append(out)
    return found, None


def _same(what: str, one: Inflated, other: Inflated, sure: int) -> None:
    """Two ways agree on the first messages, as many as are `sure`, and on whether there is an error. Which one may
    differ: who sees later that a payload is invalid may have inflated too much of it by then."""
    errors = one[1] is not None, other[1] is not None
    if one[0][:sure] != other[0][:sure] or (errors[0] != errors[1] and sure > min(len(one[0]), len(other[0]))):
        raise Broken(what, one, other)


def _whole_messages(payloads: Sequence[bytes], bits: int) -> int:
    """How many messages, from the first, end where a block ends. With takeover nobody looks: of one that does not, a
    library may have seen more or less when it is out of bytes."""
    stream = zlib.decompressobj(-bits)
    for number, payload in enumerate(payloads):
        try:
            stream.decompress(payload + b"\0\0\xff\xff")
            probe = stream.copy()
            probe.decompress(b"\1\0\0\xff\xff")
        except (zlib.error, ValueError):
            return number
        if stream.eof or not probe.eof:
            return number
    return len(payloads)


def _check_with_zlib(payload: bytes, bits: int, limit: int, seen: Inflated) -> None:
    """The first message by zlib's own hand: one stream, as long as no block is final."""
    stream = zlib.decompressobj(-bits)
    try:
        out = stream.decompress(payload + b"\0\0\xff\xff")
    except zlib.error:
        require(not seen[0], "zlib calls invalid what was inflated")
        return
    if stream.eof:
        return  # what is behind a final block is another stream (RFC 7692 section 7.2.3.4)
    if len(out) <= limit and seen[0]:
        require(seen[0][0] == out, "a payload is not inflated as zlib does it")


def _round_trip(message: bytes, takeover: bool, bits: int, seed: int) -> None:
    for library in libraries():
        sender, receiver = (_codec(library, takeover, bits, role) for role in (Role.SERVER, Role.CLIENT))
        first = sender.compress(message)
        step = sender.deflater.begin()
        pieces = b"".join([*(step(piece, False) for piece in cut(message, seed)), step(b"", True)])
        for payload in (first, pieces, sender.compress(message)):
            found = _one_way(receiver, [[payload]], len(message), 1 << 18)[0]
            require(found == [message], f"{library.name} does not inflate what it deflated")
