"""permessage-deflate (RFC 7692): the codec of one connection, with the parameters that `negotiation` agreed on.

With the shared context nothing is kept between messages: both ends agree on no context takeover, an idle connection
owns no zlib state, and one compressor serves all connections of a worker. With context takeover each end keeps its
window, which costs memory for a better ratio.
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
"""Smallest window that zlib supports: it refuses one of 8 bits for raw deflate."""

_SERVER = int(Role.SERVER)


@dataclass(frozen=True, slots=True)
class DeflateSettings:
    """The configuration of permessage-deflate at this end. Values are not checked here.

    `send_window_bits` (9 to 15) bounds this end's window, `receive_window_bits` (8 to 15) the peer's, if the peer
    allows it. `level` is 1 (fastest) to 9 (smallest), `mem_level` 1 to 9. Messages of at least `threshold` bytes are
    compressed.
    """

    context: Literal["shared", "takeover"] = "shared"
    level: int = 6
    send_window_bits: int = 15
    receive_window_bits: int = 15
    mem_level: int = 8
    threshold: int = 256


@dataclass(frozen=True, slots=True)
class DeflateParameters:
    """The parameters that both ends agreed on (RFC 7692 section 7.1)."""

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int


_TAIL = b"\x00\x00\xff\xff"  # end of the last block of a message, which is not sent (RFC 7692 section 7.2.1)
_FINAL = b"\x01\x00\x00\xff\xff"  # an empty final block: zlib reaches `eof` after it only if the message was complete
_EMPTY = b"\x00"  # an empty message (RFC 7692 section 7.2.3.6)
_SLICE = 65536
"""Compressed bytes per call at most: this bounds what zlib copies when it leaves input unread."""
INFLATE_MARK = 262144
"""Inflated bytes per call at most."""
_EMPTY_FINAL = b"\x03\x00"  # an empty final block, padded to a byte boundary
_MAX_SKIPPED = 128  # bytes of such blocks that one call skips, in about the time of any other call
_MAX_BLOCKS = 4  # final blocks per call
_MAX_RESTARTS = 1024  # final blocks per message: each needs a new decompressor, so that two bytes are expensive


class Deflater:
    """Compresses messages. Without context takeover it keeps nothing between them, and threads may share it."""

    __slots__ = ("_idle_streams", "_new", "_reusable", "_stream", "takeover")

    def __init__(self, level: int, window_bits: int, mem_level: int, takeover: bool, library: Backend) -> None:
        """`window_bits` is 8 to 15. zlib does not support 8, so data is then only Huffman coded, without matches."""
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
        self._idle_streams: list[Compressor] = []

    def compress(self, data: Data) -> bytes:
        """Return the payload of a message whose first frame has RSV1 set (RFC 7692 section 7.2.1).

        With context takeover, messages must be sent in the order in which they were compressed.
        """
        if not data:
            return _EMPTY
        if self.takeover:
            if self._stream is None:
                self._stream = self._new()
            return _deflate(self._stream, data, zlib.Z_SYNC_FLUSH)
        # A full flush resets the window. For 1 KiB of JSON zlib takes 20 us, against 57 with a new compressor and 80
        # with a copy if malloc returns the memory to the system each time (18, 18 and 22 if it does not), zlib-ng 17
        # against 19 and 23. isal has no copy(), and a new compressor's output is shorter, at 8.4 us against 7.9.
        if not self._reusable:
            return _deflate(self._new(), data, zlib.Z_SYNC_FLUSH)
        try:
            stream = self._idle_streams.pop()
        except IndexError:
            stream = self._new()
        payload = _deflate(stream, data, zlib.Z_FULL_FLUSH)
        self._idle_streams.append(stream)
        return payload

    def begin(self) -> Callable[[Data, bool], bytes]:
        """Return a function `(piece, last)` that compresses one message in pieces and returns the payload of each."""
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
    """The codec of one connection: inflates received messages piece by piece, compresses messages to send.

    `deflater` compresses; with the shared context, all connections with the same parameters share one. `unfinished` is
    true while `inflate_more()` has more output of the piece that was fed last.
    """

    __slots__ = (
        "_final",
        "_final_block_seen",
        "_history",
        "_keep_history",
        "_library",
        "_needs_history",
        "_restarts",
        "_stream",
        "_takeover",
        "_threshold",
        "_unread",
        "_window_bits",
        "deflater",
        "unfinished",
    )

    def __init__(
        self, settings: DeflateSettings, agreed: DeflateParameters, role: int, library: Backend | None = None
    ) -> None:
        """`role` is this end's Role; `library` defaults to `backend()`."""
        self._library = library or backend()
        server = (not agreed.server_no_context_takeover, agreed.server_max_window_bits)
        client = (not agreed.client_no_context_takeover, agreed.client_max_window_bits)
        (takeover, window_bits), (self._takeover, bits) = (server, client) if role == _SERVER else (client, server)
        self._window_bits = max(bits, MIN_BITS)  # some compressors promise 8 and use 9
        self._threshold = settings.threshold
        self._stream: Decompressor | None = None
        # The content of the window, for `_restart()`. With context takeover it would cost each connection as much as
        # zlib's own window, nearly always in vain. So it is kept only within a message, and from the first final block
        # on: peers that end messages with final blocks do so from the first message, as they cannot flush otherwise.
        self._history: bytearray | None = None
        self._keep_history = False
        self._final_block_seen = False
        self._needs_history = False  # in this message, a block after a final one refers to data before it
        self._unread: Data | None = None  # the rest of the piece that is being inflated
        self._final = False  # that piece is the last of its message
        self.unfinished = False
        self._restarts = 0  # in this message
        parameters = (settings.level, window_bits, settings.mem_level)
        self.deflater = (
            Deflater(*parameters, True, self._library) if takeover else _shared_deflater(*parameters, self._library)
        )

    def should_compress(self, data: Data) -> bool:
        """Whether a message is long enough to be compressed."""
        return len(data) >= self._threshold

    def compress(self, data: Data) -> bytes:
        """Return the compressed payload of a whole message; see Deflater."""
        return self.deflater.compress(data)

    def inflate(
        self, data: Data, limit: int, final: bool = False, max_output: int = INFLATE_MARK, max_read: int = _SLICE
    ) -> bytes:
        """Inflate the next piece of a message's payload; `final` is true for the last one.

        A message may have any number of pieces, of any length. Returns the output, but at most the first `max_output`
        bytes of it and what `max_read` bytes of input yield; then the piece is `unfinished`, and `inflate_more()`
        returns the rest. Raises PayloadTooBig if there are more than `limit` bytes of output, ProtocolError if the data
        is not DEFLATE or, without context takeover, ends early. After an error this object must not be used any more.
        """
        if final:
            data = b"".join((data, _TAIL if self._takeover else _TAIL + _FINAL))
        if self._stream is None:
            # Always a new one, even with the shared context: a peer could refer back to another connection's data.
            self._stream = self._library.decompressor(self._window_bits, b"")
        self._final = final
        self._keep_history = self._final_block_seen or not final
        self._unread = data
        return self.inflate_more(limit, max_output, max_read)

    def inflate_more(self, limit: int, max_output: int = INFLATE_MARK, max_read: int = _SLICE) -> bytes:
        """Return more output of an `unfinished` piece. Parameters and errors as for `inflate()`."""
        stream, data = self._stream, self._unread
        later: memoryview | None = None
        if len(data) > max_read:  # type: ignore[arg-type]
            view = memoryview(data)  # type: ignore[arg-type]
            data, later = view[:max_read], view[max_read:]
        max_output = min(limit + 1, max_output)  # never 0, which zlib takes for no limit
        try:
            if stream.eof:  # type: ignore[union-attr]
                out, rest = self._restart(data, max_output)  # type: ignore[arg-type]
            else:
                out = stream.decompress(data, max_output)  # type: ignore[union-attr,arg-type]
                rest = _unread_input(stream, len(out) == max_output)  # type: ignore[arg-type]
                if self._keep_history or rest is not None or later is not None:
                    self._extend_history(out)
        except (zlib.error, self._library.error):
            raise ProtocolError("compressed message is not valid DEFLATE") from None
        if len(out) > limit:
            raise PayloadTooBig("compressed message inflates to more than the limit")
        if later is not None:
            rest = memoryview(self._unread)[max_read - len(rest) :] if rest else later  # type: ignore[arg-type]
        self._unread = rest
        self.unfinished = rest is not None
        if self._final and not self.unfinished:
            self._end_message()
        return out

    def _restart(self, data: Data, max_output: int) -> tuple[bytes, Data | None]:
        """Continue after a final block (RFC 7692 section 7.2.3.4) with a new stream and the old window. Return the
        output and the unread input.

        A block may have just two bytes, so a new stream has to be cheap. Setting the window costs the most: it is left
        out until a block refers to data before it. And zlib's own streams are the cheapest to create.
        """
        self._final_block_seen = self._takeover
        if empty := _empty_blocks(data):
            return b"", data[empty:] or None
        out, fresh = bytearray(), bytearray()
        rest: Data | None = data
        for _ in range(_MAX_BLOCKS):
            if rest is None or max_output <= 0:
                break
            self._restarts += 1
            if self._restarts > _MAX_RESTARTS:
                raise ProtocolError("compressed message has too many final blocks")
            if self._needs_history:
                self._extend_history(fresh)
                fresh.clear()
                stream = zlib.decompressobj(-self._window_bits, zdict=self._history or b"")
                inflated = stream.decompress(rest, max_output)
            else:
                stream = zlib.decompressobj(-self._window_bits)
                try:
                    inflated = stream.decompress(rest, max_output)
                except zlib.error:
                    self._needs_history = True
                    continue
                if not stream.eof:  # the rest of the block may refer to data before it
                    self._needs_history = True
                    continue
            self._stream = stream
            out += inflated
            fresh += inflated
            rest = _unread_input(stream, len(inflated) == max_output)
            max_output -= len(inflated)
            if not stream.eof:
                break
        self._extend_history(fresh)
        return bytes(out), rest

    def _end_message(self) -> None:
        self._restarts = 0
        self._needs_history = False
        if self._takeover:
            if not self._final_block_seen:
                self._history = None
            return
        whole = self._stream is not None and self._stream.eof
        self._stream = self._history = None
        if not whole:
            raise ProtocolError("compressed message stops short of its end")

    def _extend_history(self, out: Data) -> None:
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


def _unread_input(stream: Decompressor, full: bool) -> Data | None:
    """Return the input that a stream has not read; None if it has read all and has no more output. `full` says whether
    its output reached the bound that was asked for."""
    if stream.eof:
        return stream.unused_data or None
    return stream.unconsumed_tail if full else None


def _empty_blocks(data: Data) -> int:
    """Return the length of the empty final blocks at the beginning of `data`, up to _MAX_SKIPPED bytes."""
    at = 0
    while data[at : at + 2] == _EMPTY_FINAL and at < _MAX_SKIPPED:
        at += 2
    return at
