# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The base framing protocol (RFC 6455 section 5): a pull decoder and an encoder.

The decoder makes no object per frame: `next()` moves on to the next piece and the caller reads it from the attributes.
"""

from __future__ import annotations

from flowserve.errors import ProtocolError
from flowserve.websocket.constants import MAX_CONTROL_PAYLOAD, Opcode, Role
from flowserve.websocket.payload import PayloadBuffer, apply_mask, join

_CONTINUATION = int(Opcode.CONTINUATION)
_BINARY = int(Opcode.BINARY)
_CLOSE = int(Opcode.CLOSE)
_PONG = int(Opcode.PONG)
_SERVER = int(Role.SERVER)
_MAX_CONTROL_PAYLOAD = int(MAX_CONTROL_PAYLOAD)


class FrameDecoder:
    """Takes the peer's bytes and gives its frames, piece by piece as their payload arrives.

    After `feed(data)` call `next()` until it is False. Each True describes one piece:

    `opcode`, `fin`, `rsv1`
        of the frame's header;
    `size`
        bytes of payload that the header announces;
    `first`, `last`
        whether the piece begins or ends its frame. A control frame always comes whole;
    `missing`
        bytes of the frame's payload that have not come, -1 when all have.

    `payload()` is the piece, unmasked. A frame whose header has come but not its payload is told of at once, with an
    empty first piece, so that it can be refused before anything is buffered.
    """

    __slots__ = (
        "_data",
        "_end",
        "_landed",
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
        """`role` is the role of this end; `allow_rsv1` says that permessage-deflate was agreed (RFC 7692 section 6)."""
        self._data = b""
        self._pos = 0  # of what has not been looked at
        self._end = 0
        self._start = 0  # of the piece; it ends at _pos
        self.missing = -1
        self._landed = 0  # bytes of payload that are in a store's room, and not yet a piece
        self._mask = b""  # what holds the frame's mask; empty without one
        self._mask_at = 0  # where it begins there
        self._masked = role == _SERVER
        self.allow_rsv1 = allow_rsv1
        self.lenient = False
        self.opcode = 0
        self.fin = False
        self.rsv1 = False
        self.size = 0
        self.first = False
        self.last = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream. The piece that `next()` has moved on to must have been taken."""
        if not data:  # only those are wanted that it has
            return
        if self._end:  # an incomplete header or control frame, or what was not looked at yet
            data = self._data[self._pos :] + data if self._pos else self._data + data
        self._data = data
        self._start = self._pos = 0
        self._end = len(data)

    def next(self) -> bool:
        """Move on to the next piece; False when more bytes are needed.

        Raises ProtocolError for a header that RFC 6455 section 5.2 does not allow. After `lenient = True` there are no
        such errors: frames are told of as they come, so that a close frame can still be found behind a bad one; it
        comes whole, unless it is longer than a control frame may be.
        """
        if self.missing >= 0:
            if self._landed:
                self._landing()
                return True
            if self._pos == self._end:
                return self._wait()
            self.first = False
            self._take(self.missing)
            return True
        if not self._header():
            return False
        self.first = True
        self._take(self.size)
        return True

    def has_more(self) -> bool:
        """Whether there is something that `next()` has not looked at."""
        return self._pos < self._end or self._landed > 0

    def payload(self) -> bytes:
        """Return the piece's bytes, unmasked. Raises ValueError for one that landed: it is in the store."""
        if self._start < 0:
            raise ValueError("the piece is in the store")
        if not self._mask:
            data = self._data
            return data[self._start : self._pos]
        payload = apply_mask(self._data, self._start, self._pos, self._mask, self._mask_at)
        if not self.last:
            self._turn(self._pos - self._start)
        return payload

    def text(self) -> str:
        """Return the piece's bytes as text. Raises UnicodeDecodeError, and ValueError as `payload()`."""
        if not self._mask and self._start >= 0:
            return self._data[self._start : self._pos].decode("utf-8")  # compiled: without a copy between
        return self.payload().decode("utf-8")

    def store(self, store: PayloadBuffer) -> None:
        """Put the piece's bytes into `store`, unmasked; those that landed are there already."""
        size = self._pos - self._start
        if self._start >= 0:
            store.put(self._data, self._start, self._pos)
        store.unmask(size, self._mask, self._mask_at)
        if self._mask and not self.last:
            self._turn(size)

    def buffer_updated(self, size: int) -> None:
        """The next `size` bytes of the frame's payload, at most those `missing`, have come into a store's room: they
        are the next piece, only for `store()`. All pieces of the bytes before must have been taken. Raises ValueError
        for more than those missing."""
        if not 0 <= size <= self.missing:
            raise ValueError("more than is missing of the payload")
        self._landed = size

    def _turn(self, size: int) -> None:
        """Have the mask begin where it goes on behind `size` bytes."""
        mask = self._mask[self._mask_at : self._mask_at + 4]
        turn = size & 3
        self._mask = mask[turn:] + mask[:turn]
        self._mask_at = 0

    def _landing(self) -> None:
        """Make the piece what landed: it ends at `_pos`, as every piece, but begins before the bytes that are here."""
        self.first = False
        self._start = self._pos - self._landed
        self.missing -= self._landed
        self._landed = 0
        self.last = not self.missing
        if self.last:
            self.missing = -1

    def _take(self, wanted: int) -> None:
        """Make the piece the next `wanted` bytes of payload, or as many of them as are there."""
        self._start = self._pos
        if self._end - self._pos < wanted:
            self._pos = self._end
            self.missing = wanted - (self._end - self._start)
            self.last = False
        else:
            self._pos += wanted
            self.missing = -1
            self.last = True

    def _header(self) -> bool:
        """Read a frame's header, if all of it is there, and set `_pos` behind it."""
        data = self._data
        pos = self._pos
        available = self._end - pos
        if available < 2:
            return self._wait()
        first = data[pos]
        second = data[pos + 1]
        size = second & 0x7F
        masked = second >= 0x80
        if not self.lenient:
            self._check(first, size, masked)
        head = 2 + (0 if size < 126 else 2 if size == 126 else 8)
        if available < head + (4 if masked else 0):
            return self._wait()
        if size >= 126:
            shortest = 126 if size == 126 else 65536
            size = data[pos + 2] & 0x7F if head == 10 else data[pos + 2]
            for at in range(pos + 3, pos + head):
                size = size << 8 | data[at]
            if not self.lenient:
                if head == 10 and data[pos + 2] >= 0x80:
                    raise ProtocolError("64-bit length with its first bit set")
                if size < shortest:
                    raise ProtocolError("length not in its shortest form")
        pos += head
        if masked:
            self._mask = self._data
            self._mask_at = pos
            pos += 4
        else:
            self._mask = b""
        if first & 0x08 and self._end - pos < size and self._comes_whole(first, size):
            return self._wait()
        self.opcode = first & 0x0F
        self.fin = first >= 0x80
        self.rsv1 = first & 0x40 != 0
        self.size = size
        self._pos = pos
        return True

    def _comes_whole(self, first: int, size: int) -> bool:
        """Whether to wait for all of a control frame: among bad frames only for a close frame, for what it says."""
        return not self.lenient or (first & 0x0F == _CLOSE and size <= _MAX_CONTROL_PAYLOAD)

    def _check(self, first: int, size: int, masked: bool) -> None:
        """Raise ProtocolError unless the two bytes may begin a frame here (RFC 6455 sections 5.1, 5.2 and 5.5)."""
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

    def _wait(self) -> bool:
        """Keep no more than what has not been looked at; False, as `next()` answers it."""
        self._data = self._data[self._pos : self._end]
        self._end -= self._pos
        self._start = self._pos = 0
        if self.missing < 0:
            self._mask = b""  # it would keep the bytes before alive
        return False


