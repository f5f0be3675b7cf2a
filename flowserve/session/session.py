# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""One live WebSocket, in either role: its queue, its backpressure, its deadlines and its end (RFC 6455).

Theory of operation. After the opening handshake a session is the protocol of its transport: no layer stands between the
event loop and the decoder. It writes through its Stream. Its states are those of its Connection:

- OPEN: messages pass in both directions.
- OPEN and `connection.ended`: the peer has sent a close frame or broken a rule, and messages that came before are still
  in the queue. `_answer_end()` sends the close frame of this end when `ready()` finds the queue empty, at once if it is
  empty already, or after the close timeout.
- CLOSING: this end has sent its close frame; the peer has the close timeout to send its own, and gets it again while it
  still takes what was sent before. Then the transport is aborted.
- CLOSED: both have. When all is written, a server closes the transport; a client waits for that, with the same timeout.
- Lost, in any of these: `connection_lost()` was called. Messages in the queue, and bytes that are held, can still be
  received; nothing can be sent.

Rules:

- `Timers` has one deadline per session: the next keepalive check while OPEN, the close timeout from the end on.
- Reading is paused while the queue is full, and while bytes are held: those are decoded first, in later iterations of
  the event loop if the time slice is used up.
- A close frame follows all messages that were sent before, those in the compression queue too.
- Whatever may make `ready()` true wakes the tasks in `wait()`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flowserve.session.host import SessionContext
from flowserve.session.keepalive import Due
from flowserve.session.sender import Sender
from flowserve.transport.bases import Stream
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import CloseCode, State

if TYPE_CHECKING:
    from flowserve.session.monitor import Monitor

_OPEN = int(State.OPEN)

_CLOSES = {
    Due.OLD: (int(CloseCode.GOING_AWAY), "lifetime limit reached"),
    Due.IDLE: (int(CloseCode.GOING_AWAY), "idle timeout"),
    Due.DEAD: (int(CloseCode.INTERNAL_ERROR), "keepalive ping timeout"),
}


