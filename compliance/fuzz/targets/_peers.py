"""websockets and wsproto as oracles for a connection: what both take must be the same messages and the same end.

Each oracle is told the same limits and the same permessage-deflate. Up to where one of the two fails the connection,
messages, pongs and close must be equal; that only one of them fails it must be explained by a rule.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate as WsprotoDeflate
from wsproto.utilities import RemoteProtocolError

from compliance.fuzz.findings import Broken, require
from compliance.fuzz.pieces import whole
from compliance.fuzz.targets._websocket import Setting, Story, story
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate_backends import backend

_STRICTER = {
    "length not in its shortest form": "RFC 6455 section 5.2; websockets does not look",
    "control frame longer than 125": "its length is in 16 or 64 bits; websockets looks at the number there",
    "64-bit length with its first bit set": "RFC 6455 section 5.2; websockets calls it too big",
    "message of more than": "a limit of ours",
    "message over the limit": "a limit of ours, that wsproto does not have",
    "compressed message inflates to more": "likewise",
    "compressed message stops short of its end": "the others give the beginning of such a message",
    "compressed message is not valid DEFLATE": "the same, where the tail that is added is read as something else",
    "compressed message has too many final blocks": "a limit of ours",
    "close reason is not UTF-8": "wsproto tells of it as a close with 1007",
    "close frame without a valid status code": "wsproto tells of it as a close with 1002",
}
"""How the reason begins with which flowserve fails what an oracle takes."""
_LENIENT = {
    "frame with": "websockets counts control frames, too; that flowserve keeps its limit is looked at by itself",
    "frame exceeds limit": "websockets says so of a byte that only the tail that is added yields, where a long payload"
    " stops within a block; that flowserve keeps its limit is looked at by itself",
    "incomplete fragmented message": "websockets wants no close frame within a message; RFC 6455 section 5.4 allows it",
}
"""How what an oracle says begins where it fails what flowserve takes."""


_MUCH = 1 << 21
"""Bytes that are not made up for a frame."""


class _Heard(NamedTuple):
    """`failed` is what the oracle says of the error, "" without one; `blind` that it can't know the rest."""

    messages: list[str | bytes]
    pongs: list[bytes]
    close: tuple[int, str] | None
    failed: str
    blind: bool


def agree(setting: Setting, stream: bytes, seen: Story) -> bool:
    """Compare a connection's story with what the oracles hear; False where there was nothing to compare."""
    if setting.closes:
        return False  # what comes behind one's own close frame is everybody's own affair
    compared = False
    for name, hear in (("websockets", _websockets), ("wsproto", _wsproto)):
        heard = hear(setting, stream)
        _same_beginning(name, heard, seen)
        compared = compared or bool(heard.messages or heard.close)
        if heard.blind:
            continue
        if seen["failed"] and not heard.failed:
            # flowserve fails a frame as soon as it is seen to be bad; others when its header, or all of it, is there
            rest, is_whole = completed(stream)
            if not is_whole:
                continue
            heard = hear(setting, rest)
        end = seen
        if heard.failed and not seen["failed"]:
            # websockets looks at a length before the mask has come
            with _zlib():
                end = story(setting, whole(completed(stream)[0]))
        if not heard.blind:
            _same_end(name, heard, end)
    return compared


@contextmanager
def _zlib() -> Iterator[None]:
    """Have flowserve inflate with zlib, as the oracles do: it looks at the header of a block while that comes, and
    ISA-L when it has all of it, be it with a later message."""
    before = os.environ.get("FLOWSERVE_ZLIB")
    os.environ["FLOWSERVE_ZLIB"] = "zlib"
    backend.cache_clear()
    try:
        yield
    finally:
        if before is None:
            del os.environ["FLOWSERVE_ZLIB"]
        else:
            os.environ["FLOWSERVE_ZLIB"] = before
        backend.cache_clear()


def completed(stream: bytes) -> tuple[bytes, bool]:
    """The stream with what is missing of its last frame, as zeros, and whether that is all: only the header is
    completed if much is missing."""
    at = 0
    while at < len(stream):
        stream += bytes(max(0, at + 2 - len(stream)))
        size, masked = stream[at + 1] & 0x7F, stream[at + 1] >= 0x80
        wide = {126: 2, 127: 8}.get(size, 0)
        head = 2 + wide + 4 * masked
        stream += bytes(max(0, at + head - len(stream)))
        if wide:
            size = int.from_bytes(stream[at + 2 : at + 2 + wide], "big")
        at += head + size
        if at - len(stream) > _MUCH:
            return stream, False
        stream += bytes(max(0, at - len(stream)))
    return stream, True


def _same_beginning(name: str, heard: _Heard, seen: Story) -> None:
    for what, mine, other in (
        ("message", seen["messages"], heard.messages),
        ("pong", seen["pongs"], heard.pongs),
    ):
        for one, another in zip(mine, other, strict=False):
            require(one == another, f"{name} hears another {what}", one, another)


