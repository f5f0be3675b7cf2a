# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""What one end of a WebSocket has to say, as bytes that wait to be written (RFC 6455 section 5, RFC 7692 section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flowserve.websocket.constants import Opcode, Role
from flowserve.websocket.frames import encode_frame, encode_header
from flowserve.websocket.payload import new_mask, text_bytes

if TYPE_CHECKING:
    from flowserve.websocket.deflate import PerMessageDeflate

_CONTINUATION = int(Opcode.CONTINUATION)
_TEXT = int(Opcode.TEXT)
_BINARY = int(Opcode.BINARY)
_PING = int(Opcode.PING)
_PONG = int(Opcode.PONG)
_CLIENT = int(Role.CLIENT)

_PONG_MARK = 65536  # bytes of output waiting: from here on only the newest pong is kept (RFC 6455 section 5.5.3)
# bytes of payload: from here on a frame's header and payload go out as two pieces, not copied into one
_COPY_MARK = 32768
_MAX_HEADER = 14  # bytes


class Output:
    """The sending side of a Connection: `send_*` and `ping`, then `take_output()` gives the bytes to write.

    `output_size` counts the bytes that wait. `fragmenting` says that `send_fragment()` has yet to send a message's
    last.
    """

    __slots__ = (
        "_deflate_piece",
        "_fragmented",
        "_outbox",
        "_pong",
        "bytes_out",
        "deflate",
        "fragmenting",
        "is_client",
        "messages_out",
        "output_size",
    )

    def __init__(self, role: int, deflate: PerMessageDeflate | None) -> None:
        self.is_client = role == _CLIENT
        self.deflate = deflate  # what permessage-deflate was agreed on; None without it
        self._outbox: list[bytes | memoryview] | None = None  # no list without pieces: idle connections are many
        self._pong: bytes | None = None  # the mailbox
        self.fragmenting = False
        self._fragmented = 0  # bytes of that message
        self._deflate_piece: Callable[[bytes, bool], bytes] | None = None  # and what compresses them
        self.output_size = 0
        self.messages_out = 0
        self.bytes_out = 0

    def send_text(self, text: str, compress: bool | None = None) -> None:
        """Send a text message. UnicodeEncodeError for a lone surrogate.

        `compress` says whether to compress it, where permessage-deflate was agreed on; None leaves that to its length.
        """
        if len(text) < _COPY_MARK or self.is_client or self.deflate is not None or not text.isascii():
            self._send(_TEXT, text.encode("utf-8"), compress)
        else:
            self._send_ascii(text)

    def send_binary(self, data: bytes, compress: bool | None = None) -> None:
        """Send a binary message; `compress` as above."""
        self._send(_BINARY, data, compress)

    def send_compressed(self, text: bool, payload: bytes, size: int) -> None:
        """Send a message that the codec has compressed already; it had `size` bytes before."""
        self.messages_out += 1
        self.bytes_out += size
        self._put_message(_TEXT if text else _BINARY, payload, True)

    def send_frame(self, frame: bytes, text: bool, size: int) -> None:
        """Send a message that is a frame already, unmasked, and had `size` bytes before it was compressed."""
        self.messages_out += 1
        self.bytes_out += size
        self._put(frame)

    def send_fragment(self, text: bool, payload: bytes, first: bool, last: bool, compress: bool = False) -> None:
        """Send a frame of a message that goes out in fragments (RFC 6455 section 5.4, RFC 7692 section 6.1); only
        control frames may be sent until its last. `compress`, in the first, is as above, but None is no."""
        if first:
            self._fragmented = 0
            self._deflate_piece = self.deflate.deflater.begin() if compress and self.deflate is not None else None
        rsv1 = first and self._deflate_piece is not None
        self._fragmented += len(payload)
        self.bytes_out += len(payload)
        if self._deflate_piece is not None:
            payload = self._deflate_piece(payload, last)
        self._put(
            encode_frame(_CONTINUATION if not first else _TEXT if text else _BINARY, payload, self._mask(), rsv1, last)
        )
        self.fragmenting = not last
        if last:
            self._deflate_piece = None
            self.messages_out += 1

    def ping(self, payload: bytes) -> None:
        """Send a ping of at most 125 bytes."""
        self._put(encode_frame(_PING, payload, self._mask()))

    def send_pong(self, payload: bytes) -> None:
        """Send a pong of at most 125 bytes that answers none."""
        self._put(encode_frame(_PONG, payload, self._mask()))

    def pong(self, payload: bytes) -> None:
        """Answer a ping; while much waits to be written, in the place of an older answer."""
        if self.output_size < _PONG_MARK:
            self._put(encode_frame(_PONG, payload, self._mask()))
        else:
            self._pong = payload

    def take_output(self) -> list[bytes | memoryview]:
        """Return the pieces to write, in order, and forget them."""
        if self._pong is not None:
            self._put(encode_frame(_PONG, self._pong, self._mask()))
            self._pong = None
        pieces, self._outbox = self._outbox, None
        self.output_size = 0
        return [] if pieces is None else pieces

    def take_some(self, least: int) -> list[bytes | memoryview]:
        """Return the first pieces, whole frames of at least `least` bytes (one at least) or all there is, and forget
        them."""
        outbox = self._outbox or []
        size = count = 0
        while count < len(outbox):
            piece = outbox[count]
            # a large payload stands behind its header
            if count and size >= least and not (len(outbox[count - 1]) <= _MAX_HEADER and len(piece) >= _COPY_MARK):
                break
            size += len(piece)
            count += 1
        if count == len(outbox):
            return self.take_output()
        pieces = outbox[:count]
        del outbox[:count]
        self.output_size -= size
        return pieces

    def disown_output(self) -> None:
        """Forget what was not taken. Only a close may follow: with context takeover, messages would refer to what is
        gone."""
        self._outbox = None
        self._pong = None
        self.output_size = 0

    def _send(self, opcode: int, payload: bytes, compress: bool | None) -> None:
        self.messages_out += 1
        self.bytes_out += len(payload)
        if self.deflate is not None and (self.deflate.worthwhile(payload) if compress is None else compress):
            self._put_message(opcode, self.deflate.compress(payload), True)
        else:
            self._put_message(opcode, payload, False)

    def _send_ascii(self, text: str) -> None:
        """Send a large text as it is: compiled, without a copy of it."""
        size = len(text)
        self.messages_out += 1
        self.bytes_out += size
        self._put(encode_header(_TEXT, size))
        self._outbox.append(text_bytes(text))  # type: ignore[union-attr]
        self.output_size += size

    def _put_message(self, opcode: int, payload: bytes, rsv1: bool) -> None:
        if len(payload) >= _COPY_MARK and not self.is_client:
            self._put(encode_header(opcode, len(payload), b"", rsv1))
            self._put(payload)
        else:
            self._put(encode_frame(opcode, payload, self._mask(), rsv1))

    def _put(self, piece: bytes) -> None:
        if self._outbox is None:
            self._outbox = [piece]
        else:
            self._outbox.append(piece)
        self.output_size += len(piece)

    def _mask(self) -> bytes:
        return new_mask() if self.is_client else b""
