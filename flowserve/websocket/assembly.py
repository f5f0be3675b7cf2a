# cython: language_level=3, annotation_typing=False, binding=False
"""Assembling messages from frames: continuation, decompression, UTF-8 and limits (RFC 6455 sections 5.4 and 8.1, RFC
7692 section 6.2).

Theory of operation. `_opcode` is 0 between messages, else the opcode of the message that is being received. A message
takes one of three ways:

- A complete, unfragmented, uncompressed frame is delivered at once (`_read_whole_message()`).
- The payload of a large unfragmented, uncompressed frame is gathered in `_buffer`, a PayloadBuffer, into which the
  transport may read directly. If it is text and not ASCII, or a part is requested, it moves to `_parts`.
- All else is checked piece by piece, as it arrives, and appended to `_parts`: text as whole characters in UTF-8, with
  the beginning of an incomplete character in `_partial_character`. A compressed piece may be inflated in several steps;
  `_inflating` is true between them, and no further frame is read until the piece is finished.

Every check runs as early as possible, so that a bad message fails before the rest of it has arrived. Errors are raised
as ProtocolError; Connection turns them into state and a close frame.
"""

from __future__ import annotations

import codecs
from io import SEEK_END, BytesIO
from typing import TYPE_CHECKING

from flowserve.errors import InvalidText, PayloadTooBig, ProtocolError
from flowserve.websocket.budget import Budget
from flowserve.websocket.constants import Opcode
from flowserve.websocket.deflate import INFLATE_MARK
from flowserve.websocket.frames import FrameDecoder
from flowserve.websocket.output import Output
from flowserve.websocket.payload import PayloadBuffer

if TYPE_CHECKING:
    from flowserve.websocket.deflate import PerMessageDeflate

_CONTINUATION = int(Opcode.CONTINUATION)
_TEXT = int(Opcode.TEXT)
_BINARY = int(Opcode.BINARY)

_BUFFER_MARK = 65536  # bytes: a frame that lacks at least so many gets a PayloadBuffer
_INFLATE_COST = 1024  # units of the budget for each call of the codec, beside one per byte of its output
_INFLATE_MARK = INFLATE_MARK
_MIN_INFLATED = 4096  # bytes of output per call, even if the budget has less left
_READ_COST = 128  # units of the budget that a compressed byte may cost at most: empty blocks do
_MAX_READ = 4096  # compressed bytes per call: 1.3 ms if they are empty blocks
_MIN_READ = 512
_COPIED_PER_UNIT = 2  # bytes that are copied into a PayloadBuffer for one unit of the budget

_unlimited = Budget()


