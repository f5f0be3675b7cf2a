# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""One WebSocket as a state machine over bytes, in either role (RFC 6455 sections 5 to 7, RFC 7692): no socket, no
clock.

Theory of operation. `state` follows the close frames of both ends:

    OPEN     this end has not sent a close frame
    CLOSING  this end has sent one, the peer has not
    CLOSED   both ends have sent one

`ended` is independent of it: no message follows those in the queue, because the peer sent a close frame
(`peer_closed`) or broke the protocol or a limit (`failed`). Two rules hold:

- Nothing that the peer sends raises here. It becomes messages, state and frames to send.
- The end keeps its place behind the messages that came before it. It is recorded when it arrives, and answered with a
  close frame by `answer_end()`, which the owner calls once those messages have been taken.

After an error of the peer, frames are still read, but only to find its close frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowserve.errors import InvalidText, ProtocolError
from flowserve.websocket.assembly import Assembly, UndecodedText
from flowserve.websocket.constants import MAX_CONTROL_PAYLOAD, CloseCode, Opcode, State, is_sendable
from flowserve.websocket.frames import encode_frame

if TYPE_CHECKING:
    from flowserve.websocket.deflate import PerMessageDeflate

_CLOSE = int(Opcode.CLOSE)
_PING = int(Opcode.PING)
_PONG = int(Opcode.PONG)
_OPEN = int(State.OPEN)
_CLOSING = int(State.CLOSING)
_CLOSED = int(State.CLOSED)
_NO_STATUS = int(CloseCode.NO_STATUS)
_ABNORMAL = int(CloseCode.ABNORMAL)
_TOO_BIG = int(CloseCode.MESSAGE_TOO_BIG)

_MAX_REASON = 123
_MAX_CONTROL_PAYLOAD = int(MAX_CONTROL_PAYLOAD)
_LATE_MESSAGE_COST = 128  # bytes of `late_room` that a message takes beside its own size
_INBOX_MARK = 64  # messages taken from the front of the inbox, after which their places are deleted
_FULL_MARK = 65536  # characters or bytes in the queue above which decoding stops, if `max_waiting` is set
_LARGE_MARK = 65536  # bytes: if a frame lacks at least so many and the budget is used up, reading should stop
_FRAME_COST = 256  # units of the budget
_MESSAGE_COST = 256  # units of the budget, for the work of its receiver


