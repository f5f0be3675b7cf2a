# cython: language_level=3, annotation_typing=False, binding=False
"""The sending side of an HTTP/1.1 connection: the response in progress, errors, flow control, closing (RFC 9112).

The lower layer of the H1Connection object, see h1_connection.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from flowserve.asgi.context import Context
from flowserve.asgi.websocket import UpgradeStream
from flowserve.errors import HandshakeError, RequestError
from flowserve.http.messages import RequestHead
from flowserve.http.request_parser import RequestParser
from flowserve.http.response_encoder import ResponseEncoder, encode_error, status_line
from flowserve.logs.loggers import logger
from flowserve.transport.stream import TransportStream

PENDING_MARK = 65536
"""Bytes behind a request in progress, which are not parsed yet, above which reading stops."""
_WRITE_MARK = 65536
"""Bytes that are written without yielding to the event loop, at most."""
_WRITE_COST = 1024
"""Bytes that cost about as much as the fixed part of a write."""
LINGER = 2.0
"""Seconds after the last response of a connection until it is closed if the client sends nothing. Closing while it
sends would reset the connection, and the client could lose the response (RFC 9112 section 9.6)."""
MAX_LINGER = 30.0
"""Most seconds that a connection lingers for a client that goes on sending: some read the response only when they have
sent all of their request."""
_RESPONSE_CHECK_INTERVAL = 30.0
"""Seconds between checks of a client that takes its response slowly, without --timeout-response."""
_MAX_DROPPED = 64 << 20
"""Bytes that such a client may send meanwhile before it gets no further LINGER seconds."""


class H1ResponseStream(UpgradeStream):
    """An UpgradeStream, except for `finished()`, `send_error()`, `agree()` and `accept()`. Its methods are described
    there."""

    __slots__ = (
        "_body_bytes",
        "_body_paused",
        "_closing",
        "_context",
        "_deferred",
        "_encoder",
        "_linger_end",
        "_linger_left",
        "_parser",
        "_pending",
        "_receiving",
        "_request",
        "_stream",
        "_unyielded",
    )

    _stream: TransportStream
    """Set by `H1Connection.begin()`."""

    def _begin_stream(self, context: Context, parser: RequestParser) -> None:
        """As __init__() of a base class, which compiled code calls slowly."""
        self._context = context
        self._parser = parser
        self._request: RequestHead | None = None  # the last one
        self._encoder: ResponseEncoder | None = None  # of the request in progress
        self._receiving = False  # a request is incomplete, perhaps one whose response is complete
        self._pending = b""  # received bytes that are not parsed yet
        self._deferred = False  # parsing continues in a later event loop iteration, see TimeSlice
        self._body_paused = False  # the cycle has paused the request body
        self._body_bytes = 0  # received since --timeout-body, or LINGER, was last checked
        self._closing = False  # nothing more is written, and received data is dropped
        self._linger_end = 0.0  # the event loop's time at which MAX_LINGER is over
        self._linger_left = 0  # what is left of _MAX_DROPPED
        self._unyielded = 0  # bytes written since the caller was last asked to drain(), which yields
        self.deadline = 0.0  # see `timers.Timed`
        self.tick = 0

    def send_continue(self) -> None:
        if not self._closing:
            self._stream.write(status_line(100) + b"\r\n")

    def start_response(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._encoder.start(status, headers)  # type: ignore[union-attr]

    def send_head(self) -> None:
        self._write(self._encoder.head(self._context.default_headers(), None))  # type: ignore[union-attr]

    def send_body(self, body: bytes, more: bool) -> bool:
        encoder: ResponseEncoder = self._encoder  # type: ignore[assignment]
        if encoder.started:
            return self._write(encoder.body(body, more))
        head = encoder.head(self._context.default_headers(), None if more else len(body))
        return self._write(head + encoder.body(body, more))

    def _write(self, data: bytes) -> bool:
        """Write a part of the response. Return whether the caller should drain()."""
        if data and not self._closing:
            self._stream.write(data)
        self._unyielded += len(data) + _WRITE_COST
        if self._unyielded < _WRITE_MARK and not self._stream.write_paused:
            return False
        self._unyielded = 0
        return True

    def drain(self) -> Awaitable[None]:
        """Wait while the stream is over its high-water mark, at most --timeout-response without progress; otherwise
        yield to the event loop once."""
        timeout = self._context.config.timeout_response
        if self._stream.write_paused and timeout is not None:
            self._stream.progressed()  # so that the check at the deadline counts from now on
            self._set_deadline(timeout)
        return self._stream.drain()

    def pause_reading(self) -> None:
        self._body_paused = True
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        self._body_paused = False
        self._resume_if_allowed()

    def _resume_if_allowed(self) -> None:
        """Resume reading, unless the body is paused, parsing is deferred or too much is unparsed."""
        if not (self._body_paused or self._deferred) and len(self._pending) <= PENDING_MARK:
            self._stream.resume_reading()

    def is_reset(self) -> bool:
        return self._stream.is_reset()

    def progressed(self) -> bool:
        return self._stream.progressed()

    def _respond_and_close(self, error: RequestError | HandshakeError) -> None:
        """Send the response for `error` and close."""
        # Without an encoder the error is in what follows `_request`, whose response is complete.
        head_only = self._parser.in_head_request
        if self._encoder is not None and self._request is not None:
            head_only = self._request.method == "HEAD"
        self._stream.write(encode_error(error, self._context.default_headers(), head_only))
        self._receiving = True  # the client may still be sending
        self._close()

    def _close(self) -> None:
        """Close after sending everything written. If the client may still be sending, half-close, which is impossible
        over TLS, and read on: see `_lingers()`."""
        self._closing = True
        self._stream.progressed()  # so that the check at the deadline counts from now on
        self._set_deadline(LINGER)
        if self._receiving or self._pending:
            self._pending = b""
            self._body_bytes = 0
            self._linger_left = _MAX_DROPPED
            self._linger_end = self._context.loop.time() + MAX_LINGER
            self._stream.resume_reading()
            if self._stream.half_open:
                self._stream.end_writing()
        else:
            self._stream.close()

    def _lingers(self, now: float) -> bool:
        """Whether a connection that is closing goes on for another LINGER seconds: the client has sent something in the
        last ones, or it has not been told over TLS that this end closes."""
        sent, self._body_bytes = self._body_bytes, 0
        self._linger_left -= sent
        if sent and self._linger_left > 0 and now < self._linger_end and not self._context.shutting_down:
            self._set_deadline(LINGER)
            return True
        if self._stream.half_open or self._stream.transport.is_closing():
            return False
        self._set_deadline(LINGER)
        self._stream.close()
        return True

    def abort(self) -> None:
        self._stream.abort()

    def _is_taking_response(self) -> bool:
        """Whether a slow client still takes its response, or need not, without --timeout-response."""
        endless = self._context.config.timeout_response is None
        return self._stream.progressed() or (endless and self._stream.buffered() > 0)

    def _await_taking(self) -> None:
        """Give the client the time of --timeout-response to take some of what was written."""
        self._set_deadline(self._context.config.timeout_response or _RESPONSE_CHECK_INTERVAL)

    def _abort_closing(self) -> None:
        """Abort a connection whose time for closing is over."""
        if self._stream.buffered() or (not self._stream.half_open and self._stream.unsent()):
            self._report_slow_response()
        self._stream.abort()

    def _report_slow_response(self) -> None:
        """Count and log that the client takes nothing of its response, whose connection is aborted now."""
        self._context.count_refusal("slow_response")
        logger.info("%s takes nothing of its response: it is cut (--timeout-response)", self.peer)

    def _set_deadline(self, seconds: float) -> None:
        deadline = self._context.loop.time() + seconds
        if self.tick and deadline >= self.deadline:
            self.deadline = deadline  # what Timers.set() would do, without the call, as this is done for each request
        else:
            self._context.timers.set(self, deadline)

    def on_deadline(self, now: float) -> None:
        """Called by Timers when the time of `_set_deadline()` is over."""
        raise NotImplementedError