class UndecodedText:
    """A text message that waits in the queue as the valid UTF-8 that was received. A str with a single wide character
    takes four times as much memory, and many connections may have a message waiting."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)


class Assembly(Output):
    """The part of a Connection that stands between its frame decoder and `_deliver()`."""

    __slots__ = (
        "_budget",
        "_buffer",
        "_compressed",
        "_decoder",
        "_frames",
        "_inflating",
        "_last_piece",
        "_max_frames",
        "_max_size",
        "_opcode",
        "_partial_character",
        "_parts",
        "_size",
    )

    def _begin_assembly(self, role: int, max_size: int, max_frames: int, deflate: PerMessageDeflate | None) -> None:
        self._begin_output(role, deflate)
        self._decoder = FrameDecoder(role, deflate is not None)
        self._max_size = max_size
        self._max_frames = max_frames
        self._budget = _unlimited
        self._opcode = 0  # of the message that is being received; 0 between messages
        self._compressed = False  # its RSV1 bit
        self._inflating = False  # a piece of it is only partly inflated
        self._last_piece = False  # that piece is the last of the message
        self._frames = 0  # begun so far
        self._size = 0  # bytes so far, after inflation; with a buffer, those that the header announces
        self._parts: BytesIO | None = None
        self._partial_character = b""  # the last bytes of text so far, if they are an incomplete character
        self._buffer: PayloadBuffer | None = None

    def set_budget(self, budget: Budget) -> None:
        """Decode at most what `budget` allows before returning to the event loop. Connections may share a budget."""
        self._budget = budget

    def wants_buffer(self) -> bool:
        """Whether the next bytes belong to a large payload, so that they may be read into `get_buffer()` instead of
        being fed."""
        return self._buffer is not None

    def get_buffer(self) -> memoryview:
        """Return a buffer for the peer's next bytes, while `wants_buffer()`; it is never longer than the missing rest
        of the payload. Views that were returned earlier must not be used any more."""
        return self._buffer.get_buffer()  # type: ignore[union-attr]

    def buffer_updated(self, size: int) -> None:
        """Note that the peer's next `size` bytes are in `get_buffer()`. The next `feed()`, which may be of b"", decodes
        them. Raises ValueError if there is no buffer or it is shorter."""
        if self._buffer is None:
            raise ValueError("there is no room to land in")
        self._decoder.buffer_updated(size)

    def take_part(self) -> str | bytes:
        """Return and forget what has been received of an incomplete message; `take()` will return the rest. Empty if
        nothing has been received."""
        if self._buffer is not None:
            self._switch_to_parts(False)
        if self._parts is None:
            return b""
        part, self._parts = self._parts.getvalue(), None
        return part.decode() if self._opcode == _TEXT else part

    @property
    def part_size(self) -> int:
        """Bytes that `take_part()` would return (text in UTF-8)."""
        if self._buffer is not None:
            return self._buffer.filled
        return 0 if self._parts is None else self._parts.tell()

    def _deliver(self, message: str | bytes | UndecodedText, size: int) -> None:
        """Handle a complete message of `size` bytes (after inflation, text in UTF-8)."""
        raise NotImplementedError

    def _discard_message(self) -> None:
        """Drop the incomplete message; no further one will be read."""
        self._inflating = False
        self._parts = self._buffer = None
        self._partial_character = b""

    def _read_whole_message(self) -> None:
        """Read the usual message: one complete, uncompressed frame."""
        decoder = self._decoder
        if decoder.opcode == _CONTINUATION:
            raise ProtocolError("continuation frame without a message to continue")
        if decoder.size > self._max_size:
            raise self._too_big()
        if decoder.opcode == _BINARY:
            self._deliver(decoder.payload(), decoder.size)
            return
        try:
            text = decoder.text()
        except UnicodeDecodeError:
            raise _invalid_text() from None
        self._deliver(text, decoder.size)

    def _read_piece(self) -> None:
        """Read a piece of any other message, and check it."""
        decoder = self._decoder
        if decoder.first:
            self._begin_frame()
        done = decoder.last and decoder.fin
        if self._compressed:
            self._inflate(decoder.payload(), done)
            return
        if self._buffer is None:
            payload = decoder.payload()
            self._budget.allowance -= len(payload)
            self._add_piece(payload, done)
        else:
            before = self._buffer.filled
            decoder.copy_to(self._buffer)
            self._budget.allowance -= (self._buffer.filled - before) // _COPIED_PER_UNIT
            if self._opcode == _TEXT and not self._buffer.ascii:
                self._switch_to_parts(done)
            elif done:
                self._complete(self._buffer.message())

    def _inflate(self, payload: bytes, done: bool) -> None:
        """Inflate a piece of the message, or the rest of one, as far as the budget allows. `done` is true for the last
        piece."""
        deflate: PerMessageDeflate = self.deflate  # type: ignore[assignment]
        allowance = self._budget.allowance
        most = min(max(allowance, _MIN_INFLATED), _INFLATE_MARK)
        read = min(max(allowance // _READ_COST, _MIN_READ), _MAX_READ)
        limit = self._max_size - self._size
        if self._inflating:
            inflated = deflate.inflate_more(limit, most, read)
        else:
            inflated = deflate.inflate(payload, limit, done, most, read)
        self._budget.allowance -= len(inflated) + _INFLATE_COST
        self._inflating = deflate.unfinished
        self._budget.count_read(read if self._inflating else len(payload))
        self._last_piece = done
        self._add_piece(inflated, done and not self._inflating)

    def _add_piece(self, payload: bytes, done: bool) -> None:
        """Append a piece to the parts of the message, or deliver it if it is the whole message. `done` is true for the
        last piece."""
        self._size += len(payload)
        if self._opcode == _TEXT:
            data = self._partial_character + payload if self._partial_character else payload
            text = self._decode_text(data, done)
            if done and self._parts is None:
                self._complete(text)
                return
            payload = data[: len(data) - len(self._partial_character)] if self._partial_character else data
        elif done and self._parts is None:
            self._complete(payload)
            return
        if self._parts is None:
            self._parts = BytesIO()
        self._parts.write(payload)
        if done:
            self._complete_parts()

    def _complete_parts(self) -> None:
        whole = self._parts.getvalue()  # type: ignore[union-attr]
        self._complete(UndecodedText(whole) if self._opcode == _TEXT else whole)

    def _complete(self, message: str | bytes | UndecodedText) -> None:
        self._parts = self._buffer = None
        self._opcode = 0
        self._deliver(message, self._size)

    def _switch_to_parts(self, done: bool) -> None:
        """Move the message from the buffer to parts, as its text is not ASCII or a part is requested."""
        buffer, self._buffer = self._buffer, None
        self._size = 0
        if self._opcode != _TEXT:
            self._add_piece(buffer.contents(), done)  # type: ignore[union-attr]
            return
        self._decode_text(buffer.contents(buffer.ascii_size), done)  # type: ignore[union-attr]
        self._size = buffer.filled  # type: ignore[union-attr]
        self._parts = BytesIO(buffer.contents())  # type: ignore[union-attr]  # BytesIO shares the bytes, without a copy
        self._parts.truncate(buffer.filled - len(self._partial_character))  # type: ignore[union-attr]
        self._parts.seek(0, SEEK_END)
        if done:
            self._complete_parts()

    def _begin_frame(self) -> None:
        """Check the header of a data frame, before any of its payload is buffered."""
        decoder = self._decoder
        if decoder.opcode == _CONTINUATION:
            if not self._opcode:
                raise ProtocolError("continuation frame without a message to continue")
        else:
            if self._opcode:
                raise ProtocolError("new message before the last one was finished")
            self._opcode = decoder.opcode
            self._size = self._frames = 0
            self._compressed = decoder.rsv1
        self._frames += 1
        if self._frames > self._max_frames:
            raise PayloadTooBig(f"message of more than {self._max_frames} frames")
        if not self._compressed and decoder.size > self._max_size - self._size:
            raise self._too_big()
        if decoder.missing >= _BUFFER_MARK and decoder.fin and self._frames == 1 and not self._compressed:
            self._size = decoder.size
            self._buffer = PayloadBuffer(decoder.size, self._opcode == _TEXT, decoder.size - decoder.missing)

    def _decode_text(self, data: bytes, final: bool) -> str:
        """Return the complete characters in `data`, and keep the beginning of an incomplete one. Raises InvalidText as
        soon as no continuation can make the text valid UTF-8 (RFC 6455 section 8.1)."""
        try:
            text, used = codecs.utf_8_decode(data, "strict", final)
        except UnicodeDecodeError:
            raise _invalid_text() from None
        self._partial_character = partial = data[used:]
        if partial[:1] == b"\xed" and partial[1:] >= b"\xa0":  # a surrogate: Python reports it only at its last byte
            raise _invalid_text()
        return text

    def _too_big(self) -> ProtocolError:
        return PayloadTooBig(f"message over the limit of {self._max_size} bytes")


def _invalid_text() -> ProtocolError:
    return InvalidText("text is not UTF-8")
