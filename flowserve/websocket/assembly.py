# cython: language_level=3, annotation_typing=False, binding=False
"""How the frames of a message become the message (RFC 6455 sections 5.4 and 8.1, RFC 7692 section 6.2): in pieces as
they arrive, so that what is wrong with it is found before its rest has come."""

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

_STORE_MARK = 65536  # bytes that are missing of a frame: from here on its payload gets a store
_INFLATE_COST = 1024  # of the budget, beside what comes out
_INFLATE_MARK = INFLATE_MARK
_LEAST_INFLATED = 4096  # bytes, even where the budget has less left
_READ_COST = 128  # of the budget: what a compressed byte may take at the most, as blocks that give nothing do
_MOST_READ = 4096  # compressed bytes at once: 1.3 ms of those
_LEAST_READ = 512
_STORE_SHARE = 2  # bytes that are put into a store for a unit of the budget

_unlimited = Budget()


class LateText:
    """A text message as the bytes that came, valid UTF-8, until it is taken: a str with a single wide character takes
    four times as much, and many connections may have one that waits."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)


class Assembly(Output):
    """The message that is coming, in a Connection: between its frame decoder and `_deliver()`.

    It has parts, of text whole characters in UTF-8; or, as a single large frame that is not compressed, a store.
    """

    __slots__ = (
        "_budget",
        "_compressed",
        "_decoder",
        "_frames",
        "_inflating",
        "_last_piece",
        "_max_frames",
        "_max_size",
        "_opcode",
        "_parts",
        "_size",
        "_store",
        "_tail",
    )

    def __init__(self, role: int, max_size: int, max_frames: int, deflate: PerMessageDeflate | None) -> None:
        """`max_size` bounds a message in bytes (after inflation), `max_frames` the frames it is made of."""
        super().__init__(role, deflate)
        self._decoder = FrameDecoder(role, deflate is not None)
        self._max_size = max_size
        self._max_frames = max_frames
        self._budget = _unlimited
        self._opcode = 0  # of the message; 0 for none
        self._compressed = False
        self._inflating = False  # a piece of the message is inflated in part
        self._last_piece = False  # and it is the last one
        self._frames = 0
        self._size = 0
        self._parts: BytesIO | None = None
        self._tail = b""  # of a text message: the beginning of a character
        self._store: PayloadBuffer | None = None

    def share(self, budget: Budget) -> None:
        """Decode no more at once than `budget` allows, which other connections may share."""
        self._budget = budget

    def wants_buffer(self) -> bool:
        """Whether what comes next belongs to a large payload: it may be read into `get_buffer()` and not be fed."""
        return self._store is not None

    def get_buffer(self) -> memoryview:
        """Return where the peer's next bytes may be read to while `wants_buffer()`: at most what the payload lacks.
        Views that were returned before must not be used any more."""
        return self._store.get_buffer()  # type: ignore[union-attr]

    def buffer_updated(self, size: int) -> None:
        """The next `size` bytes from the peer are in `get_buffer()`. They are decoded with the next `feed()`, be it of
        b""."""
        if self._store is None:
            raise ValueError("there is no room to land in")
        self._decoder.buffer_updated(size)

    def take_part(self) -> str | bytes:
        """Return what has come of the message that is still coming, and forget it: `take()` will give the rest. Empty
        when nothing has."""
        if self._store is not None:
            self._spill(False)
        if self._parts is None:
            return b""
        part, self._parts = self._parts.getvalue(), None
        return part.decode() if self._opcode == _TEXT else part

    @property
    def part_size(self) -> int:
        """How much `take_part()` would give, in bytes."""
        if self._store is not None:
            return self._store.filled
        return 0 if self._parts is None else self._parts.tell()

    def _deliver(self, message: str | bytes | LateText, size: int) -> None:
        """A message is complete; it had `size` bytes."""
        raise NotImplementedError

    def _abandon(self) -> None:
        """No message is to come any more."""
        self._inflating = False
        self._parts = self._store = None
        self._tail = b""

    def _whole(self) -> None:
        """The usual case: a message that is one frame, all of it there, not compressed."""
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

    def _piece(self) -> None:
        """Part of a message: check it as it arrives, so that a bad one fails before its rest has come."""
        decoder = self._decoder
        if decoder.first:
            self._begin()
        done = decoder.last and decoder.fin
        if self._compressed:
            self._inflate(decoder.payload(), done)
            return
        if self._store is None:
            payload = decoder.payload()
            self._budget.allowance -= len(payload)
            self._add(payload, done)
        else:
            before = self._store.filled
            decoder.store(self._store)
            self._budget.allowance -= (self._store.filled - before) // _STORE_SHARE
            if self._opcode == _TEXT and not self._store.ascii:
                self._spill(done)
            elif done:
                self._complete(self._store.whole())

    def _inflate(self, payload: bytes, done: bool) -> None:
        """Inflate a piece of the message, or the rest of one, as far as the budget allows; `done` says that it is the
        last piece."""
        deflate: PerMessageDeflate = self.deflate  # type: ignore[assignment]
        allowance = self._budget.allowance
        most = min(max(allowance, _LEAST_INFLATED), _INFLATE_MARK)
        read = min(max(allowance // _READ_COST, _LEAST_READ), _MOST_READ)
        limit = self._max_size - self._size
        if self._inflating:
            inflated = deflate.go_on(limit, most, read)
        else:
            inflated = deflate.inflate(payload, limit, done, most, read)
        self._budget.allowance -= len(inflated) + _INFLATE_COST
        self._inflating = deflate.unfinished
        self._budget.read(read if self._inflating else len(payload))
        self._last_piece = done
        self._add(inflated, done and not self._inflating)

    def _add(self, payload: bytes, done: bool) -> None:
        """Add a piece of the message to its parts; `done` says that it is the last one."""
        self._size += len(payload)
        if self._opcode == _TEXT:
            data = self._tail + payload if self._tail else payload
            text = self._decode(data, done)
            if done and self._parts is None:
                self._complete(text)
                return
            payload = data[: len(data) - len(self._tail)] if self._tail else data
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
        self._complete(LateText(whole) if self._opcode == _TEXT else whole)

    def _complete(self, message: str | bytes | LateText) -> None:
        self._parts = self._store = None
        self._opcode = 0
        self._deliver(message, self._size)

    def _spill(self, done: bool) -> None:
        """Go on with parts instead of the store: for text that is not ASCII, or when a part was asked for."""
        store, self._store = self._store, None
        self._size = 0
        if self._opcode != _TEXT:
            self._add(store.part(), done)  # type: ignore[union-attr]
            return
        self._decode(store.part(store.ascii_size), done)  # type: ignore[union-attr]
        self._size = store.filled  # type: ignore[union-attr]
        self._parts = BytesIO(store.part())  # type: ignore[union-attr]  # no copy: it takes the very bytes
        self._parts.truncate(store.filled - len(self._tail))  # type: ignore[union-attr]
        self._parts.seek(0, SEEK_END)
        if done:
            self._complete_parts()

    def _begin(self) -> None:
        """A frame of a message begins: check what its header says before anything is buffered."""
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
        if decoder.missing >= _STORE_MARK and decoder.fin and self._frames == 1 and not self._compressed:
            self._size = decoder.size
            self._store = PayloadBuffer(decoder.size, self._opcode == _TEXT, decoder.size - decoder.missing)

    def _decode(self, data: bytes, final: bool) -> str:
        """The characters that `data` has, but for the beginning of one, which becomes the tail. Fails fast on what no
        continuation can make UTF-8 (RFC 6455 section 8.1)."""
        try:
            text, used = codecs.utf_8_decode(data, "strict", final)
        except UnicodeDecodeError:
            raise _invalid_text() from None
        self._tail = tail = data[used:]
        if tail[:1] == b"\xed" and tail[1:] >= b"\xa0":  # a surrogate, of which Python waits for the last byte
            raise _invalid_text()
        return text

    def _too_big(self) -> ProtocolError:
        return PayloadTooBig(f"message over the limit of {self._max_size} bytes")


def _invalid_text() -> ProtocolError:
    return InvalidText("text is not UTF-8")
