# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""One live WebSocket, in either role: its queue, its backpressure, its deadlines and its end (RFC 6455).

A session is the protocol of its transport, so that no layer stands between the event loop and the decoder; how bytes
leave it leaves to its Stream.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flowserve.session.keepalive import Due
from flowserve.session.sender import Sender
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import CloseCode, State

if TYPE_CHECKING:
    from flowserve.session.host import SessionContext
    from flowserve.session.monitor import Monitor
    from flowserve.transport.interfaces import Stream

_OPEN = int(State.OPEN)

_ENDS = {
    Due.OLD: (int(CloseCode.GOING_AWAY), "lifetime limit reached"),
    Due.IDLE: (int(CloseCode.GOING_AWAY), "idle timeout"),
    Due.DEAD: (int(CloseCode.INTERNAL_ERROR), "keepalive ping timeout"),
}


class Session(Sender):
    """One live WebSocket over a stream.

    Receiving: `while not session.ready(): await session.wait()`; then, if `session.waiting`, `session.take()` is the
    next message, else it has ended, for the reason in `close_code` and `close_reason`. Cancelling the wait loses
    nothing.

    Sending is described in Sender.

    `monitor`, if set, is told of pings, pongs and the end.
    """

    __slots__ = (
        "_eof",
        "_ping_sent",
        "_pings",
        "deadline",
        "latency",
        "monitor",
        "tick",
    )

    def __init__(self, connection: Connection, stream: Stream, context: SessionContext) -> None:
        """`connection` is the wire state, past the opening handshake; the session starts its timers now."""
        super().__init__(connection, stream, context)
        self.monitor: Monitor | None = None
        self.latency = 0.0  # seconds, of the last ping
        self.deadline = 0.0
        self.tick = 0
        self._eof = False  # the peer has stopped writing
        self._pings = 0
        self._ping_sent = 0.0
        context.live.add(self)
        self._watch(self._loop.time())

    # What it says about itself

    @property
    def close_code(self) -> int:
        """Why it ended: the peer's code, 1005 if it gave none, the code that was sent to it, or 1006 for an abrupt
        end."""
        return self.connection.close_code

    @property
    def close_reason(self) -> str:
        """The reason that went with the code."""
        return self.connection.close_reason

    @property
    def lost(self) -> bool:
        """Whether the transport is gone."""
        return self._lost

    # Receiving

    def ready(self) -> bool:
        """Whether there is a message, or the end. Asking says that the messages before have been dealt with."""
        connection = self.connection
        if connection.waiting:
            return True
        if connection.held and not self.context.timeslice.used_up():
            self.data_received(b"")
            if connection.waiting:
                return True
        if connection.ended:
            self._answer()
            return True
        return (self._lost and not connection.held) or connection.state != _OPEN

    def take_part(self) -> str | bytes:
        """Return what has come of the next message, which is still coming; `take()` will give the rest."""
        part = self.connection.take_part()
        if self._idle_timeout:
            self._keepalive.active_at = self._loop.time()
        if not self._reading and not self.connection.is_full(2):
            self.resume_reading()
        return part

    # The end

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake, or answer the peer's, behind what was sent; nothing if that was done. Whoever
        waits is woken."""
        connection = self.connection
        if connection.state == _OPEN and not self._lost:
            if self._compression is not None and self._compression.busy:
                self._compression.then(partial(self.close, code, reason))
                return
            connection.close(code, reason)
            self._closing()
            self.wake()

    def shutdown(self) -> None:
        """The server stops: tell both sides (RFC 6455 section 7.4.1, and the IANA registry for 1012)."""
        config = self.context.config
        self.close(config.ws_shutdown_code, config.ws_shutdown_reason)

    def abort(self) -> None:
        """End it now, without a closing handshake."""
        self.stream.abort()

    def _answer(self) -> None:
        """The peer's end has come to the front of the line: answer it behind what was sent."""
        if self.connection.state == _OPEN and not self._lost:
            if self._compression is not None and self._compression.busy:
                self._compression.then(self._answer)
                return
            self.connection.answer_end()
            self._closing()

    def _closing(self) -> None:
        """This end's close frame is made: send it, and give the rest of the closing handshake its time."""
        self.flush()
        if not self._reading:  # the peer's close frame may stand behind what nobody will take any more
            self.resume_reading()
        self.stream.progressed()
        self._set_deadline(self._loop.time() + self.context.config.ws_close_timeout)
        if self.connection.in_bad_frame and not self._lost:
            # Where the frame ends, and so the peer's close frame, can't be known (RFC 6455 section 7.1.7).
            self.stream.end_writing()
        elif self._eof and not self.connection.output_size and not self._lost:
            self.stream.close()

    def _expire(self) -> None:
        """Close for slowness, within the close timeout."""
        if self._compression is not None and self._compression.busy:
            self._compression.then(self._expire)
            return
        Sender._expire(self)  # by name: Cython finds no C method through super()
        self.close(self.context.config.ws_slow_consumer_code, "too slow")

    def _expired(self) -> bool:
        return self._limit is not None and self._limit.expired

    def _set_deadline(self, deadline: float) -> None:
        if not self._lost:
            self.context.timers.set(self, deadline)

    # As the protocol of the transport

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        connection = self.connection
        messages = connection.messages_in
        state = connection.state
        held = connection.held
        self._keepalive.active = True
        connection.feed(data)
        if held or connection.held:  # then reading waits for the decoding
            if self._reading:
                self.pause_reading()
            if not connection.is_full(2):
                self.resume_reading()
        if connection.messages_in != messages:
            if self._idle_timeout:
                self._keepalive.active_at = self._loop.time()
            if self._reading and connection.is_full():
                self.pause_reading()
            self.wake()
        elif self.monitor is not None:
            self.monitor._on_data()
        if connection.pong_received is not None:
            self._ponged()
        if connection.ended and state == _OPEN:
            self._ended()
        if connection.wants_buffer():
            self.stream.read_into(connection)
        if connection.output_size or connection.state != state:
            self.flush()

    def on_time_slice(self) -> None:
        """Decode more of what has come, as there is time for it."""
        self._deferred = False
        self.data_received(b"")

    def _ended(self) -> None:
        """The peer's end has come in: answer it now, or when the messages before it have been taken, but not much
        later."""
        if self.connection.waiting:
            self._set_deadline(self._loop.time() + self.context.config.ws_close_timeout)
        else:
            self._answer()
        self.wake()

    def eof_received(self) -> bool:
        """The peer has stopped writing: keep the other direction only to answer what came before the end."""
        self._eof = True
        self.flush()  # else it would be lost, where this end closes now
        return self.connection.ended and self.stream.half_open and self.connection.state == _OPEN

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._lost = True
        self._compression = None
        self.context.live.discard(self)
        self.context.timers.cancel(self)
        self.stream.lost()
        self.wake()
        monitor, self.monitor = self.monitor, None
        if monitor is not None:
            monitor._on_lost(exc)

    def pause_writing(self) -> None:
        """The transport is over its high-water mark."""
        self.stream.pause_writing()

    def resume_writing(self) -> None:
        """The transport is below its low-water mark."""
        self._keepalive.active = True  # a peer that takes what is sent is alive
        self.stream.resume_writing()
        self._write_backlog()

    # The shared timer

    def on_deadline(self, now: float) -> None:
        """Whatever is due: the close timeout, or what the peer owes."""
        if self.connection.state != _OPEN:
            if self.stream.progressed() and not self._expired():  # a slow peer still gets what was sent before
                self._set_deadline(now + self.context.config.ws_close_timeout)
            else:
                self.stream.abort()
        elif self.connection.ended:
            self._answer()
        else:
            self._demand(now)

    def _demand(self, now: float) -> None:
        due = self._keepalive.check(now, self, self._reading)
        if due in _ENDS:
            self.close(*_ENDS[due])
        elif due is Due.STUCK:
            self.close(self.context.config.ws_slow_consumer_code, "send timeout")
            self.stream.abort()  # the close frame stands behind what the peer does not take
        else:
            if due is Due.PING:
                self._ping(now)
            self._watch(now)

    def _watch(self, now: float) -> None:
        """Set the deadline to what is due next."""
        due = self._keepalive.next_check(now)
        if due:
            self._set_deadline(due)

    def _ping(self, now: float) -> None:
        self._pings += 1
        self._ping_sent = self._loop.time()
        self._keepalive.pinged(now, self)
        payload = self._pings.to_bytes(4, "big")
        if self.monitor is not None:
            self.monitor._on_ping(payload)
        self.connection.ping(payload)
        self.flush()

    def _ponged(self) -> None:
        """Pongs: they tell the round-trip time if the last of them answers the last ping."""
        connection = self.connection
        if connection.pong_received == self._pings.to_bytes(4, "big"):
            self.latency = self._loop.time() - self._ping_sent
        if self.monitor is not None:
            for payload in connection.other_pongs or ():
                self.monitor._on_pong(payload)
            self.monitor._on_pong(connection.pong_received)  # type: ignore[arg-type]
        connection.pong_received = connection.other_pongs = None
