# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The base framing protocol (RFC 6455 section 5): a pull decoder and an encoder.

Theory of operation. The decoder creates no object per frame: `next()` moves to the next piece of a payload, which the
caller reads from the attributes and `payload()`. There are two states:

- `missing` < 0: at a frame boundary. The next bytes are a header. Once it is complete it is checked, and its frame's
  first piece is what has arrived of the payload, perhaps nothing. So a caller can refuse a frame by its header.
- `missing` >= 0: within a frame's payload, of which so many bytes have not been read. The next bytes are a piece of it.

A control frame is one piece: it is only returned once all of it has arrived. Bytes of the current payload may bypass
`feed()`, in a PayloadBuffer: `buffer_updated()` announces them as the next piece, which `copy_to()` unmasks in place.
Input that is not read yet stays in `_data[_pos:_end]`; the current piece is `_data[_start:_pos]`, still masked.
"""

from __future__ import annotations

import struct

from flowserve.errors import ProtocolError
from flowserve.websocket.constants import MAX_CONTROL_PAYLOAD, Opcode, Role
from flowserve.websocket.payload import PayloadBuffer, apply_mask, join, join_ascii, unmask_text

_CONTINUATION = int(Opcode.CONTINUATION)
_TEXT = int(Opcode.TEXT)
_BINARY = int(Opcode.BINARY)
_CLOSE = int(Opcode.CLOSE)
_PONG = int(Opcode.PONG)
_SERVER = int(Role.SERVER)
_MAX_CONTROL_PAYLOAD = int(MAX_CONTROL_PAYLOAD)
_HEADER_16 = struct.Struct(">BBH").pack
_HEADER_64 = struct.Struct(">BBQ").pack
_IN_BUFFER = "the piece is in a PayloadBuffer"


class FrameDecoder:
    """Decodes the peer's bytes into frames, piece by piece as their payload arrives.

    After `feed(data)` call `next()` until it returns False. Each True stands for one piece, described by:

    `opcode`, `fin`, `rsv1`
        the fields of the frame's header;
    `size`
        bytes of payload that the header announces;
    `first`, `last`
        whether the piece begins or ends its frame. A control frame is always one piece;
    `missing`
        bytes of the frame's payload that have not arrived, -1 if none are missing.

    `payload()` returns the piece, unmasked. A data frame is returned as soon as its header is complete, if necessary
    with an empty first piece, so that it can be refused before anything is buffered.
    """

    __slots__ = (
        "_buffered",
        "_data",
        "_end",
        "_mask",
        "_mask_at",
        "_masked",
        "_pos",
        "_start",
        "allow_rsv1",
        "fin",
        "first",
        "last",
        "lenient",
        "missing",
        "opcode",
        "rsv1",
        "size",
    )

    def __init__(self, role: int, allow_rsv1: bool) -> None:
        """`role` is the Role of this end; `allow_rsv1` says whether permessage-deflate was agreed (RFC 7692 section
        6)."""
        self._data = b""
        self._pos = 0  # start of the input that is not read yet
        self._end = 0  # end of the input
        self._start = 0  # start of the piece, which ends at _pos; negative if its bytes are in a PayloadBuffer
        self.missing = -1
        self._buffered = 0  # bytes of payload in a PayloadBuffer that are the next piece
        self._mask = b""  # bytes that contain the frame's masking key; empty for an unmasked frame
        self._mask_at = 0  # index of the key in them
        self._masked = role == _SERVER  # the peer's frames must be masked
        self.allow_rsv1 = allow_rsv1
        self.lenient = False  # set by the caller after an error, see `next()`
        self.opcode = 0
        self.fin = False
        self.rsv1 = False
        self.size = 0
        self.first = False
        self.last = False

    def feed(self, data: bytes) -> None:
        """Append the next bytes of the stream. The current piece must have been read."""
        if not data:
            return
        if self._end:  # an incomplete header or control frame, or input that was not read
            data = self._data[self._pos :] + data if self._pos else self._data + data
        self._data = data
        self._start = self._pos = 0
        self._end = len(data)

    def next(self) -> bool:
        """Move to the next piece. Return False if more bytes are needed.

        Raises ProtocolError for a header that RFC 6455 section 5.2 does not allow. With `lenient = True` headers are
        not checked, so that a close frame can still be found after a bad frame. It is one piece then too, unless it is
        longer than a control frame may be.
        """
        if self.missing >= 0:
            if self._buffered:
                self._take_buffered()
                return True
            if self._pos == self._end:
                return self._need_more_data()
            self.first = False
            self._take_payload(self.missing)
            return True
        if not self._read_header():
            return False
        self.first = True
        self._take_payload(self.size)
        return True

    def has_more(self) -> bool:
        """Whether there is input that `next()` has not read."""
        return self._pos < self._end or self._buffered > 0

    def payload(self) -> bytes:
        """Return the piece, unmasked. Raises ValueError for a piece in a PayloadBuffer; see `copy_to()`."""
        if self._start < 0:
            raise ValueError(_IN_BUFFER)
        if not self._mask:
            data = self._data
            return data[self._start : self._pos]
        payload = apply_mask(self._data, self._start, self._pos, self._mask, self._mask_at)
        if not self.last:
            self._rotate_mask(self._pos - self._start)
        return payload

    def text(self) -> str:
        """Return the piece as text. Raises UnicodeDecodeError, and ValueError like `payload()`."""
        if self._start < 0:
            raise ValueError(_IN_BUFFER)
        if not self._mask:
            return self._data[self._start : self._pos].decode("utf-8")  # without an intermediate copy when compiled
        text = unmask_text(self._data, self._start, self._pos, self._mask, self._mask_at)
        if not self.last:
            self._rotate_mask(self._pos - self._start)
        return text

    def copy_to(self, buffer: PayloadBuffer) -> None:
        """Put the piece into `buffer`, unmasked. A piece announced by `buffer_updated()` is only unmasked there."""
        size = self._pos - self._start
        if self._start >= 0:
            buffer.put(self._data, self._start, self._pos, self._mask, self._mask_at)
        else:
            buffer.unmask(size, self._mask, self._mask_at)
        if self._mask and not self.last:
            self._rotate_mask(size)

    def buffer_updated(self, size: int) -> None:
        """Note that the next `size` bytes of the frame's payload were read into a PayloadBuffer. They are the next
        piece, for `copy_to()` only. All earlier pieces must have been read. Raises ValueError for more bytes than are
        `missing`."""
        if not 0 <= size <= self.missing:
            raise ValueError("more than is missing of the payload")
        self._buffered = size

    def _rotate_mask(self, size: int) -> None:
        """Rotate the masking key to its position after `size` more bytes."""
        mask = self._mask[self._mask_at : self._mask_at + 4]
        shift = size & 3
        self._mask = mask[shift:] + mask[:shift]
        self._mask_at = 0

    def _take_buffered(self) -> None:
        """Make the bytes in the PayloadBuffer the piece. Like any piece it ends at `_pos`; its start is negative."""
        self.first = False
        self._start = self._pos - self._buffered
        self.missing -= self._buffered
        self._buffered = 0
        self.last = not self.missing
        if self.last:
            self.missing = -1

    def _take_payload(self, size: int) -> None:
        """Make the next `size` bytes of payload the piece, or as many of them as have arrived."""
        self._start = self._pos
        if self._end - self._pos < size:
            self._pos = self._end
            self.missing = size - (self._end - self._start)
            self.last = False
        else:
            self._pos += size
            self.missing = -1
            self.last = True

    def _read_header(self) -> bool:
        """Read a frame's header and move `_pos` past it. Return False if it is incomplete."""
        data = self._data
        pos = self._pos
        available = self._end - pos
        if available < 2:
            return self._need_more_data()
        first = data[pos]
        second = data[pos + 1]
        size = second & 0x7F
        masked = second >= 0x80
        if not self.lenient:
            self._check_header(first, size, masked)
        header_size = 2 + (0 if size < 126 else 2 if size == 126 else 8)
        if available < header_size + (4 if masked else 0):
            return self._need_more_data()
        if size >= 126:
            shortest = 126 if size == 126 else 65536
            size = data[pos + 2] & 0x7F if header_size == 10 else data[pos + 2]
            for at in range(pos + 3, pos + header_size):
                size = size << 8 | data[at]
            if not self.lenient:
                if header_size == 10 and data[pos + 2] >= 0x80:
                    raise ProtocolError("64-bit length with its first bit set")
                if size < shortest:
                    raise ProtocolError("length not in its shortest form")
        pos += header_size
        if masked:
            self._mask = self._data
            self._mask_at = pos
            pos += 4
        else:
            self._mask = b""
        if first & 0x08 and self._end - pos < size and self._must_be_complete(first, size):
            return self._need_more_data()
        self.opcode = first & 0x0F
        self.fin = first >= 0x80
        self.rsv1 = first & 0x40 != 0
        self.size = size
        self._pos = pos
        return True

    def _must_be_complete(self, first: int, size: int) -> bool:
        """Whether to wait for all of a control frame. If `lenient`, only close frames matter."""
        return not self.lenient or (first & 0x0F == _CLOSE and size <= _MAX_CONTROL_PAYLOAD)

    def _check_header(self, first: int, size: int, masked: bool) -> None:
        """Raise ProtocolError if a header must not begin like this (RFC 6455 sections 5.1, 5.2 and 5.5). `first` is its
        first byte; `size` and `masked` come from its second."""
        opcode = first & 0x0F
        if first & 0x30 or (first & 0x40 and (not self.allow_rsv1 or opcode == _CONTINUATION or opcode >= _CLOSE)):
            raise ProtocolError("reserved bits set")
        if _BINARY < opcode < _CLOSE or opcode > _PONG:
            raise ProtocolError(f"reserved opcode {opcode}")
        if masked != self._masked:
            raise ProtocolError("frame not masked" if self._masked else "frame masked by a server")
        if opcode >= _CLOSE:
            if first < 0x80:
                raise ProtocolError("fragmented control frame")
            if size > _MAX_CONTROL_PAYLOAD:
                raise ProtocolError("control frame longer than 125 bytes")

    def _need_more_data(self) -> bool:
        """Drop the input that has been read, and return False for `next()` to return."""
        self._data = self._data[self._pos : self._end] if self._pos < self._end else b""
        self._end -= self._pos
        self._start = self._pos = 0
        if self.missing < 0:
            self._mask = b""  # it would keep earlier input alive
        return False