class Session(Sender):
    """One live WebSocket over a stream.

    Receiving: `while not session.ready(): await session.wait()`; then, if `session.waiting`, `session.take()` returns
    the next message, otherwise the session has ended, for the reason in `close_code` and `close_reason`. Cancelling the
    wait loses nothing.

    Sending is described in Sender.
    """

    __slots__ = (
        "_eof",
        "_ping_sent",
        "_pings",
        "latency",
        "monitor",
    )

    def __init__(self, connection: Connection, stream: Stream, context: SessionContext) -> None:
        """`connection` is the wire state after the opening handshake. The deadlines start now."""
        now = context.loop.time()
        self._begin_sender(connection, stream, context, now)
        self.monitor: Monitor | None = None  # whose methods are called for pings, pongs and the end
        self.latency = 0.0  # round-trip time of the last ping that was answered, in seconds
        self.deadline = 0.0  # see `timers.Timed`
        self.tick = 0
        self._eof = False  # the peer has half-closed
        self._pings = 0  # sent by the keepalive
        self._ping_sent = 0.0  # when the last of them was, in the event loop's time
        context.live.add(self)
        self._schedule_check(now)

    @property
    def close_code(self) -> int:
        """Why it ended: the peer's code, 1005 if it gave none, the code that this end sent, or 1006 if the connection
        was lost without a closing handshake (RFC 6455 section 7.1.5)."""
        return self.connection.close_code

    @property
    def close_reason(self) -> str:
        """The reason in the same close frame as the code."""
        return self.connection.close_reason

    @property
    def lost(self) -> bool:
        """Whether the connection is lost."""
        return self._lost

    # Receiving

    def ready(self) -> bool:
        """Whether a message waits or the session has ended. The caller has processed the messages that it took before:
        the peer's end is answered now if none waits."""
        connection = self.connection
        if connection.waiting:
            return True
        if connection.held and not self.context.timeslice.used_up():
            self.data_received(b"")
            if connection.waiting:
                return True
        if connection.ended:
            self._answer_end()
            return True
        return (self._lost and not connection.held) or connection.state != _OPEN

    def take_part(self) -> str | bytes:
        """Return what has been received of the next message, which is incomplete; `take()` returns the rest later."""
        part = self.connection.take_part()
        if self._idle_timeout:
            self._keepalive.active_at = self._loop.time()
        if not self._reading and not self.connection.is_full(2):
            self.resume_reading()
        return part

    # The end

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake or answer the peer's, after all messages that were sent. Wake all waiters. Does
        nothing if this end has sent a close frame already or the connection is lost."""
        connection = self.connection
        if connection.state == _OPEN and not self._lost:
            if self._compression is not None and self._compression.busy:
                self._compression.then(partial(self.close, code, reason))
                return
            connection.close(code, reason)
            self._begin_closing()
            self.wake()

    def shutdown(self) -> None:
        """Close with --ws-shutdown-code, as the server stops (RFC 6455 section 7.4.1, and the IANA registry for
        1012)."""
        config = self.context.config
        self.close(config.ws_shutdown_code, config.ws_shutdown_reason)

    def abort(self) -> None:
        """Close the connection now, without a closing handshake."""
        self.stream.abort()

    def _answer_end(self) -> None:
        """Answer the peer's end with a close frame, after all messages that were sent."""
        if self.connection.state == _OPEN and not self._lost:
            if self._compression is not None and self._compression.busy:
                self._compression.then(self._answer_end)
                return
            self.connection.answer_end()
            self._begin_closing()

    def _begin_closing(self) -> None:
        """Write the close frame of this end, which is queued, and start the close timeout."""
        self.flush()
        if not self._reading:  # the peer's close frame may follow messages that the application will not take
            self.resume_reading()
        self.stream.progressed()
        self._set_deadline(self._loop.time() + self.context.config.ws_close_timeout)
        if self.connection.in_bad_frame and not self._lost:
            # Where the bad frame ends is unknown, so the peer's close frame can't be found (RFC 6455 section 7.1.7).
            self.stream.end_writing()
        elif self._eof and not self.connection.output_size and not self._lost:
            self.stream.close()

    def _expire(self) -> None:
        """Close the session, whose peer is too slow; the close timeout is not extended then."""
        if self._compression is not None and self._compression.busy:
            self._compression.then(self._expire)
            return
        Sender._expire(self)  # by name: Cython finds no C method through super()
        self.close(self.context.config.ws_slow_consumer_code, "too slow")

    def _is_expired(self) -> bool:
        """Whether the session is being closed because its peer is too slow."""
        return self._limit is not None and self._limit.expired

    def _set_deadline(self, deadline: float) -> None:
        if not self._lost:
            self.context.timers.set(self, deadline)

    # As the transport's asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Decode bytes from the peer, and act on what they contain. b"" continues with bytes that are held."""
        connection = self.connection
        messages = connection.messages_in
        state = connection.state
        held = connection.held
        self._keepalive.active = True
        connection.feed(data)
        if held or connection.held:  # read again only when all that was received is decoded
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
            self._handle_pong()
        if connection.ended and state == _OPEN:
            self._handle_end()
        if connection.wants_buffer():
            self.stream.read_into(connection)
        if connection.output_size or connection.state != state:
            self.flush()

    def on_time_slice(self) -> None:
        """Decode more of the bytes that are held; see `time_slice.Deferrable`."""
        self._deferred = False
        self.data_received(b"")

    def _handle_end(self) -> None:
        """Answer the peer's end, which was just received: now if no message waits, otherwise when the messages have
        been taken, at most the close timeout later."""
        if self.connection.waiting:
            self._set_deadline(self._loop.time() + self.context.config.ws_close_timeout)
        else:
            self._answer_end()
        self.wake()

    def eof_received(self) -> bool:
        """Note that the peer has half-closed. Return whether to keep the connection open for writing: only while its
        end is still to be answered."""
        self._eof = True
        self.flush()  # otherwise the queued output would be lost if the transport closes now
        return self.connection.ended and self.stream.half_open and self.connection.state == _OPEN

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol.connection_lost()`. Messages in the queue can still be taken."""
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
        """See `asyncio.BaseProtocol.pause_writing()`."""
        self.stream.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol.resume_writing()`."""
        self._keepalive.active = True  # a peer that takes output is alive
        self.stream.resume_writing()
        self._write_backlog()

    # Deadlines

    def on_deadline(self, now: float) -> None:
        """Called by Timers: the close timeout is over, or a keepalive check is due."""
        if self.connection.state != _OPEN:
            if self.stream.progressed() and not self._is_expired():  # a slow peer still gets what was sent before
                self._set_deadline(now + self.context.config.ws_close_timeout)
            else:
                self.stream.abort()
        elif self.connection.ended:
            self._answer_end()
        else:
            self._check_keepalive(now)

    def _check_keepalive(self, now: float) -> None:
        due = self._keepalive.check(now, self, self._reading)
        if due in _CLOSES:
            self.close(*_CLOSES[due])
        elif due is Due.STUCK:
            self.close(self.context.config.ws_slow_consumer_code, "send timeout")
            self.stream.abort()  # the close frame is queued behind output that the peer does not take
        else:
            if due is Due.PING:
                self._ping(now)
            self._schedule_check(now)

    def _schedule_check(self, now: float) -> None:
        """Set the deadline to the next keepalive check, if there is one."""
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

    def _handle_pong(self) -> None:
        """Pass the pongs that were received to the monitor. The last one gives the latency if it answers the last
        ping."""
        connection = self.connection
        if connection.pong_received == self._pings.to_bytes(4, "big"):
            self.latency = self._loop.time() - self._ping_sent
        if self.monitor is not None:
            for payload in connection.other_pongs or ():
                self.monitor._on_pong(payload)
            self.monitor._on_pong(connection.pong_received)  # type: ignore[arg-type]
        connection.pong_received = connection.other_pongs = None
