"""A WebSocket connection in either role, with and without permessage-deflate, with small and large limits.

- Bytes of a peer never raise.
- The stream in pieces gives the messages, pongs, frames to send and end that it gives as a whole; so does a large
  payload that is put into `get_buffer()`; and the parts of a message that `take_part()` gave, with what `take()` gives
  behind them, are the message.
- Decoded little at once, with the queue full most of the time, it gives the same.
- No message, nor what is kept of an unfinished one, is longer than the limit; each is made of at most `max_frames`.
- What this end sends are whole frames; with the protocol broken, the last one is a close frame.
- websockets and wsproto see the same messages and the same end (see `_peers.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from compliance.fuzz.findings import Broken, require
from compliance.fuzz.pieces import cut, same_in_pieces
from compliance.fuzz.targets._websocket import Setting, Story, story
from flowserve.websocket.connection import Connection

MAX_LEN = 8192
_CLOSE = 0x88
_IN_PAYLOAD = ("text is not UTF-8", "compressed message", "message over the limit")
"""How reasons begin that are found in a payload as it comes."""


def observe(data: bytes) -> Story | None:
    if len(data) < 2:
        return None
    setting = Setting.of(data)
    stream = setting.stream(data)
    seen = same_in_pieces(lambda pieces: story(setting, pieces), stream, setting.seed, known)
    _check(setting, seen)
    pieces = cut(stream, setting.seed)
    if setting.seed & 4:
        require(known(story(setting, pieces, _land)) == known(seen), "a payload that lands is not what it is when fed")
    else:
        limited = story(setting, pieces, limited=True)
        require(known(limited) == known(seen), "what is decoded little by little is not the whole", limited, seen)
        joined = _in_parts(setting, pieces)
        if joined != seen["messages"]:
            raise Broken("the parts of messages are not the messages", joined, seen["messages"])
    return seen


def compare(data: bytes, seen: Story | None) -> bool:
    from compliance.fuzz.targets._peers import agree

    if seen is None:
        return False
    setting = Setting.of(data)
    return agree(setting, setting.stream(data), seen)


def known(seen: Story) -> Story:
    """The story without what is known to depend on how a stream was cut: of several errors in the payload of a frame,
    the one that comes to light first is told of."""
    if not seen["failed"] or not seen["close"][1].startswith(_IN_PAYLOAD):
        return seen
    sent = seen["sent"]
    return {**seen, "close": None, "sent": sent[:-1] if sent and sent[-1][0] == _CLOSE else sent}


def _check(setting: Setting, seen: Story) -> None:
    for message in seen["messages"]:
        size = len(message if isinstance(message, bytes) else message.encode())
        require(size <= setting.max_size, "a message is longer than the limit")
    if seen["failed"] and not setting.closes:
        require(bool(seen["sent"]) and seen["sent"][-1][0] == _CLOSE, "no close frame, though the protocol was broken")
        require(seen["close"][0] in (1002, 1007, 1009), "the protocol was broken, and the close code is another", seen)


def _land(connection: Connection, data: bytes) -> None:
    """Feed as a transport does that reads into `get_buffer()`: at most as many bytes as it has room for."""
    while data and connection.wants_buffer():
        with connection.get_buffer() as room:
            size = min(len(room), len(data))
            room[:size] = data[:size]
        connection.buffer_updated(size)
        data = data[size:]
        connection.feed(b"")
    if data or not connection.wants_buffer():
        connection.feed(data)


def _in_parts(setting: Setting, pieces: Sequence[bytes]) -> list[str | bytes]:
    """The messages, each put together of the parts that had come after each piece."""
    connection = setting.connection()
    messages: list[str | bytes] = []
    parts: list[str | bytes] = []
    if setting.closes:
        connection.late_room = 500
        connection.close(1000, "enough")
    for piece in pieces:
        connection.feed(piece)
        while connection.waiting:
            messages.append(_joined([*parts, connection.take()]))
            parts = []
        if part := connection.take_part():
            parts.append(part)
    return messages


def _joined(parts: list[str | bytes]) -> str | bytes:
    if isinstance(parts[-1], str):
        return "".join(part for part in parts if isinstance(part, str))
    return b"".join(part for part in parts if isinstance(part, bytes))