def _same_end(name: str, heard: _Heard, seen: Story) -> None:
    """Who has failed the connection earlier, or alone, must have had a reason that is known."""
    mine, other = len(seen["messages"]), len(heard.messages)
    if seen["failed"] and (not heard.failed or mine < other):
        _explain(seen["close"][1], _STRICTER, f"flowserve fails what {name} takes", heard, seen)
        return
    if heard.failed and (not seen["failed"] or other < mine):
        _explain(heard.failed, _LENIENT, f"{name} fails what flowserve takes", heard, seen)
        return
    require(mine == other, f"{name} hears fewer or more messages", heard, seen)
    require(len(seen["pongs"]) == len(heard.pongs) or bool(heard.failed), f"{name} hears other pongs", heard, seen)
    if not heard.failed:
        close = seen["close"] if seen["ended"] else None
        require(close == heard.close, f"{name} hears another close", heard, seen)


def _explain(said: str, rules: dict[str, str], what: str, *details: Any) -> None:
    if not any(said.startswith(begin) for begin in rules):
        raise Broken(f"{what}: {said}", *details)


class _Inflater(PerMessageDeflate):
    """websockets' own, which counts the frames before the first final block: behind one it reads nothing more, and does
    not notice."""

    clear = 0
    blind = False

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        before: Any = getattr(self, "decoder", None)
        found = super().decode(frame, max_size=max_size)
        decoder = getattr(self, "decoder", before)  # without takeover it is gone behind a message
        whole = frame.fin and frame.rsv1 and self.remote_no_context_takeover
        ended = _ends_early(bytes(frame.data)) if whole else decoder is not None and decoder.eof
        self.blind = self.blind or ended
        self.clear += not self.blind
        return found


def _ends_early(payload: bytes) -> bool:
    """Whether a message, which is one frame, has a final block."""
    stream = zlib.decompressobj(-15)
    try:
        stream.decompress(payload + b"\0\0\xff\xff")
    except zlib.error:
        return True
    return bool(stream.eof)


def _websockets(setting: Setting, stream: bytes) -> _Heard:
    side = SERVER if setting.role == Role.SERVER else CLIENT
    protocol = Protocol(side, state=OPEN, max_size=setting.max_size)
    inflater = _Inflater(not setting.takeover, not setting.takeover, 15, 15)
    if setting.deflate:
        protocol.extensions = [inflater]
    protocol.receive_data(stream)
    messages: list[str | bytes] = []
    pongs, parts, text = [], [], False
    failed = str(protocol.parser_exc) if protocol.parser_exc is not None else ""
    events = protocol.events_received()
    for frame in events[: inflater.clear] if setting.deflate else events:
        assert isinstance(frame, Frame)
        if frame.opcode is Opcode.PONG:
            pongs.append(bytes(frame.data))
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            text = frame.opcode is Opcode.TEXT if frame.opcode is not Opcode.CONT else text
            parts.append(bytes(frame.data))
            if frame.fin:
                data, parts = b"".join(parts), []
                try:
                    messages.append(data.decode() if text else data)
                except UnicodeDecodeError:
                    return _Heard(messages, pongs, None, "text is not UTF-8", False)
    # its users decode a message when it is whole: of text that has come in part it can't say that it is none
    blind = inflater.blind or (bool(parts) and text)
    close = protocol.close_rcvd
    return _Heard(messages, pongs, None if close is None else (int(close.code), close.reason), failed, blind)


def _wsproto(setting: Setting, stream: bytes) -> _Heard:
    role = ConnectionType.SERVER if setting.role == Role.SERVER else ConnectionType.CLIENT
    # it inflates without a limit, and ends a message as zlib does: only what is not compressed is compared
    blind = setting.deflate
    connection = Connection(role, [WsprotoDeflate()] if setting.deflate else [])
    messages: list[str | bytes] = []
    pongs: list[bytes] = []
    parts: list[Any] = []
    if blind:
        return _Heard([], [], None, "", True)
    connection.receive_data(stream)
    try:
        for event in connection.events():
            if isinstance(event, Pong):
                pongs.append(bytes(event.payload))
            elif isinstance(event, Message):
                parts.append(event.data)
                if event.message_finished:
                    messages.append(_joined(event, parts))
                    parts = []
            elif isinstance(event, CloseConnection):
                return _Heard(messages, pongs, *_closed(event, connection))
    except RemoteProtocolError as error:
        return _Heard(messages, pongs, None, str(error) or "an error", False)
    return _Heard(messages, pongs, None, "", False)


def _joined(event: Message, parts: list[Any]) -> str | bytes:
    if isinstance(event, TextMessage):
        return "".join(parts)
    assert isinstance(event, BytesMessage)
    return b"".join(map(bytes, parts))


def _closed(event: CloseConnection, connection: Connection) -> tuple[tuple[int, str] | None, str, bool]:
    """A close frame of the peer's, or an error, which wsproto tells of in the same way."""
    if connection.state.name == "REMOTE_CLOSING":
        return (int(event.code), event.reason or ""), "", False
    return None, event.reason or "an error", False


def hears_all(setting: Setting, wire: bytes, messages: list[str | bytes]) -> bool:
    """Whether websockets, as the other end of this `setting`, hears what was sent; Broken if not all of it."""
    role = Role.SERVER if setting.role == Role.CLIENT else Role.CLIENT
    heard = _websockets(Setting(**{**setting.__dict__, "role": role, "max_size": 1 << 20}), wire)
    require(not heard.failed and not heard.blind, f"websockets fails what flowserve sends: {heard.failed}")
    require(heard.messages == messages, "websockets hears something else than was sent", heard.messages, messages)
    require(heard.close == (1000, "bye"), "websockets hears another close than was sent", heard.close)
    return bool(messages)
