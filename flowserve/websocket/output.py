# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The sending side of a WebSocket: messages and control frames become bytes to write (RFC 6455 section 5, RFC 7692
section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flowserve.websocket.constants import Opcode, Role
from flowserve.websocket.frames import encode_ascii_frame, encode_frame, encode_header
from flowserve.websocket.payload import new_mask, text_bytes

if TYPE_CHECKING:
    from flowserve.websocket.deflate import PerMessageDeflate

_CONTINUATION = int(Opcode.CONTINUATION)
_TEXT = int(Opcode.TEXT)
_BINARY = int(Opcode.BINARY)
_PING = int(Opcode.PING)
_PONG = int(Opcode.PONG)
_CLIENT = int(Role.CLIENT)

_PONG_MARK = 65536  # bytes of output from which on only the latest ping is answered (RFC 6455 section 5.5.3)
_COPY_MARK = 8192  # bytes of payload from which on a frame is two pieces, header and payload, to avoid a copy
_MAX_HEADER = 14  # bytes of a frame's header


class Output:
    """The sending side of a Connection: `send_*()` and `ping()` queue output, `take_output()` returns the bytes to
    write. It does not check the state of the connection."""

    __slots__ = (
        "_deflate_piece",
        "_fragmented",
        "_output",
        "_pending_pong",
        "bytes_out",
        "deflate",
        "fragmenting",
        "is_client",
        "messages_out",
        "output_size",
    )

    def _begin_output(self, role: int, deflate: PerMessageDeflate | None) -> None:
        self.is_client = role == _CLIENT
        self.deflate = deflate  # the codec of permessage-deflate, None if it was not agreed on
        self._output: list[bytes | memoryview] | None = None  # created on demand: most connections are idle
        self._pending_pong: bytes | None = None  # payload of a pong that is not in the output yet
        self.fragmenting = False  # a message sent with `send_fragment()` is incomplete
        self._fragmented = 0  # bytes of that message so far
        self._deflate_piece: Callable[[bytes, bool], bytes] | None = None  # its compressor
        self.output_size = 0  # bytes in the output
        self.messages_out = 0  # sent so far
        self.bytes_out = 0  # in those, before compression

    def send_text(self, text: str, compress: bool | None = None) -> None:
        """Send a text message. Raises UnicodeEncodeError for a lone surrogate.

        `compress` says whether to compress it, if permessage-deflate was agreed on; None decides by its length.
        """
        if self.is_client or self.deflate is not None or not text.isascii():
            self._send(_TEXT, text.encode("utf-8"), compress)
        else:
            self._send_ascii(text)

    def send_binary(self, data: bytes, compress: bool | None = None) -> None:
        """Send a binary message; `compress` as for `send_text()`."""
        self._send(_BINARY, data, compress)

    def send_compressed(self, text: bool, payload: bytes, size: int) -> None:
        """Send a message of `size` bytes whose `payload` the codec has compressed already."""
        self.messages_out += 1
        self.bytes_out += size
        self._put_message(_TEXT if text else _BINARY, payload, True)

    def send_frame(self, frame: bytes, text: bool, size: int) -> None:
        """Send a message that is encoded already, as an unmasked frame; it had `size` bytes before compression."""
        self.messages_out += 1
        self.bytes_out += size
        self._enqueue(frame)

    def send_fragment(self, text: bool, payload: bytes, first: bool, last: bool, compress: bool = False) -> None:
        """Send one frame of a fragmented message (RFC 6455 section 5.4, RFC 7692 section 6.1). Until the last one, only
        control frames may be sent. `compress` counts in the first: whether to compress the message, if possible."""
        if first:
            self._fragmented = 0
            self._deflate_piece = self.deflate.deflater.begin() if compress and self.deflate is not None else None
        rsv1 = first and self._deflate_piece is not None
        self._fragmented += len(payload)
        self.bytes_out += len(payload)
        if self._deflate_piece is not None:
            payload = self._deflate_piece(payload, last)
        self._enqueue(
            encode_frame(_CONTINUATION if not first else _TEXT if text else _BINARY, payload, self._mask(), rsv1, last)
        )
        self.fragmenting = not last
        if last:
            self._deflate_piece = None
            self.messages_out += 1

    def ping(self, payload: bytes) -> None:
        """Send a ping of at most 125 bytes."""
        self._enqueue(encode_frame(_PING, payload, self._mask()))

    def send_pong(self, payload: bytes) -> None:
        """Send an unsolicited pong of at most 125 bytes (RFC 6455 section 5.5.3)."""
        self._enqueue(encode_frame(_PONG, payload, self._mask()))

    def answer_ping(self, payload: bytes) -> None:
        """Send a pong. While there is much output, it replaces an older pong that is not in the output yet."""
        if self.output_size < _PONG_MARK:
            self._enqueue(encode_frame(_PONG, payload, self._mask()))
        else:
            self._pending_pong = payload

    def take_output(self) -> list[bytes | memoryview]:
        """Return and forget all output, as pieces in order."""
        if self._pending_pong is not None:
            self._enqueue(encode_frame(_PONG, self._pending_pong, self._mask()))
            self._pending_pong = None
        pieces, self._output = self._output, None
        self.output_size = 0
        return [] if pieces is None else pieces

    def take_some(self, min_size: int) -> list[bytes | memoryview]:
        """Return and forget the first pieces: complete frames, at least one, of at least `min_size` bytes together, or
        all output if there is less."""
        output = self._output or []
        size = count = 0
        while count < len(output):
            piece = output[count]
            # never split a large payload from its header
            if count and size >= min_size and not (len(output[count - 1]) <= _MAX_HEADER and len(piece) >= _COPY_MARK):
                break
            size += len(piece)
            count += 1
        if count == len(output):
            return self.take_output()
        pieces = output[:count]
        del output[:count]
        self.output_size -= size
        return pieces

    def discard_output(self) -> None:
        """Drop all output. Only a close frame may be sent afterwards: with context takeover, further messages would
        refer to dropped ones."""
        self._output = None
        self._pending_pong = None
        self.output_size = 0

    def _send(self, opcode: int, payload: bytes, compress: bool | None) -> None:
        self.messages_out += 1
        self.bytes_out += len(payload)
        if self.deflate is not None and (self.deflate.should_compress(payload) if compress is None else compress):
            self._put_message(opcode, self.deflate.compress(payload), True)
        else:
            self._put_message(opcode, payload, False)

    def _send_ascii(self, text: str) -> None:
        """Send an ASCII text. When compiled, its payload is the memory of the str itself, which is copied once at
        most."""
        size = len(text)
        self.messages_out += 1
        self.bytes_out += size
        if size < _COPY_MARK:
            self._enqueue(encode_ascii_frame(text))
            return
        self._enqueue(encode_header(_TEXT, size))
        self._output.append(text_bytes(text))  # type: ignore[union-attr]
        self.output_size += size

    def _put_message(self, opcode: int, payload: bytes, rsv1: bool) -> None:
        if len(payload) >= _COPY_MARK and not self.is_client:
            self._enqueue(encode_header(opcode, len(payload), b"", rsv1))
            self._enqueue(payload)
        else:
            self._enqueue(encode_frame(opcode, payload, self._mask(), rsv1))

    def _enqueue(self, piece: bytes) -> None:
        if self._output is None:
            self._output = [piece]
        else:
            self._output.append(piece)
        self.output_size += len(piece)

    def _mask(self) -> bytes:
        return new_mask() if self.is_client else b""
