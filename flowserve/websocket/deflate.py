"""permessage-deflate (RFC 7692): the codec of one connection, as `negotiation` had both ends agree.

In the shared context nothing is kept between messages: both ends agree on no context takeover, an idle connection owns
no zlib state, and one compressor serves a whole worker. With takeover each end keeps its window: a better ratio, and
more memory.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from flowserve.errors import PayloadTooBig, ProtocolError
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate_backends import Backend, Compressor, Data, Decompressor, backend

MIN_BITS = 9
"""Of what zlib can do: it refuses a window of 8 bits for raw deflate."""

_SERVER = int(Role.SERVER)


@dataclass(frozen=True, slots=True)
class DeflateSettings:
    """What the user configured; whoever makes one has checked it.

    `send_window_bits` (9 to 15) bounds this end's window, `receive_window_bits` (8 to 15) the peer's, if it allows.
    `level` is 1 (fast) to 9 (small), `mem_level` 1 to 9, `threshold` the bytes from which a message is compressed.
    """

    context: Literal["shared", "takeover"] = "shared"
    level: int = 6
    send_window_bits: int = 15
    receive_window_bits: int = 15
    mem_level: int = 8
    threshold: int = 256


@dataclass(frozen=True, slots=True)
class DeflateParameters:
    """What both ends agreed on (RFC 7692 section 7.1)."""

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int


_TAIL = b"\x00\x00\xff\xff"  # of the empty block that ends a message, which does not travel (RFC 7692 section 7.2.1)
_FINAL = b"\x01\x00\x00\xff\xff"  # an empty final block: zlib says `eof` behind it only if the message was whole
_EMPTY = b"\x00"  # an empty message (RFC 7692 section 7.2.3.6)
_SLICE = 65536
"""Bytes that are read at once, at the most: bounds what zlib copies when it leaves some of them unread."""
INFLATE_MARK = 262144
"""Bytes that are inflated at once, at the most."""
_EMPTY_FINAL = b"\x03\x00"  # a final block that holds nothing, with the bits up to the next byte
_MAX_SKIPPED = 128  # bytes of such blocks at once: they take as long as other steps
_MAX_BLOCKS = 4  # final blocks at once
_MAX_RESTARTS = 1024  # final blocks in one message; each costs a new decompressor, so that two bytes could cost much


class Deflater:
    """A compressor of messages. Without takeover it keeps nothing between them, and threads may share it."""

    __slots__ = ("_idle", "_new", "_reusable", "_stream", "takeover")

    def __init__(self, level: int, window_bits: int, mem_level: int, takeover: bool, library: Backend) -> None:
        """`window_bits` is 8 to 15; for 8, which zlib can't do, nothing is looked up in the window."""
        self.takeover = takeover
        self._new: Callable[[], Compressor]
        if window_bits < MIN_BITS:
            self._reusable = True
            self._new = functools.partial(
                zlib.compressobj, level, zlib.DEFLATED, -MIN_BITS, mem_level, zlib.Z_HUFFMAN_ONLY
            )
        else:
            self._reusable = library.reusable
            self._new = functools.partial(library.compressor, level, window_bits, mem_level)
        self._stream: Compressor | None = None
        self._idle: list[Compressor] = []

    def compress(self, data: Data) -> bytes:
        """Return a message's payload for frames with RSV1 on the first (RFC 7692 section 7.2.1).

        With takeover, messages must be sent in the order in which they were compressed.
        """
        if not data:
            return _EMPTY
        if self.takeover:
            if self._stream is None:
                self._stream = self._new()
            return _deflate(self._stream, data, zlib.Z_SYNC_FLUSH)
        # A full flush forgets the past. For 1 KiB of JSON: zlib 20 us, against 57 for a new compressor, 80 for a copy
        # while malloc gives their memory back to the system each time (18, 18 and 22 when it does not); zlib-ng 17
        # against 19 and 23. isal has no copies, and writes less with a new one, at 8.4 against 7.9.
        if not self._reusable:
            return _deflate(self._new(), data, zlib.Z_SYNC_FLUSH)
        try:
            stream = self._idle.pop()
        except IndexError:
            stream = self._new()
        payload = _deflate(stream, data, zlib.Z_FULL_FLUSH)
        self._idle.append(stream)
        return payload

    def begin(self) -> Callable[[Data, bool], bytes]:
        """Return what compresses one message in pieces: it takes each, and whether it is the last."""
        if not self.takeover:
            return functools.partial(_deflate_piece, self._new())
        if self._stream is None:
            self._stream = self._new()
        return functools.partial(_deflate_piece, self._stream)


