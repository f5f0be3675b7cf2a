"""What one end of a WebSocket sends in all its ways, in either role, and the other end receives: whole messages and
fragments, compressed or not, pings, pongs, a close. The input describes what is sent, and when what is written.

- Nothing is raised.
- The other end receives the messages that were sent, in order, answers each ping, and hears the close that was sent.
- websockets receives the same (see `_peers.py`).
"""

from __future__ import annotations

from typing import Any

from compliance.fuzz.findings import require
from compliance.fuzz.pieces import cut, whole
from compliance.fuzz.targets._websocket import Reader, Setting, decoded, take_all
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role

_PONG = 0x8A
_LIMIT = 1 << 20
_CHOICES = (None, True, False)


def observe(data: bytes) -> Any:
    if len(data) < 2:
        return None
    setting = Setting.of(data)
    wire, expected, pings = written(setting, data[2:])
    role = Role.SERVER if setting.role == Role.CLIENT else Role.CLIENT
    other = Connection(role, _LIMIT, 10_000, _codec(setting, role))
    messages: list[str | bytes] = []
    for piece in cut(wire, setting.seed) if setting.structured else whole(wire):
        other.feed(piece)
        take_all(other, messages)
    require(not other.failed, f"the other end fails what was sent: {other.close_reason}")
    require(messages == expected, "the other end receives something else than was sent", messages, expected)
    other.answer_end()
    answers = [payload for first, payload in decoded(b"".join(map(bytes, other.take_output()))) if first == _PONG]
    require(answers == pings, "the pings that were sent are not those that are answered", answers, pings)
    require(other.ended and (other.close_code, other.close_reason) == (1000, "bye"), "another close than was sent")
    # isal compresses the same to some bytes more or less, as it looks at memory that it has not written to.
    return messages, pings, len(wire) if setting.role == Role.SERVER and not setting.deflate else None


def _codec(setting: Setting, role: Role) -> Any:
    return Setting(**{**setting.__dict__, "role": role}).codec() if setting.deflate else None


def written(setting: Setting, data: bytes) -> tuple[bytes, list[str | bytes], list[bytes]]:
    """What this end writes, the messages that it has sent, and its pings."""
    connection = Connection(setting.role, _LIMIT, 10_000, _codec(setting, setting.role))
    sender = Sender(connection)
    reader = Reader(data)
    while reader.left:
        sender.step(reader)
    sender.finish()
    connection.close(1000, "bye")
    sender.wire += [*map(bytes, connection.take_output())]
    return b"".join(sender.wire), sender.sent, sender.pings


class Sender:
    """Does what an input says, a byte for each step."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.wire: list[bytes] = []
        self.sent: list[str | bytes] = []
        self.pings: list[bytes] = []
        self._parts: list[bytes] = []  # of a message in fragments
        self._text = False

    def step(self, reader: Reader) -> None:
        what = reader.byte()
        compress = _CHOICES[(what >> 4) % 3]
        kind = what & 15
        if kind < 4:
            self._message(reader.payload(), bool(kind & 1), compress)
        elif kind < 8:
            self._fragment(reader.payload(), bool(kind & 1), bool(kind & 2), bool(compress))
        elif kind < 10:
            self._control(reader.payload()[:125], kind == 8)
        elif kind < 13:
            self.wire += [*map(bytes, self.connection.take_some(reader.byte() * 300))]
        else:
            self.wire += [*map(bytes, self.connection.take_output())]
        size = self.connection.output_size
        require(size >= 0, "less than nothing waits to be written", size)

    def finish(self) -> None:
        """End a message in fragments."""
        if self.connection.fragmenting:
            self._fragment(b"", True, self._text, False)

    def _message(self, payload: bytes, text: bool, compress: bool | None) -> None:
        if self.connection.fragmenting:
            return  # only control frames may be sent then
        if text:
            words = payload.decode("utf-8", "replace")
            self.connection.send_text(words, compress)
            self.sent.append(words)
        else:
            self.connection.send_binary(payload, compress)
            self.sent.append(payload)

    def _fragment(self, payload: bytes, last: bool, text: bool, compress: bool) -> None:
        first = not self.connection.fragmenting
        self._text = text if first else self._text
        if self._text:
            payload = payload.decode("utf-8", "replace").encode()
        self._parts = [payload] if first else [*self._parts, payload]
        self.connection.send_fragment(self._text, payload, first, last, compress)
        if last:
            message = b"".join(self._parts)
            self.sent.append(message.decode() if self._text else message)

    def _control(self, payload: bytes, ping: bool) -> None:
        if ping:
            self.connection.ping(payload)
            self.pings.append(payload)
        else:
            self.connection.send_pong(payload)


def compare(data: bytes, seen: Any) -> bool:
    from compliance.fuzz.targets._peers import hears_all

    if seen is None:
        return False
    setting = Setting.of(data)
    wire, messages, _ = written(setting, data[2:])
    return hears_all(setting, wire, messages)
