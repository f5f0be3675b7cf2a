# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""One WebSocket as a state machine over bytes, in either role (RFC 6455 sections 5 to 7, RFC 7692): no socket, no
clock.

Two rules keep it simple. What the peer sends never raises here: it becomes messages, state and frames to send. And
an end, be it the peer's close frame or its error, takes its place in line: it is noted when it arrives and answered
by `answer_end()`, which the owner calls when the messages before it have been taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowserve.errors import InvalidText, ProtocolError
from flowserve.websocket.assembly import Assembly, LateText
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
_LATE_COST = 128  # bytes that a message takes beside its own
_INBOX_MARK = 64  # messages taken: from here on the inbox forgets their places while others wait
_FULL_MARK = 65536  # characters or bytes of messages that wait: above it decoding stops, where `max_waiting` is set
_LARGE_MARK = 65536  # bytes that are missing of a frame: where the budget is used up, they should wait
_FRAME_COST = 256  # of the budget
_MESSAGE_COST = 256  # of the budget: whoever takes it has work with it


class Connection(Assembly):
    """The wire side of one WebSocket.

    In: `feed(data)`; then `take()` gives the complete messages, and `ended` says that none will follow, with
    `close_code` and `close_reason` saying why. Out: as in Output, and `close`.

    Where `max_waiting` is set, no more is decoded while more messages than that wait, or more than 64 KiB of them; and
    no more at once than the budget allows that was set by `share()`. `held` says that bytes have come which are not
    decoded for either reason, or that no more should come of a large payload just now: `feed(b"")` goes on.

    `state` is State.OPEN until this end's close frame is made, CLOSING until the peer's has come too, then CLOSED.
    `waiting` and `waiting_size` count the messages that `take()` would give, and their length (characters or bytes).
    `late_room` is how much of what comes after this end's close frame is still given, 0 unless the owner says more:
    the bytes of messages, and _LATE_COST for each. `peer_close` and `sent_close` are the payloads of both ends' close
    frames, None until they have come or gone; `answered` says that this end's was the second. `pong_received` is the
    last pong that came, `other_pongs` those before it, until the owner forgets them.
    """

    __slots__ = (
        "_answer",
        "_inbox",
        "_taken",
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
        super().__init__(role, max_size, max_frames, deflate)
        self._inbox: list[Any] | None = None  # no list without messages: idle connections are many
        self._taken = 0  # of the inbox: they are replaced by None
        self.held = False
        self.max_waiting = 0
        self._answer: bytes | None = None  # payload of the close frame that answers the end
        self.pong_received: bytes | None = None
        self.other_pongs: list[bytes] | None = None
        self.state = _OPEN
        self.ended = False
        self.peer_closed = False
        self.peer_close: bytes | None = None
        self.sent_close: bytes | None = None
        self.answered = False
        self.close_code = _ABNORMAL
        self.close_reason = ""
        self.late_room = 0
        self.waiting = 0
        self.waiting_size = 0
        self.messages_in = 0
        self.bytes_in = 0

    @property
    def in_bad_frame(self) -> bool:
        """Whether the peer's error lies in a frame that has not come to its end."""
        return self.failed and not self._decoder.last and not self.peer_closed

    @property
    def failed(self) -> bool:
        """Whether the peer broke the protocol, or a limit: `close_code` and `close_reason` say how."""
        return self._decoder.lenient

    # In

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer; never raises for what they say. Nothing counts behind the peer's close frame."""
        if self.peer_closed:
            return
        self._decoder.feed(data)
        self._budget.begin()
        try:
            self._run()
        except ProtocolError as error:
            self._fail(error.close_code, error.reason)
            self._run()  # the peer's close frame may be there already
        except MemoryError:
            self._run_out()
            self._run()
        self._budget.end()

    def get_buffer(self) -> memoryview:
        """As Assembly's; empty when there is no memory, which is the end of the connection."""
        try:
            return Assembly.get_buffer(self)
        except MemoryError:
            self._run_out()
            return memoryview(b"")

    def is_full(self, part: int = 1) -> bool:
        """Whether so much waits to be taken that no more is decoded; `part` is 2 for half of that."""
        return (
            self.max_waiting > 0
            and (self.waiting > self.max_waiting // part or self.waiting_size > _FULL_MARK // part)
            and self.state == _OPEN
            and not self.ended
        )

    def take(self) -> str | bytes:
        """Return the oldest complete message. IndexError when `waiting` is 0."""
        inbox, at = self._inbox, self._taken
        if inbox is None:
            raise IndexError("no message is waiting")
        message: str | bytes | LateText = inbox[at]
        self.waiting -= 1
        self.waiting_size -= len(message)
        if not self.waiting:
            self._inbox = None
            self._taken = 0
        else:
            inbox[at] = None
            self._taken = at + 1
            if at >= _INBOX_MARK and at >= self.waiting:  # so that moving the others costs little for each
                del inbox[: at + 1]
                self._taken = 0
        return message.data.decode() if isinstance(message, LateText) else message

    def _run(self) -> None:
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
            if self.ended:  # by an error of the peer: pass over everything but its close frame
                self.peer_closed = decoder.opcode == _CLOSE
                if self.peer_closed:
                    self.peer_close = decoder.payload() if decoder.size <= _MAX_CONTROL_PAYLOAD else b""
                    if self.state == _CLOSING:
                        self.state = _CLOSED
            elif decoder.opcode >= _CLOSE:
                self._control()
            elif decoder.last and decoder.first and decoder.fin and not decoder.rsv1 and not self._opcode:
                self._whole()
            else:
                self._piece()
        self.held = False

    def _control(self) -> None:
        payload = self._decoder.payload()
        if self._decoder.opcode == _PING:
            self.pong(payload)
        elif self._decoder.opcode == _PONG:
            if self.pong_received is not None:
                if self.other_pongs is None:
                    self.other_pongs = []
                self.other_pongs.append(self.pong_received)
            self.pong_received = payload
        else:
            self._read_close(payload)

    def _read_close(self, payload: bytes) -> None:
        """The peer's close frame (RFC 6455 section 5.5.1)."""
        self.peer_closed = True
        self.peer_close = payload
        code, reason = _NO_STATUS, ""
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if len(payload) == 1 or not is_sendable(code):
                raise ProtocolError("close frame without a valid status code")
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                raise InvalidText("close reason is not UTF-8") from None
        self._end(code, reason, payload)

    def _fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455 section 7.1.7): no more messages, and a close frame that says why."""
        self._decoder.lenient = True
        self._end(code, reason, encode_close(code, reason))

    def _run_out(self) -> None:
        """There is no memory for the message that is coming."""
        self._fail(_TOO_BIG, "message over the memory that is left")

    def _end(self, code: int, reason: str, answer: bytes) -> None:
        self.ended = True
        self._abandon()
        if self.state == _OPEN:
            self.close_code = code
            self.close_reason = reason
            self._answer = answer
        elif self.peer_closed:
            self.state = _CLOSED

    def _deliver(self, message: str | bytes | LateText, size: int) -> None:
        self.messages_in += 1
        self.bytes_in += size
        self._budget.allowance -= _MESSAGE_COST
        if self.state != _OPEN:
            if self.late_room <= 0:  # nobody is to read it (RFC 6455 section 1.4)
                return
            self.late_room -= size + _LATE_COST
        if self._inbox is None:
            self._inbox = [message]
        else:
            self._inbox.append(message)
        self.waiting += 1
        self.waiting_size += len(message)

    # The end

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake, or answer the peer's; nothing when this end has done so already.

        `reason` is cut to the 123 bytes that a close frame has room for. `code` 1005 sends a close frame without a
        code.
        """
        if self.state == _OPEN:
            self._answer = None
            if not self.ended:
                self.close_code = code
                self.close_reason = reason
            self._send_close(encode_close(code, reason))

    def answer_end(self) -> None:
        """Send the close frame that answers the end, if there is one to answer."""
        if self._answer is not None:
            self._send_close(self._answer)
            self._answer = None

    def _send_close(self, payload: bytes) -> None:
        self._pong = None
        self.sent_close = payload
        self.answered = self.peer_closed
        self._put(encode_frame(_CLOSE, payload, self._mask()))
        self.state = _CLOSED if self.peer_closed else _CLOSING


def encode_close(code: int, reason: str) -> bytes:
    """Return a close frame's payload; the reason is cut, between characters, to the 123 bytes that fit."""
    if code == _NO_STATUS:
        return b""
    return code.to_bytes(2, "big") + reason.encode()[:_MAX_REASON].decode(errors="ignore").encode()