class Connection(Assembly):
    """The wire state of one WebSocket. Assembly and Output are layers of it, each with a method to begin.

    Receiving: `feed(data)`, then `take()` while `waiting`; when `ended`, no message follows, for the reason in
    `close_code` and `close_reason`. Sending: see Output, and `close()`.

    Decoding stops while the queue is full (`is_full()`) and when the budget set by `set_budget()` is used up. Then
    `held` is true: received bytes are not decoded yet, or no more of a large payload should be read for now;
    `feed(b"")` continues.
    """

    __slots__ = (
        "_close_reply",
        "_inbox",
        "_inbox_start",
        "answered",
        "bytes_in",
        "close_code",
        "close_reason",
        "ended",
        "held",
        "late_room",
        "max_waiting",
        "messages_in",
        "other_pongs",
        "peer_close",
        "peer_closed",
        "pong_received",
        "sent_close",
        "state",
        "waiting",
        "waiting_size",
    )

    def __init__(self, role: int, max_size: int, max_frames: int, deflate: PerMessageDeflate | None = None) -> None:
        """`max_size` bounds a message in bytes (after inflation), `max_frames` the frames it is made of."""
        self._begin_assembly(role, max_size, max_frames, deflate)
        self._inbox: list[Any] | None = None  # created on demand: most connections are idle
        self._inbox_start = 0  # index of the oldest message; the places before it hold None
        self.held = False  # decoding stopped early, see above
        self.max_waiting = 0  # messages in the queue above which decoding stops; 0 for no bound
        self._close_reply: bytes | None = None  # payload of the close frame with which to answer the end
        self.pong_received: bytes | None = None  # payload of the last pong, until the owner resets it
        self.other_pongs: list[bytes] | None = None  # those before it, likewise
        self.state = _OPEN  # a State
        self.ended = False  # no message follows those that wait
        self.peer_closed = False  # the peer's close frame has been received
        self.peer_close: bytes | None = None  # and its payload
        self.sent_close: bytes | None = None  # payload of this end's close frame, once it is queued
        self.answered = False  # this end's close frame was the second
        self.close_code = _ABNORMAL
        self.close_reason = ""
        self.late_room = 0  # bytes of messages that are still queued after this end's close frame; set by the owner
        self.waiting = 0  # messages in the queue
        self.waiting_size = 0  # their length in characters (str) and bytes
        self.messages_in = 0  # received so far
        self.bytes_in = 0  # in those, after inflation

    @property
    def in_bad_frame(self) -> bool:
        """Whether the peer's error lies in a frame that is not complete yet."""
        return self.failed and not self._decoder.last and not self.peer_closed

    @property
    def failed(self) -> bool:
        """Whether the peer broke the protocol or a limit; see `close_code` and `close_reason`."""
        return self._decoder.lenient

    # Receiving

    def feed(self, data: bytes) -> None:
        """Decode bytes from the peer. Never raises for their content. All bytes after the peer's close frame are
        ignored."""
        if self.peer_closed:
            return
        self._decoder.feed(data)
        self._budget.begin()
        try:
            self._process_frames()
        except ProtocolError as error:
            self._fail(error.close_code, error.reason)
            self._process_frames()  # the peer's close frame may have been fed already
        except MemoryError:
            self._fail_for_memory()
            self._process_frames()
        self._budget.end()

    def get_buffer(self) -> memoryview:
        """Like Assembly's, but empty if memory runs out, which ends the connection."""
        try:
            return Assembly.get_buffer(self)
        except MemoryError:
            self._fail_for_memory()
            return memoryview(b"")

    def is_full(self, part: int = 1) -> bool:
        """Whether decoding stops, as more than `max_waiting` messages or 64 KiB wait. With `part` 2: more than half of
        that. Never once a close frame was sent or the end has arrived."""
        return (
            self.max_waiting > 0
            and (self.waiting > self.max_waiting // part or self.waiting_size > _FULL_MARK // part)
            and self.state == _OPEN
            and not self.ended
        )

    def take(self) -> str | bytes:
        """Return the oldest complete message. Raises IndexError if none waits."""
        inbox, at = self._inbox, self._inbox_start
        if inbox is None:
            raise IndexError("no message is waiting")
        message: str | bytes | UndecodedText = inbox[at]
        self.waiting -= 1
        self.waiting_size -= len(message)
        if not self.waiting:
            self._inbox = None
            self._inbox_start = 0
        else:
            inbox[at] = None
            self._inbox_start = at + 1
            if at >= _INBOX_MARK and at >= self.waiting:  # amortised: moving the rest costs little per message
                del inbox[: at + 1]
                self._inbox_start = 0
        return message.data.decode() if isinstance(message, UndecodedText) else message

    def _process_frames(self) -> None:
        """Decode what has been fed, until it is used up, the queue is full or the budget is spent."""
        decoder = self._decoder
        budget = self._budget
        while not self.peer_closed:
            if budget.allowance <= 0 or self.is_full():
                self.held = (
                    self._inflating or decoder.has_more() or (budget.allowance <= 0 and decoder.missing >= _LARGE_MARK)
                )
                return
            if self._inflating:
                self._inflate(b"", self._last_piece)
                continue
            if not decoder.next():
                break
            budget.allowance -= _FRAME_COST
            if self.ended:  # by an error of the peer: skip everything but its close frame
                self.peer_closed = decoder.opcode == _CLOSE
                if self.peer_closed:
                    self.peer_close = decoder.payload() if decoder.size <= _MAX_CONTROL_PAYLOAD else b""
                    if self.state == _CLOSING:
                        self.state = _CLOSED
            elif decoder.opcode >= _CLOSE:
                self._handle_control_frame()
            elif decoder.last and decoder.first and decoder.fin and not decoder.rsv1 and not self._opcode:
                self._read_whole_message()
            else:
                self._read_piece()
        self.held = False

    def _handle_control_frame(self) -> None:
        payload = self._decoder.payload()
        if self._decoder.opcode == _PING:
            self.answer_ping(payload)
        elif self._decoder.opcode == _PONG:
            if self.pong_received is not None:
                if self.other_pongs is None:
                    self.other_pongs = []
                self.other_pongs.append(self.pong_received)
            self.pong_received = payload
        else:
            self._read_close(payload)

    def _read_close(self, payload: bytes) -> None:
        """Handle the peer's close frame (RFC 6455 section 5.5.1)."""
        self.peer_closed = True
        self.peer_close = payload
        code, reason = _NO_STATUS, ""
        if payload:
            code = payload[0] << 8 | payload[1] if len(payload) > 1 else 0
            if not is_sendable(code):
                raise ProtocolError("close frame without a valid status code")
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                raise InvalidText("close reason is not UTF-8") from None
        self._record_end(code, reason, payload)

    def _fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455 section 7.1.7): no more messages, and a close frame with the reason."""
        self._decoder.lenient = True
        self._record_end(code, reason, encode_close(code, reason))

    def _fail_for_memory(self) -> None:
        """Fail the connection, as memory for the incomplete message ran out."""
        self._fail(_TOO_BIG, "message over the memory that is left")

    def _record_end(self, code: int, reason: str, answer: bytes) -> None:
        self.ended = True
        self._discard_message()
        if self.state == _OPEN:
            self.close_code = code
            self.close_reason = reason
            self._close_reply = answer
        elif self.peer_closed:
            self.state = _CLOSED

    def _deliver(self, message: str | bytes | UndecodedText, size: int) -> None:
        self.messages_in += 1
        self.bytes_in += size
        self._budget.allowance -= _MESSAGE_COST
        if self.state != _OPEN:
            if self.late_room <= 0:  # data after a close frame is discarded (RFC 6455 section 1.4)
                return
            self.late_room -= size + _LATE_MESSAGE_COST
        if self._inbox is None:
            self._inbox = [message]
        else:
            self._inbox.append(message)
        self.waiting += 1
        self.waiting_size += len(message)

    # Closing

    def close(self, code: int, reason: str = "") -> None:
        """Start the closing handshake, or answer the peer's. Does nothing if this end has sent a close frame already.

        `reason` is cut to the 123 bytes that fit into a close frame. `code` 1005 sends a close frame without a code.
        """
        if self.state == _OPEN:
            self._close_reply = None
            if not self.ended:
                self.close_code = code
                self.close_reason = reason
            self._send_close(encode_close(code, reason))

    def answer_end(self) -> None:
        """Answer the peer's end with a close frame, unless that is done or there is none."""
        if self._close_reply is not None:
            self._send_close(self._close_reply)
            self._close_reply = None

    def _send_close(self, payload: bytes) -> None:
        self._pending_pong = None
        self.sent_close = payload
        self.answered = self.peer_closed
        self._enqueue(encode_frame(_CLOSE, payload, self._mask()))
        self.state = _CLOSED if self.peer_closed else _CLOSING


def encode_close(code: int, reason: str) -> bytes:
    """Return the payload of a close frame, empty for 1005. `reason` is cut, between characters, to the 123 bytes that
    fit."""
    if code == _NO_STATUS:
        return b""
    return code.to_bytes(2, "big") + reason.encode()[:_MAX_REASON].decode(errors="ignore").encode()
