"""What the WebSocket targets share: options out of an input's first bytes, frames by hand, one connection's story."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from compliance.fuzz.findings import require
from flowserve.websocket.budget import Budget
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate

_MASK = bytes((0x11, 0x22, 0x33, 0x44))
SIZES = (64, 1000, 1 << 16, 1 << 20)
"""Limits of messages; the largest is what other implementations have by default."""


@dataclass(frozen=True)
class Setting:
    """A connection, as the first two bytes of an input have it."""

    role: Role
    deflate: bool
    takeover: bool
    structured: bool  # the rest describes frames that are well formed, instead of being the stream itself
    closes: bool  # this end sends its close frame first, and takes some of what comes behind it
    max_size: int
    max_frames: int
    seed: int

    @classmethod
    def of(cls, data: bytes) -> Setting:
        first, second = data[0], data[1]
        return cls(
            role=Role.CLIENT if first & 1 else Role.SERVER,
            deflate=bool(first & 2),
            takeover=bool(first & 4),
            structured=bool(first & 8),
            closes=bool(first & 16),
            max_size=SIZES[first >> 5 & 3],
            max_frames=4 if first & 128 else 1000,
            seed=second,
        )

    def stream(self, data: bytes) -> bytes:
        """The peer's bytes."""
        return b"".join(described(data[2:], self.role == Role.SERVER)) if self.structured else data[2:]

    def connection(self) -> Connection:
        return Connection(self.role, self.max_size, self.max_frames, self.codec() if self.deflate else None)

    def codec(self) -> PerMessageDeflate:
        context: Literal["shared", "takeover"] = "takeover" if self.takeover else "shared"
        agreed = DeflateParameters(not self.takeover, not self.takeover, 15, 15)
        return PerMessageDeflate(DeflateSettings(context), agreed, self.role)


def described(data: bytes, masked: bool) -> Iterator[bytes]:
    """Frames whose headers are well formed: each is described by its first byte, as on the wire, and its payload."""
    reader = Reader(data)
    while reader.left:
        yield encoded(reader.byte(), reader.payload(), masked)


class Reader:
    """Takes an input apart, from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next bytes, at most as many as there are."""
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        return found

    def byte(self) -> int:
        """The next byte, 0 behind the end."""
        return int.from_bytes(self.take(1), "big")

    def payload(self) -> bytes:
        """A byte for the length, in steps of 64 from 224 on, and so many bytes; behind 255 are two, for the length of a
        large one in steps of 300, and of the piece that is repeated in it."""
        size = self.byte()
        if size < 255:
            return self.take(size if size < 224 else (size - 220) * 64)
        size = 30_000 + 300 * self.byte()
        piece = self.take(self.byte()) or b"\0"
        return (piece * (size // len(piece) + 1))[:size]


def encoded(first: int, payload: bytes, masked: bool) -> bytes:
    """A frame (RFC 6455 section 5.2), written down without flowserve's own encoder."""
    bit, size = 0x80 if masked else 0, len(payload)
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65536:
        head = bytes((first, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, bit | 127)) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    return head + _MASK + xored(payload, _MASK)


def xored(payload: bytes, mask: bytes) -> bytes:
    """RFC 6455 section 5.3."""
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


def decoded(data: bytes) -> list[tuple[int, bytes]]:
    """The frames that this end has sent: first byte and payload. Raises Broken for what is no whole frame."""
    frames, at = [], 0
    while at < len(data):
        first, size, masked, at = data[at], data[at + 1] & 0x7F, data[at + 1] >= 0x80, at + 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            size, at = int.from_bytes(data[at : at + wide], "big"), at + wide
        mask, at = (data[at : at + 4], at + 4) if masked else (bytes(4), at)
        payload = xored(data[at : at + size], mask)
        require(len(payload) == size, "this end sends a frame that is cut short")
        frames.append((first, payload))
        at += size
    return frames


Story = dict[str, Any]
"""What became of a connection, as plain data."""


class _Small(Budget):
    """Little at once, the same each time."""

    def begin(self) -> None:
        self.allowance = 700


def story(
    setting: Setting,
    pieces: Sequence[bytes],
    feed: Callable[[Connection, bytes], None] = Connection.feed,
    limited: bool = False,
) -> Story:
    """Feed the pieces to a connection of this `setting`; return what it gave and what it ended as. `limited` has it
    decode little at once, and hold no more than two messages."""
    connection = setting.connection()
    if limited:
        connection.max_waiting = 1
        connection.set_budget(_Small())
    messages: list[str | bytes] = []
    if setting.closes:
        connection.late_room = 500
        connection.close(1000, "enough")
    for piece in pieces:
        feed(connection, piece)
        take_all(connection, messages)
        while connection.held:
            connection.feed(b"")
            require(connection.waiting <= 2 or setting.closes, "more messages wait than may")
            take_all(connection, messages)
        require(connection.part_size <= setting.max_size, "more of a message is kept than it may have")
    connection.answer_end()
    sent = b"".join(map(bytes, connection.take_output()))
    pongs = [*(connection.other_pongs or ()), *([] if connection.pong_received is None else [connection.pong_received])]
    return {
        "messages": messages,
        "ended": connection.ended,
        "failed": connection.failed,
        "close": (connection.close_code, connection.close_reason),
        "peer_close": (connection.peer_closed, connection.peer_close),
        "state": int(connection.state),
        "counted": (connection.messages_in, connection.bytes_in),
        "pongs": pongs,
        "sent": decoded(sent),
    }


def take_all(connection: Connection, messages: list[str | bytes]) -> None:
    while connection.waiting:
        messages.append(connection.take())
    require(connection.waiting_size == 0, "no message waits, and yet bytes do")
