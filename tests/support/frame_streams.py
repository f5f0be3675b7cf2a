"""Streams of frames as hypothesis draws them, good and bad ones, and what a connection makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from hypothesis import strategies as st

from flowserve.websocket.budget import Budget
from flowserve.websocket.connection import Connection
from support.connections import Message, answer, connection, messages, output, split
from support.helpers import MASK, close_payload, frame


class Outcome(NamedTuple):
    messages: list[Message]
    output: bytes
    state: int
    ended: bool
    peer_closed: bool
    peer_close: bytes | None
    code: int
    reason: str
    pong: bytes | None
    messages_in: int
    answer: bytes


class Small(Budget):
    """The same in each call."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def begin(self) -> None:
        self.allowance = self.most


class Late(Budget):
    """It is had back by nobody."""

    def refill(self) -> None:
        pass


def outcome(
    chunks: Iterable[bytes],
    deflate: bool = False,
    max_size: int = 2000,
    give: Callable[[Connection, bytes], None] = Connection.feed,
    allowance: int = 0,
) -> Outcome:
    """With `allowance`, no more is decoded at once, and at most two messages wait."""
    conn = connection(max_size=max_size, max_frames=8, deflate=deflate)
    if allowance:
        conn.max_waiting = 1
        conn.set_budget(Small(allowance))
    taken: list[Message] = []
    for chunk in chunks:
        give(conn, chunk)
        while conn.held:
            assert conn.waiting <= (2 if allowance else 0)
            taken += messages(conn)
            conn.feed(b"")
    return Outcome(
        taken + messages(conn),
        output(conn),
        conn.state,
        conn.ended,
        conn.peer_closed,
        conn.peer_close,
        conn.close_code,
        conn.close_reason,
        conn.pong_received,
        conn.messages_in,
        answer(conn),
    )


keys = st.sampled_from([MASK, b"\0\0\0\0", b"\xff\x80\x01\x7f"])
controls = st.builds(
    lambda opcode, payload, key: frame(opcode, payload, mask=key),
    st.sampled_from([9, 10]),
    st.binary(max_size=125),
    keys,
)
bodies = st.tuples(st.just(1), st.text(max_size=60).map(str.encode)) | st.tuples(st.just(2), st.binary(max_size=300))


@st.composite
def messages_in_fragments(draw: st.DrawFn) -> bytes:
    """A message, perhaps in fragments with control frames between them."""
    opcode, body = draw(bodies)
    fragments = split(body, draw(st.lists(st.integers(0, 300), max_size=4))) or [b""]
    wire = b""
    for i, fragment in enumerate(fragments):
        wire += frame(opcode if i == 0 else 0, fragment, fin=i == len(fragments) - 1, mask=draw(keys))
        if draw(st.integers(0, 4)) == 0:
            wire += draw(controls)
    return wire


ends = st.sampled_from(
    [
        b"",
        frame(8, close_payload(1000, "bye")),
        frame(8),
        frame(8, b"\x03"),
        frame(8, close_payload(1005)),
        frame(8, b"\x03\xe8\xff"),
        frame(1, b"\xce\xba\xff\xff and more"),
        frame(1, b"\xce\xba", fin=False) + frame(0, b"\xf4\x90\x80"),
        frame(1, b"\xce"),
        frame(2, bytes(2001)),
        frame(2, bytes(1999), fin=False) + frame(0, b"xy"),
        frame(2, b"", fin=False) + frame(0, b"", fin=False) * 8,
        frame(1, b"text", rsv=4),
        frame(0, b"continues nothing"),
        frame(1, b"new", fin=False) + frame(2, b"message"),
        frame(3, b"reserved"),
        frame(9, bytes(126)),
        frame(9, b"", fin=False),
        frame(1, b"not masked", mask=None),
        frame(2, b"x", length_bytes=2),
        frame(2, bytes(200), length_bytes=8),
        frame(2, b"", length=1 << 63),
        frame(8, close_payload(1000, "bye"), fin=False),
        frame(8, close_payload(1000, "bye"), mask=None),
        frame(8, close_payload(1000, "bye"), rsv=4),
        frame(8, close_payload(1000, "bye"), length_bytes=2),
        frame(8, close_payload(1000) + bytes(124)),
        frame(8, close_payload(1000, "half"))[:-2],
    ]
)