# Headers with FIN and no reserved bit, by opcode and second byte: the mask bit and a size below 126.
_SHORT_HEADERS = [[bytes((0x80 | opcode, second)) for second in range(0x80 + 126)] for opcode in range(_PONG + 1)]


def encode_frame(opcode: int, payload: bytes, mask: bytes = b"", rsv1: bool = False, fin: bool = True) -> bytes:
    """Return a frame (RFC 6455 section 5.2). `mask` is the masking key, 4 random bytes for a client, empty for a
    server."""
    size = len(payload)
    if size < 126 and fin and not rsv1 and 0 <= opcode <= _PONG:
        if not mask:
            return join(_SHORT_HEADERS[opcode][size], payload)
        return apply_mask(payload, 0, size, mask, 0, _SHORT_HEADERS[opcode][0x80 | size] + mask)
    header = encode_header(opcode, size, mask, rsv1, fin)
    return apply_mask(payload, 0, size, mask, 0, header) if mask else header + payload


def encode_ascii_frame(text: str) -> bytes:
    """Return an unmasked frame with a text message, which must be ASCII."""
    size = len(text)
    return join_ascii(_SHORT_HEADERS[_TEXT][size] if size < 126 else encode_header(_TEXT, size), text)


def encode_header(opcode: int, size: int, mask: bytes = b"", rsv1: bool = False, fin: bool = True) -> bytes:
    """Return the header of a frame with `size` bytes of payload, including the masking key."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    masked = 0x80 if mask else 0
    if size < 126:
        return bytes((first, masked | size)) + mask
    if size < 65536:
        return _HEADER_16(first, masked | 126, size) + mask
    return _HEADER_64(first, masked | 127, size) + mask