# With FIN and no reserved bit, by opcode and second byte: the mask bit and a size below 126.
_SHORT_HEADERS = [[bytes((0x80 | opcode, second)) for second in range(0x80 + 126)] for opcode in range(_PONG + 1)]


def encode_frame(opcode: int, payload: bytes, mask: bytes = b"", rsv1: bool = False, fin: bool = True) -> bytes:
    """Return one frame (RFC 6455 section 5.2). `mask` is 4 random bytes for a client, empty for a server."""
    size = len(payload)
    if size < 126 and fin and not rsv1 and 0 <= opcode <= _PONG:
        if not mask:
            return join(_SHORT_HEADERS[opcode][size], payload)
        return apply_mask(payload, 0, size, mask, 0, _SHORT_HEADERS[opcode][0x80 | size] + mask)
    header = encode_header(opcode, size, mask, rsv1, fin)
    return apply_mask(payload, 0, size, mask, 0, header) if mask else header + payload


def encode_header(opcode: int, size: int, mask: bytes = b"", rsv1: bool = False, fin: bool = True) -> bytes:
    """Return the header of a frame whose payload has `size` bytes."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    masked = 0x80 if mask else 0
    if size < 126:
        return bytes((first, masked | size)) + mask
    if size < 65536:
        return bytes((first, masked | 126)) + size.to_bytes(2, "big") + mask
    return bytes((first, masked | 127)) + size.to_bytes(8, "big") + mask
