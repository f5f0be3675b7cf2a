"""The frame decoder by itself, in either role, with RSV1 allowed or not.

- Only ProtocolError is raised.
- A stream in pieces has the frames that it has as a whole: headers, payloads, and the error at the same place.
- The frames that were decoded, encoded again with the same masks, are the stream.
- After an error, and `lenient`, nothing is raised any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compliance.fuzz.findings import require
from compliance.fuzz.pieces import same_in_pieces
from flowserve.errors import ProtocolError
from flowserve.websocket.constants import Role
from flowserve.websocket.frames import FrameDecoder, encode_frame, encode_header

Frame = tuple[int, bool, bool, int, bytes]


def observe(data: bytes) -> Any:
    if len(data) < 2:
        return None
    role = Role.CLIENT if data[0] & 1 else Role.SERVER
    rsv1, stream = bool(data[0] & 2), data[2:]
    seen = same_in_pieces(lambda pieces: _frames(role, rsv1, pieces), stream, data[1])
    frames, begun, _ = seen
    at = 0
    for opcode, fin, bit, size, payload in frames:
        mask = _mask_at(stream, at) if role == Role.SERVER else b""
        again = encode_frame(opcode, payload, mask, bit, fin)
        require(stream.startswith(again, at), "a frame that is encoded again is another one")
        require(size == len(payload), "a frame is not as long as its header says")
        at += len(again)
    if begun is not None:
        opcode, fin, bit, size, payload = begun
        head = encode_header(opcode, size, _mask_at(stream, at) if role == Role.SERVER else b"", bit, fin)
        require(stream.startswith(head, at), "the header of a frame, encoded again, is another one")
        require(at + len(head) + len(payload) == len(stream), "what is there of the last frame got lost")
    return seen


def _mask_at(stream: bytes, at: int) -> bytes:
    size = stream[at + 1] & 0x7F
    begin = at + 2 + (0 if size < 126 else 2 if size == 126 else 8)
    return stream[begin : begin + 4]


def _frames(role: Role, rsv1: bool, pieces: Sequence[bytes]) -> tuple[list[Frame], Frame | None, str | None]:
    """Whole frames, what there is of one that has not come to its end, and why there are no more."""
    decoder = FrameDecoder(role, rsv1)
    frames: list[Frame] = []
    begun: list[bytes] = []
    reason = None
    for piece in pieces:
        decoder.feed(piece)
        try:
            while decoder.next():
                require(decoder.first == (not begun), "a piece of a frame does not know whether it is its first")
                begun.append(decoder.payload())
                if decoder.last and reason is None:
                    whole = b"".join(begun)
                    frames.append((decoder.opcode, decoder.fin, decoder.rsv1, decoder.size, whole))
                if decoder.last:
                    begun = []
        except ProtocolError as error:
            reason = error.reason
            decoder.lenient = True
            begun = []
            while decoder.next():
                begun = [] if decoder.last else [*begun, b""]
    if not begun or reason is not None:
        return frames, None, reason
    return frames, (decoder.opcode, decoder.fin, decoder.rsv1, decoder.size, b"".join(begun)), reason
