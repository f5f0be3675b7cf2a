"""permessage-deflate (RFC 7692): its negotiation as functions over header values, and the codec of one connection.

In the shared context nothing is kept between messages: both ends agree on no context takeover, an idle connection owns
no zlib state, and one compressor serves a whole worker. With takeover each end keeps its window: a better ratio, and
more memory.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Literal

from flowserve.errors import HandshakeError, PayloadTooBig, ProtocolError
from flowserve.websocket.backends import Backend, Compressor, Data, Decompressor, backend
from flowserve.websocket.constants import Role

NAME: Final = "permessage-deflate"
SERVER_NO_CONTEXT: Final = "server_no_context_takeover"
CLIENT_NO_CONTEXT: Final = "client_no_context_takeover"
SERVER_BITS: Final = "server_max_window_bits"
CLIENT_BITS: Final = "client_max_window_bits"

Extension = tuple[str, list[tuple[str, str | None]]]
"""A name and its parameters, in order, each with its value or None."""

_BITS = {str(bits): bits for bits in range(8, 16)}  # the legal values as they must be written (RFC 7692 section 7.1.2)
_MAX_BITS = 15
_MIN_BITS = 9  # of what zlib can do: it refuses 8 for raw deflate

_SERVER = int(Role.SERVER)
_MAX_KEPT = 256
"""Bytes of an offer whose answer is kept."""

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_ELEMENT = re.compile(rf"[ \t]*(?:({_TOKEN})[ \t]*)?")
_PARAMETER = re.compile(rf';[ \t]*({_TOKEN})[ \t]*(?:=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*)?')


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


# Negotiation


def parse_extensions(values: Iterable[bytes]) -> list[Extension]:
    """Return what all Sec-WebSocket-Extensions headers of a message say, as one list (RFC 6455 section 9.1).

    A quoted value is unquoted, and must be a token then. Empty list elements are passed over.
    Raises HandshakeError (400) for what the grammar does not allow.
    """
    found: list[Extension] = []
    for value in values:
        text = value.decode("latin-1")
        at = 0
        while at < len(text):
            element = _ELEMENT.match(text, at)
            assert element is not None  # it can match nothing at all
            at = element.end()
            if element[1]:
                parameters, at = _parse_parameters(text, at)
                found.append((element[1], parameters))
            if at < len(text) and text[at] != ",":
                raise _malformed()
            at += 1
    return found


def _parse_parameters(text: str, at: int) -> tuple[list[tuple[str, str | None]], int]:
    parameters: list[tuple[str, str | None]] = []
    while parameter := _PARAMETER.match(text, at):
        name, value, quoted = parameter.groups()
        if quoted is not None:
            value = re.sub(r"\\(.)", r"\1", quoted)
            if not re.fullmatch(_TOKEN, value):
                raise _malformed()
        parameters.append((name, value))
        at = parameter.end()
    return parameters, at


def _malformed() -> HandshakeError:
    return HandshakeError(400, "malformed Sec-WebSocket-Extensions")


def _check(parameters: list[tuple[str, str | None]]) -> dict[str, int | None]:
    """Return the window bits by parameter; ValueError for what neither an offer nor an answer may hold."""
    checked: dict[str, int | None] = {}
    for name, value in parameters:
        if name in checked:
            raise ValueError(f"{name} given twice")
        if name in (SERVER_NO_CONTEXT, CLIENT_NO_CONTEXT):
            legal = value is None
        elif name in (SERVER_BITS, CLIENT_BITS):
            legal = value in _BITS or (value is None and name == CLIENT_BITS)
        else:
            raise ValueError(f"unknown parameter {name}")
        if not legal:
            raise ValueError(f"{name} {'without a value' if value is None else 'with a wrong value'}")
        checked[name] = None if value is None else _BITS.get(value)
    return checked


def accept(settings: DeflateSettings, values: Iterable[bytes]) -> tuple[DeflateParameters, bytes] | None:
    """The server's side: take the first acceptable offer of a request's Sec-WebSocket-Extensions headers.

    Returns what is agreed and the response's header value, or None to go without compression. An offer with a parameter
    that is unknown, repeated or wrong is declined (RFC 7692 section 7), and so is server_max_window_bits=8, which zlib
    can't do. Headers that break even the grammar offer nothing: RFC 6455 section 9.1 would have the connection fail,
    but compression is optional, and nobody should lose a connection over it.
    """
    offered = tuple(values)
    known = sum(map(len, offered)) <= _MAX_KEPT
    return _accept(settings, offered) if known else _accept.__wrapped__(settings, offered)


@functools.lru_cache(maxsize=64)
def _accept(settings: DeflateSettings, values: tuple[bytes, ...]) -> tuple[DeflateParameters, bytes] | None:
    """`accept()`, whose answers are kept: clients make few different offers, and reading one takes long."""
    try:
        offers = parse_extensions(values)
    except HandshakeError:
        return None
    for name, parameters in offers:
        if name == NAME and (accepted := _accept_offer(settings, parameters)):
            return accepted
    return None


def _accept_offer(
    settings: DeflateSettings, parameters: list[tuple[str, str | None]]
) -> tuple[DeflateParameters, bytes] | None:
    try:
        offer = _check(parameters)
    except ValueError:
        return None
    shared = settings.context == "shared"
    server_bits = min(offer.get(SERVER_BITS) or _MAX_BITS, settings.send_window_bits)
    client_bits = offer.get(CLIENT_BITS) or _MAX_BITS
    if CLIENT_BITS in offer:  # only then may the answer limit it (RFC 7692 section 7.1.2.2)
        client_bits = min(client_bits, settings.receive_window_bits)
    if server_bits < _MIN_BITS:
        return None
    agreed = DeflateParameters(
        server_no_context_takeover=shared or SERVER_NO_CONTEXT in offer,
        client_no_context_takeover=shared or CLIENT_NO_CONTEXT in offer,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )
    answer = _flags(agreed.server_no_context_takeover, agreed.client_no_context_takeover)
    if SERVER_BITS in offer:  # it may be told unasked, but there have been clients that took offence
        answer.append(f"{SERVER_BITS}={server_bits}")
    if client_bits < _MAX_BITS:
        answer.append(f"{CLIENT_BITS}={client_bits}")
    return agreed, "; ".join(answer).encode()


def _flags(server_no_context: bool, client_no_context: bool) -> list[str]:
    return [NAME] + [SERVER_NO_CONTEXT] * server_no_context + [CLIENT_NO_CONTEXT] * client_no_context


def offer(settings: DeflateSettings) -> bytes:
    """The client's side: return the value of the request's Sec-WebSocket-Extensions header."""
    shared = settings.context == "shared"
    parts = _flags(shared, shared)
    if settings.receive_window_bits < _MAX_BITS:
        parts.append(f"{SERVER_BITS}={settings.receive_window_bits}")
    limited = settings.send_window_bits < _MAX_BITS
    parts.append(f"{CLIENT_BITS}={settings.send_window_bits}" if limited else CLIENT_BITS)
    return "; ".join(parts).encode()


def read_answer(settings: DeflateSettings, values: Iterable[bytes]) -> DeflateParameters | None:
    """The client's side: return what the response's Sec-WebSocket-Extensions headers agree to, None for no compression.

    Raises HandshakeError (101, the response's status) for an answer that the offer made from the same settings does not
    allow: then the client must fail the connection (RFC 6455 section 4.1, RFC 7692 section 7.1).
    """
    try:
        answers = parse_extensions(values)
    except HandshakeError as error:
        raise HandshakeError(101, error.detail) from None
    if not answers:
        return None
    name, parameters = answers[0]
    if name != NAME or len(answers) > 1:
        raise HandshakeError(101, "the server chose an extension that was not offered")
    try:
        return _read_parameters(settings, _check(parameters))
    except ValueError as error:
        raise HandshakeError(101, f"{NAME}: {error}") from None


def _read_parameters(settings: DeflateSettings, answer: dict[str, int | None]) -> DeflateParameters:
    """Check an answer against the offer that `offer(settings)` made; ValueError for what it does not allow."""
    shared = settings.context == "shared"
    server_bits = answer.get(SERVER_BITS)
    client_bits = answer.get(CLIENT_BITS, _MAX_BITS)
    if shared and SERVER_NO_CONTEXT not in answer:
        raise ValueError(f"{SERVER_NO_CONTEXT} is missing")
    if settings.receive_window_bits < (server_bits or _MAX_BITS):
        raise ValueError(f"{SERVER_BITS} is missing or above {settings.receive_window_bits}")
    if client_bits is None:
        raise ValueError(f"{CLIENT_BITS} without a value")
    if CLIENT_BITS in answer and client_bits > settings.send_window_bits:
        raise ValueError(f"{CLIENT_BITS} is above {settings.send_window_bits}")
    return DeflateParameters(
        server_no_context_takeover=SERVER_NO_CONTEXT in answer,
        client_no_context_takeover=shared or CLIENT_NO_CONTEXT in answer,  # the offer was a promise (section 7.1.1.2)
        server_max_window_bits=server_bits or _MAX_BITS,
        client_max_window_bits=min(client_bits, settings.send_window_bits),
    )


# The codec

_TAIL = b"\x00\x00\xff\xff"  # of the empty block that ends a message, which does not travel (RFC 7692 section 7.2.1)
_FINAL = b"\x01\x00\x00\xff\xff"  # an empty final block: zlib says `eof` behind it only if the message was whole
_EMPTY = b"\x00"  # an empty message (RFC 7692 section 7.2.3.6)
_SLICE = 65536  # bytes read at once: bounds what zlib copies when it leaves some of them unread
_CHUNK = 262144  # bytes written at once
_MAX_RESTARTS = 1024  # final blocks in one message; each costs a new decompressor, so that two bytes could cost much


class Deflater:
    """A compressor of messages. Without takeover it keeps nothing between them, and threads may share it."""

    __slots__ = ("_idle", "_new", "_reusable", "_stream", "takeover")

    def __init__(self, level: int, window_bits: int, mem_level: int, takeover: bool, library: Backend) -> None:
        """`window_bits` is 8 to 15; for 8, which zlib can't do, nothing is looked up in the window."""
        self.takeover = takeover
        self._new: Callable[[], Compressor]
        if window_bits < _MIN_BITS:
            self._reusable = True
            self._new = functools.partial(
                zlib.compressobj, level, zlib.DEFLATED, -_MIN_BITS, mem_level, zlib.Z_HUFFMAN_ONLY
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
        "_final_seen",
        "_history",
        "_keep",
        "_library",
        "_restarts",
        "_stream",
        "_takeover",
        "_threshold",
        "_window_bits",
        "deflater",
    )

    def __init__(
        self, settings: DeflateSettings, agreed: DeflateParameters, role: int, library: Backend | None = None
    ) -> None:
        """`role` is this end's; `library` is `backend()` unless a test wants another."""
        self._library = library or backend()
        server = (not agreed.server_no_context_takeover, agreed.server_max_window_bits)
        client = (not agreed.client_no_context_takeover, agreed.client_max_window_bits)
        (takeover, window_bits), (self._takeover, bits) = (server, client) if role == _SERVER else (client, server)
        self._window_bits = max(bits, _MIN_BITS)  # there are compressors that promise 8 and use 9
        self._threshold = settings.threshold
        self._stream: Decompressor | None = None
        # What the window holds, for `_restart`. With takeover it would cost each connection as much again as zlib's own
        # window, in vain for nearly all: so it is kept within a message, and from the first final block on. Who ends
        # messages in final blocks does so from the first one, for want of another way to flush.
        self._history: bytearray | None = None
        self._keep = False
        self._final_seen = False
        self._restarts = 0  # in this message
        wanted = (settings.level, window_bits, settings.mem_level)
        self.deflater = Deflater(*wanted, True, self._library) if takeover else _shared_deflater(*wanted, self._library)

    def worthwhile(self, data: Data) -> bool:
        """Whether a message is long enough to be compressed."""
        return len(data) >= self._threshold

    def compress(self, data: Data) -> bytes:
        """Return a whole message's payload, compressed; see Deflater."""
        return self.deflater.compress(data)

    def inflate(self, data: Data, limit: int, final: bool = False) -> bytes:
        """Inflate the next piece of a message's payload; `final` says that it is the last one.

        Pieces may be of any length and any number. Raises PayloadTooBig when more than `limit` bytes would come out of
        this piece, and ProtocolError for what is not DEFLATE or, without takeover, stops short of its end. After an
        error this object is of no more use.
        """
        if final:
            data = b"".join((data, _TAIL if self._takeover else _TAIL + _FINAL))
        if self._stream is None:
            # In the shared context too never one that has a past: a peer could point back into another's messages.
            self._stream = self._library.decompressor(self._window_bits, b"")
        self._keep = self._final_seen or not final or len(data) > _SLICE
        try:
            if len(data) <= _SLICE:
                out = self._inflate_slice(data, limit)
            else:
                view = memoryview(data)
                buffer = BytesIO()
                for start in range(0, len(view), _SLICE):
                    buffer.write(self._inflate_slice(view[start : start + _SLICE], limit - buffer.tell()))
                out = buffer.getvalue()
        except self._library.error:
            raise ProtocolError("compressed message is not valid DEFLATE") from None
        if final:
            self._end_message()
        return out

    def finish(self, limit: int) -> bytes:
        """End a message whose pieces have all been inflated without `final`; return the rest of it."""
        return self.inflate(b"", limit, True)

    def _end_message(self) -> None:
        self._restarts = 0
        if self._takeover:
            if not self._final_seen:
                self._history = None
            return
        whole = self._stream is not None and self._stream.eof
        self._stream = self._history = None
        if not whole:
            raise ProtocolError("compressed message stops short of its end")

    def _inflate_slice(self, data: Data, limit: int) -> bytes:
        out, rest = self._step(data, limit)
        if rest is None:
            return out
        buffer = BytesIO()  # grows in place, and gives its bytes away without a copy
        buffer.write(out)
        while rest is not None:
            out, rest = self._step(rest, limit - buffer.tell())
            buffer.write(out)
        return buffer.getvalue()

    def _step(self, data: Data, limit: int) -> tuple[bytes, bytes | None]:
        """Inflate some of `data`; return it with what is still to be read, or with None when that is all."""
        stream = self._stream
        assert stream is not None
        if stream.eof:
            stream = self._restart()
        most = min(limit + 1, _CHUNK)  # never 0, which means no limit to zlib
        out = stream.decompress(data, most)
        if len(out) > limit:
            raise PayloadTooBig("compressed message inflates to more than the limit")
        if stream.eof:
            rest = stream.unused_data or None
        else:
            rest = stream.unconsumed_tail if len(out) == most else None
        if self._keep or rest is not None:
            self._remember(out)
        return out, rest

    def _restart(self) -> Decompressor:
        """Go on behind a final block (RFC 7692 section 7.2.3.4): a new stream, with the old one's window."""
        self._restarts += 1
        if self._restarts > _MAX_RESTARTS:
            raise ProtocolError("compressed message has too many final blocks")
        self._final_seen = self._takeover
        self._stream = self._library.decompressor(self._window_bits, bytes(self._history or b""))
        return self._stream

    def _remember(self, out: bytes) -> None:
        size = 1 << self._window_bits
        if self._history is None or len(out) >= size:
            self._history = bytearray(out[-size:])
            return
        surplus = len(self._history) + len(out) - size
        if surplus > 0:
            del self._history[:surplus]
        self._history += out