def _deflate(stream: Compressor, data: Data, flush: int) -> bytes:
    head = stream.compress(data)
    return head + stream.flush(flush)[: -len(_TAIL)]


def _deflate_piece(stream: Compressor, data: Data, last: bool) -> bytes:
    if not data:
        return _EMPTY if last else b""
    out = _deflate(stream, data, zlib.Z_SYNC_FLUSH)
    return out if last else out + _TAIL


@functools.cache
def _shared_deflater(level: int, window_bits: int, mem_level: int, library: Backend) -> Deflater:
    return Deflater(level, window_bits, mem_level, False, library)


class PerMessageDeflate:
    """The extension on one connection, as agreed: inflates what comes in piece by piece, deflates messages that go out.

    `deflater` is one and the same object for all connections of the shared context that agreed alike.
    """

    __slots__ = (
        "_final",
        "_final_seen",
        "_history",
        "_keep",
        "_library",
        "_looks_back",
        "_rest",
        "_restarts",
        "_stream",
        "_takeover",
        "_threshold",
        "_window_bits",
        "deflater",
        "unfinished",
    )

    def __init__(
        self, settings: DeflateSettings, agreed: DeflateParameters, role: int, library: Backend | None = None
    ) -> None:
        """`role` is this end's; `library` is `backend()` unless a test wants another."""
        self._library = library or backend()
        server = (not agreed.server_no_context_takeover, agreed.server_max_window_bits)
        client = (not agreed.client_no_context_takeover, agreed.client_max_window_bits)
        (takeover, window_bits), (self._takeover, bits) = (server, client) if role == _SERVER else (client, server)
        self._window_bits = max(bits, MIN_BITS)  # there are compressors that promise 8 and use 9
        self._threshold = settings.threshold
        self._stream: Decompressor | None = None
        # What the window holds, for `_begin_again`. With takeover it would cost each connection as much again as zlib's
        # own window, in vain for nearly all: so it is kept within a message, and from the first final block on. Whoever
        # ends messages in final blocks does so from the first one, for want of another way to flush.
        self._history: bytearray | None = None
        self._keep = False
        self._final_seen = False
        self._looks_back = False  # in this message a block behind a final one did
        self._rest: Data | None = None  # of the piece that is inflated just now
        self._final = False
        self.unfinished = False
        self._restarts = 0  # in this message
        wanted = (settings.level, window_bits, settings.mem_level)
        self.deflater = Deflater(*wanted, True, self._library) if takeover else _shared_deflater(*wanted, self._library)

    def worthwhile(self, data: Data) -> bool:
        """Whether a message is long enough to be compressed."""
        return len(data) >= self._threshold

    def compress(self, data: Data) -> bytes:
        """Return a whole message's payload, compressed; see Deflater."""
        return self.deflater.compress(data)

    def inflate(
        self, data: Data, limit: int, final: bool = False, most: int = INFLATE_MARK, read: int = _SLICE
    ) -> bytes:
        """Inflate the next piece of a message's payload; `final` says that it is the last one.

        Pieces may be of any length and any number. Returns what comes out of it, or the first bytes of that, at most
        `most` from at most `read` bytes: then the piece is `unfinished`, and `go_on()` gives the rest. Raises
        PayloadTooBig when more than `limit` bytes would come out, and ProtocolError for what is not DEFLATE or, without
        takeover, stops short of its end. After an error this object is of no more use.
        """
        if final:
            data = b"".join((data, _TAIL if self._takeover else _TAIL + _FINAL))
        if self._stream is None:
            # In the shared context too never one that has a past: a peer could point back into another's messages.
            self._stream = self._library.decompressor(self._window_bits, b"")
        self._final = final
        self._keep = self._final_seen or not final
        self._rest = data
        return self.go_on(limit, most, read)

    def go_on(self, limit: int, most: int = INFLATE_MARK, read: int = _SLICE) -> bytes:
        """Return more of the piece that is `unfinished`; as `inflate()`."""
        stream, data = self._stream, self._rest
        later: memoryview | None = None
        if len(data) > read:  # type: ignore[arg-type]
            view = memoryview(data)  # type: ignore[arg-type]
            data, later = view[:read], view[read:]
        most = min(limit + 1, most)  # never 0, which means no limit to zlib
        try:
            if stream.eof:  # type: ignore[union-attr]
                out, rest = self._begin_again(data, most)  # type: ignore[arg-type]
            else:
                out = stream.decompress(data, most)  # type: ignore[union-attr,arg-type]
                rest = _rest(stream, len(out) == most)  # type: ignore[arg-type]
                if self._keep or rest is not None or later is not None:
                    self._remember(out)
        except (zlib.error, self._library.error):
            raise ProtocolError("compressed message is not valid DEFLATE") from None
        if len(out) > limit:
            raise PayloadTooBig("compressed message inflates to more than the limit")
        if later is not None:
            rest = memoryview(self._rest)[read - len(rest) :] if rest else later  # type: ignore[arg-type]
        self._rest = rest
        self.unfinished = rest is not None
        if self._final and not self.unfinished:
            self._end_message()
        return out

    def _begin_again(self, data: Data, most: int) -> tuple[bytes, Data | None]:
        """Go on behind a final block (RFC 7692 section 7.2.3.4): a new stream, with the old one's window.

        Two bytes can be such a block, so a new stream has to cost little. A window costs more than all else: there is
        none until a block refers to what came before it. And zlib's own streams are the cheapest to make.
        """
        self._final_seen = self._takeover
        if empty := _empty_blocks(data):
            return b"", data[empty:] or None
        out, fresh = bytearray(), bytearray()
        rest: Data | None = data
        for _ in range(_MAX_BLOCKS):
            if rest is None or most <= 0:
                break
            self._restarts += 1
            if self._restarts > _MAX_RESTARTS:
                raise ProtocolError("compressed message has too many final blocks")
            if self._looks_back:
                self._remember(fresh)
                fresh.clear()
                stream = zlib.decompressobj(-self._window_bits, zdict=self._history or b"")
                inflated = stream.decompress(rest, most)
            else:
                stream = zlib.decompressobj(-self._window_bits)
                try:
                    inflated = stream.decompress(rest, most)
                except zlib.error:
                    self._looks_back = True
                    continue
                if not stream.eof:  # what follows may refer to what came before
                    self._looks_back = True
                    continue
            self._stream = stream
            out += inflated
            fresh += inflated
            rest = _rest(stream, len(inflated) == most)
            most -= len(inflated)
            if not stream.eof:
                break
        self._remember(fresh)
        return bytes(out), rest

    def _end_message(self) -> None:
        self._restarts = 0
        self._looks_back = False
        if self._takeover:
            if not self._final_seen:
                self._history = None
            return
        whole = self._stream is not None and self._stream.eof
        self._stream = self._history = None
        if not whole:
            raise ProtocolError("compressed message stops short of its end")

    def _remember(self, out: Data) -> None:
        if not out:
            return
        size = 1 << self._window_bits
        if self._history is None or len(out) >= size:
            self._history = bytearray(out[-size:])
            return
        surplus = len(self._history) + len(out) - size
        if surplus > 0:
            del self._history[:surplus]
        self._history += out


def _rest(stream: Decompressor, full: bool) -> Data | None:
    """What a stream has not read; None when it has all, and nothing more to give; `full` says that it gave all that was
    asked for."""
    if stream.eof:
        return stream.unused_data or None
    return stream.unconsumed_tail if full else None


def _empty_blocks(data: Data) -> int:
    """The length of the final blocks that `data` begins with and that hold nothing, as far as they are looked at."""
    at = 0
    while data[at : at + 2] == _EMPTY_FINAL and at < _MAX_SKIPPED:
        at += 2
    return at
