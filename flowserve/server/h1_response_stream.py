# cython: language_level=3, annotation_typing=False, binding=False
"""What one HTTP/1.1 connection sends, and how it closes: the response in progress, errors, flow control (RFC 9112)."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any

from flowserve.asgi.context import Context
from flowserve.errors import HandshakeError, RequestError
from flowserve.http.messages import RequestHead
from flowserve.http.request_parser import RequestParser
from flowserve.http.response_encoder import ResponseEncoder, encode_error, status_line
from flowserve.logs.loggers import logger
from flowserve.transport.interfaces import Peer
from flowserve.transport.stream import TransportStream

PENDING_MARK = 65536
"""Bytes kept unparsed while a request is in progress; above it reading stops."""
_WRITE_MARK = 65536
"""Bytes written without letting others run."""
_WRITE_COST = 1024
"""Bytes that take about as long as a write takes in any case."""
LINGER = 2.0
"""Seconds in which a client may still send after its last response: closing at once would reset the connection, and the
response with it (RFC 9112 section 9.6)."""


class H1ResponseStream:
    """The lower layer of an H1Connection, which is one object in two layers. `peer` is the client, as far as it is
    known."""

    __slots__ = (
        "_closing",
        "_context",
        "_deferred",
        "_encoder",
        "_held",
        "_parser",
        "_pending",
        "_receiving",
        "_request",
        "_stream",
        "_unyielded",
        "deadline",
        "peer",
        "tick",
    )

    _stream: TransportStream
    peer: Peer

    def __init__(self, context: Context, parser: RequestParser) -> None:
        self._context = context
        self._parser = parser
        self._request: RequestHead | None = None  # the last one
        self._encoder: Any = None  # the ResponseEncoder of the request in progress
        self._receiving = False  # the request, or what is left of one whose response is complete
        self._pending = b""  # bytes of the client's that are not parsed yet
        self._deferred = False  # parsing goes on in the next iteration of the event loop
        self._held = False  # the application has enough of the request's body for now
        self._closing = False  # nothing is sent any more, and what comes in is thrown away
        self._unyielded = 0
        self.deadline = 0.0
        self.tick = 0

    def send_continue(self) -> None:
        """Send 100 Continue."""
        if not self._closing:
            self._stream.write(status_line(100) + b"\r\n")

    def start_response(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take status and header fields, which leave with the first part of the body. Raises ASGIMisuse."""
        self._encoder.start(status, headers)

    def send_head(self) -> None:
        """Send status and header fields, as the body keeps being waited for."""
        self._write(self._encoder.head(self._context.default_headers(), None))

    def send_body(self, body: bytes, more: bool) -> bool:
        """Send a part of the body. Returns whether to await `drain()`. Raises ASGIMisuse."""
        encoder: ResponseEncoder = self._encoder
        if encoder.started:
            return self._write(encoder.body(body, more))
        head = encoder.head(self._context.default_headers(), None if more else len(body))
        return self._write(head + encoder.body(body, more))

    def _write(self, data: bytes) -> bool:
        if data and not self._closing:
            self._stream.write(data)
        self._unyielded += len(data) + _WRITE_COST
        if self._unyielded < _WRITE_MARK and not self._stream.write_paused:
            return False
        self._unyielded = 0
        return True

    def drain(self) -> Awaitable[None]:
        """Wait until writing is welcome; when it is, only let others have their turn."""
        timeout = self._context.config.timeout_response
        if self._stream.write_paused and timeout is not None:
            self._stream.progressed()  # what is waited for begins now
            self._set_deadline(timeout)
        return self._stream.drain()

    def pause_reading(self) -> None:
        """Stop the body from coming in."""
        self._held = True
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        """Let it come again."""
        self._held = False
        self._read_on()

    def _read_on(self) -> None:
        if not (self._held or self._deferred) and len(self._pending) <= PENDING_MARK:
            self._stream.resume_reading()

    def is_reset(self) -> bool:
        """Whether the client has reset the connection: nobody is told of it once the client has stopped writing."""
        return self._stream.is_reset()

    def progressed(self) -> bool:
        """Whether some, but not yet all, of what was written has left since this was last asked."""
        return self._stream.progressed()

    def _respond_and_close(self, error: RequestError | HandshakeError) -> None:
        # Without an encoder no response is owed: what can't be understood may follow a HEAD that has its answer.
        head_only = self._parser.in_head_request
        if self._encoder is not None and self._request is not None:
            head_only = self._request.method == "HEAD"
        self._stream.write(encode_error(error, self._context.default_headers(), head_only))
        self._receiving = True  # whatever the client still sends is not looked at
        self._close()

    def _close(self) -> None:
        """Close when all is sent, so that it also arrives."""
        self._closing = True
        self._stream.progressed()  # so that the deadline is told of what is taken from now on
        self._set_deadline(LINGER)
        if self._receiving or self._pending:
            self._pending = b""
            self._stream.resume_reading()
            self._stream.end_writing()
        else:
            self._stream.close()

    def abort(self) -> None:
        """Close now: the client sees that a response in progress is not whole."""
        self._stream.abort()

    def _still_takes(self) -> bool:
        """Whether a slow client still takes its response, or may stand still as long as it likes."""
        endless = self._context.config.timeout_response is None
        return self._stream.progressed() or (endless and self._stream.buffered() > 0)

    def _cut_response(self) -> None:
        self._context.count_refusal("slow_response")
        logger.info("%s takes nothing of its response: it is cut (--timeout-response)", self.peer)

    def _set_deadline(self, seconds: float) -> None:
        deadline = self._context.loop.time() + seconds
        if self.tick and deadline >= self.deadline:
            self.deadline = deadline  # all that Timers would do, on each request's way
        else:
            self._context.timers.set(self, deadline)

    def on_deadline(self, now: float) -> None:
        """The time of `_set_deadline()` has come."""
        raise NotImplementedError
