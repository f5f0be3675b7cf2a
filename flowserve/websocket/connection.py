# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""One WebSocket as a state machine over bytes, in either role (RFC 6455 sections 5 to 7, RFC 7692): no socket, no
clock.

Two rules keep it simple. What the peer sends never raises here: it becomes messages, state and frames to send. And
an end, be it the peer's close frame or its error, takes its place in line: it is noted when it arrives and answered
by `answer_end()`, which the owner calls when the messages before it have been taken.
"""

from __future__ import annotations

import codecs
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

from flowserve.errors import InvalidText, PayloadTooBig, ProtocolError
from flowserve.websocket.budget import Budget
from flowserve.websocket.constants import MAX_CONTROL_PAYLOAD, CloseCode, Opcode, State, is_sendable
from flowserve.websocket.deflate import INFLATE_MARK
from flowserve.websocket.frames import FrameDecoder, encode_frame
from flowserve.websocket.mask import Store
from flowserve.websocket.output import Output

if TYPE_CHECKING:
    from flowserve.websocket.deflate import PerMessageDeflate

_CONTINUATION = int(Opcode.CONTINUATION)
_TEXT = int(Opcode.TEXT)
_BINARY = int(Opcode.BINARY)
_CLOSE = int(Opcode.CLOSE)
_PING = int(Opcode.PING)
_PONG = int(Opcode.PONG)
_OPEN = int(State.OPEN)
_CLOSING = int(State.CLOSING)
_CLOSED = int(State.CLOSED)
_NO_STATUS = int(CloseCode.NO_STATUS)
_ABNORMAL = int(CloseCode.ABNORMAL)

_MAX_REASON = 123
_MAX_CONTROL_PAYLOAD = int(MAX_CONTROL_PAYLOAD)
_STORE_MARK = 65536  # bytes that are missing of a frame: from here on its payload gets a store
_LATE_COST = 128  # bytes that a message takes beside its own
_INBOX_MARK = 64  # messages taken: from here on the inbox forgets their places while others wait
_FULL_MARK = 65536  # characters or bytes of messages that wait: above it decoding stops, where `max_waiting` is set
_FRAME_COST = 256  # of the budget
_MESSAGE_COST = 256  # of the budget: whoever takes it has work with it
_INFLATE_COST = 1024  # of the budget, beside what comes out
_INFLATE_MARK = INFLATE_MARK
_LEAST_INFLATED = 4096  # bytes, even where the budget has less left

_unlimited = Budget()


class Connection(Output):
    """The wire side of one WebSocket.

    In: `feed(data)`; then `take()` gives the complete messages, and `ended` says that none will follow, with
    `close_code` and `close_reason` saying why. Out: as in Output, and `close`.

    Where `max_waiting` is set, no more is decoded while more messages than that wait, or more than 64 KiB of them; and
    no more at once than the budget allows that was set by `share()`. `held` says that bytes have come which are not
    decoded for either reason: `feed(b"")` goes on with them.

    `state` is State.OPEN until this end's close frame is made, CLOSING until the peer's has come too, then CLOSED.
    `waiting` and `waiting_size` count the messages that `take()` would give, and their length (characters or bytes).
    `late_room` is how much of what comes after this end's close frame is still given, 0 unless the owner says more:
    the bytes of messages, and _LATE_COST for each. `peer_close` and `sent_close` are the payloads of both ends' close
    frames, None until they have come or gone; `answered` says that this end's was the second. `pong_received` is the
    last pong that came, `other_pongs` those before it, until the owner forgets them.
    """

    __slots__ = (
        "_answer",
        "_budget",
        "_compressed",
        "_decoder",
        "_frames",
        "_inbox",
        "_inflating",
        "_last_piece",
        "_max_frames",
        "_max_size",
        "_opcode",
        "_parts",
        "_size",
        "_store",
        "_tail",
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
        super().__init__(role, deflate)
        self._decoder = FrameDecoder(role, deflate is not None)
        self._max_size = max_size
        self._max_frames = max_frames
        self._inbox: list[Any] | None = None  # no list without messages: idle connections are many
        self._taken = 0  # of the inbox: they are replaced by None
        self._opcode = 0  # of the message being assembled; 0 for none
        self._compressed = False
        self._inflating = False  # a piece of the message is inflated in part
        self._last_piece = False  # and it is the last one
        self._budget = _unlimited
        self.held = False
        self.max_waiting = 0
        self._frames = 0
        self._size = 0
        self._parts: StringIO | BytesIO | None = None
        self._tail = b""  # of a text message: the beginning of a character
        self._store: Store | None = None  # for a message that is one large frame; then there are no parts
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

    def share(self, budget: Budget) -> None:
        """Decode no more at once than `budget` allows, which other connections may share."""
        self._budget = budget

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
        self._budget.end()

    def is_full(self, part: int = 1) -> bool:
        """Whether so much waits to be taken that no more is decoded; `part` is 2 for half of that."""
        return (
            self.max_waiting > 0
            and (self.waiting > self.max_waiting // part or self.waiting_size > _FULL_MARK // part)
            and self.state == _OPEN
            and not self.ended
        )

    def storing(self) -> bool:
        """Whether what comes next belongs to a large payload: it may be put into `room()` instead of being fed."""
        return self._store is not None

    def room(self) -> memoryview:
        """Return where the next bytes from the peer may be put while `storing()`, at most those that are missing of the
        payload. Any view from before is done with."""
        return self._store.room()  # type: ignore[union-attr]

    def land(self, size: int) -> None:
        """The next `size` bytes from the peer are in `room()`; they are looked at when the next ones, or none, are
        fed."""
        if self._store is None:
            raise ValueError("there is no room to land in")
        self._decoder.land(size)

    def take(self) -> str | bytes:
        """Return the oldest complete message. IndexError when `waiting` is 0."""
        inbox, at = self._inbox, self._taken
        if inbox is None:
            raise IndexError("no message is waiting")
        message: str | bytes = inbox[at]
        self.waiting -= 1
        self.waiting_size -= len(message)
        if not self.waiting:
            self._inbox = None
            self._taken = 0
            return message
        inbox[at] = None
        self._taken = at + 1
        if at >= _INBOX_MARK and at >= self.waiting:  # so that moving the others costs little for each
            del inbox[: at + 1]
            self._taken = 0
        return message

    def take_part(self) -> str | bytes:
        """Return what has come of the message that is still coming, and forget it: `take()` will give the rest. Empty
        when nothing has."""
        if self._store is not None:
            self._spill(False)
        if self._parts is None:
            return b""
        part, self._parts = self._parts.getvalue(), None
        return part

    @property
    def part_size(self) -> int:
        """How much `take_part()` would give, in characters or bytes."""
        if self._store is not None:
            return self._store.filled
        return 0 if self._parts is None else self._parts.tell()

    def _run(self) -> None:
        decoder = self._decoder
        budget = self._budget
        while not self.peer_closed:
            if budget.allowance <= 0 or self.is_full():
                self.held = self._inflating or decoder.has_more()
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

    def _end(self, code: int, reason: str, answer: bytes) -> None:
        self.ended = True
        self._inflating = False
        self._parts = self._store = None
        self._tail = b""
        if self.state == _OPEN:
            self.close_code = code
            self.close_reason = reason
            self._answer = answer
        elif self.peer_closed:
            self.state = _CLOSED

    def _whole(self) -> None:
        """The usual case: a message that is one frame, all of it there, not compressed."""
        decoder = self._decoder
        if decoder.opcode == _CONTINUATION:
            raise ProtocolError("continuation frame without a message to continue")
        if decoder.size > self._max_size:
            raise self._too_big()
        if decoder.opcode == _BINARY:
            self._deliver(decoder.payload(), decoder.size)
            return
        try:
            text = decoder.text()
        except UnicodeDecodeError:
            raise _invalid_text() from None
        self._deliver(text, decoder.size)

    def _piece(self) -> None:
        """Part of a message: check it as it arrives, so that a bad one fails before its rest has come."""
        decoder = self._decoder
        if decoder.first:
            self._begin()
        done = decoder.last and decoder.fin
        if self._compressed:
            self._inflate(decoder.payload(), done)
            return
        if self._store is None:
            self._add(decoder.payload(), done)
        else:
            decoder.store(self._store)
            if self._opcode == _TEXT and not self._store.ascii:
                self._spill(done)
            elif done:
                self._complete(self._store.whole())

    def _inflate(self, payload: bytes, done: bool) -> None:
        """Inflate a piece of the message, or the rest of one, as far as the budget allows; `done` says that it is the
        last piece."""
        deflate: PerMessageDeflate = self.deflate  # type: ignore[assignment]
        most = min(max(self._budget.allowance, _LEAST_INFLATED), _INFLATE_MARK)
        limit = self._max_size - self._size
        inflated = deflate.go_on(limit, most) if self._inflating else deflate.inflate(payload, limit, done, most)
        self._budget.allowance -= len(inflated) + _INFLATE_COST
        self._inflating = deflate.unfinished
        self._last_piece = done
        self._add(inflated, done and not self._inflating)

    def _add(self, payload: bytes, done: bool) -> None:
        """Add a piece of the message to its parts; `done` says that it is the last one."""
        self._size += len(payload)
        text = self._opcode == _TEXT
        piece: str | bytes = self._decode(payload, done) if text else payload
        if self._parts is None:
            if done:
                self._complete(piece)
                return
            self._parts = StringIO() if text else BytesIO()
        self._parts.write(piece)  # type: ignore[arg-type]
        if done:
            self._complete(self._parts.getvalue())

    def _complete(self, message: str | bytes) -> None:
        self._parts = self._store = None
        self._opcode = 0
        self._deliver(message, self._size)

    def _spill(self, done: bool) -> None:
        """Go on with parts instead of the store: for text that is not ASCII, or when a part was asked for."""
        content, self._store = self._store.part(), None  # type: ignore[union-attr]
        self._size = 0
        self._add(content, done)

    def _begin(self) -> None:
        """A frame of a message begins: check what its header says before anything is buffered."""
        decoder = self._decoder
        if decoder.opcode == _CONTINUATION:
            if not self._opcode:
                raise ProtocolError("continuation frame without a message to continue")
        else:
            if self._opcode:
                raise ProtocolError("new message before the last one was finished")
            self._opcode = decoder.opcode
            self._size = self._frames = 0
            self._compressed = decoder.rsv1
        self._frames += 1
        if self._frames > self._max_frames:
            raise PayloadTooBig(f"message of more than {self._max_frames} frames")
        if not self._compressed and decoder.size > self._max_size - self._size:
            raise self._too_big()
        if decoder.missing >= _STORE_MARK and decoder.fin and self._frames == 1 and not self._compressed:
            self._size = decoder.size
            self._store = Store(decoder.size, self._opcode == _TEXT, decoder.size - decoder.missing)

    def _decode(self, payload: bytes, final: bool) -> str:
        """The characters that `payload` completes. Fails fast on what no continuation can make UTF-8 (RFC 6455 section
        8.1)."""
        data = self._tail + payload if self._tail else payload
        try:
            text, used = codecs.utf_8_decode(data, "strict", final)
        except UnicodeDecodeError:
            raise _invalid_text() from None
        self._tail = tail = data[used:]
        if tail[:1] == b"\xed" and tail[1:] >= b"\xa0":  # a surrogate, of which Python waits for the last byte
            raise _invalid_text()
        return text

    def _deliver(self, message: str | bytes, size: int) -> None:
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

    def _too_big(self) -> ProtocolError:
        return PayloadTooBig(f"message over the limit of {self._max_size} bytes")

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


def _invalid_text() -> ProtocolError:
    return InvalidText("text is not UTF-8")
