# cython: language_level=3, annotation_typing=False, binding=False
"""One HTTP/1.1 connection: keep-alive, pipelining, errors, and the handover to a WebSocket (RFC 9112).

Theory of operation. A connection is one object in two layers, by inheritance, of which H1ResponseStream is the sending
side. It is the protocol of its transport, the handler of its parser and the stream of its cycle. Its states:

- Idle (`_cycle` is None): between requests, until --timeout-keep-alive, for the first one --timeout-header. The body of
  a request whose response is complete may still be arriving (`_receiving`); it is dropped.
- In a head (`_parser.started`): until --timeout-header, which is answered with 408.
- In progress (`_cycle` is an HTTPCycle): until its response is complete. `_receiving` while its body arrives, for which
  --timeout-body holds if the application waits for it; --timeout-response holds while `drain()` waits.
- Opening handshake (`_cycle` is a WebSocketCycle): the application accepts, and the session becomes the protocol of the
  transport; or denies, with a response as for any request; or the request is refused, and the connection closes.
- Closing (`_closing`): nothing more is written, and received data is dropped, until the client closes. Otherwise the
  transport is aborted after LINGER seconds, later if the client still takes what was written before.

Rules:

- One request is in progress at a time. Bytes behind it wait in `_pending`, unparsed; above PENDING_MARK reading stops.
- A request begins only while the stream is below its high-water mark: a client that does not read its responses gets no
  further ones.
- Parsing stops when the time slice of this event loop iteration is used up, and continues in a later one (`_deferred`).
- A request that is refused gets its response here; the application does not see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from flowserve.asgi.context import Context
from flowserve.asgi.http import HTTPCycle
from flowserve.asgi.websocket import WebSocketCycle
from flowserve.errors import LATE_REQUEST, ForeignProtocol, HandshakeError, RequestError
from flowserve.http.messages import RequestHead
from flowserve.http.request_parser import RequestParser
from flowserve.http.response_encoder import ResponseEncoder
from flowserve.logs.loggers import logger
from flowserve.server.admission import Admission
from flowserve.server.h1_response_stream import PENDING_MARK, H1ResponseStream
from flowserve.server.peers import peer_of
from flowserve.server.tls import PLAIN_HTTP, handshake_failure
from flowserve.server.upgrade import Upgrade
from flowserve.session.session import Session
from flowserve.transport.interfaces import Peer
from flowserve.transport.stream import TransportStream
from flowserve.websocket.deflate import DeflateSettings

if TYPE_CHECKING:
    from asyncio import BaseTransport

SHUTDOWN_GRACE = 0.5
"""Seconds that an idle connection stays open at shutdown if it was used within as many seconds before: the client may
have sent a request, which would be lost."""
_MIN_BODY_PROGRESS = 1024
"""Bytes of a body that must arrive per --timeout-body; a client could block an application forever otherwise."""
_HEALTH_FIELDS = ((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))


class H1Connection(H1ResponseStream):
    """The protocol of a transport until it closes or becomes a WebSocket, and the stream of its requests: an
    `UpgradeStream`, where its methods are described."""

    __slots__ = ("_admission", "_body_size", "_cycle", "_deflate", "_eof", "_proxy", "_upgrade")

    def __init__(self, context: Context, admission: Admission, deflate: DeflateSettings | None) -> None:
        """`deflate` has the settings of permessage-deflate, None to disable it."""
        config = context.config
        self._begin_stream(context, RequestParser(self, config.h1_max_header_size, config.h1_max_header_count))
        self._admission = admission
        self._deflate = deflate
        self._cycle: HTTPCycle | WebSocketCycle | None = None  # of the request in progress
        self._proxy: Peer | None = None  # the peer, if it is a trusted proxy
        self._upgrade: Upgrade | None = None  # the opening handshake, if a WebSocket was requested
        self._eof = False  # the client has half-closed
        self._body_size = 0  # bytes of the body of the request in progress, for --limit-request-body
        self.switching = b""  # the head of the 101, once it is sent

    # As the transport's asyncio.Protocol

    def connection_made(self, transport: BaseTransport) -> None:
        self._admission.begin_connection(self, transport, peer_of(transport))

    def begin(self, stream: TransportStream, peer: Peer, trusted: bool) -> None:
        """See `admission.Admitted`."""
        context = self._context
        self._stream = stream
        self.peer = peer
        if trusted:
            self._proxy = peer
        context.live.add(self)
        if context.metrics is not None:
            context.metrics.connections += 1
        self._set_deadline(SHUTDOWN_GRACE if context.shutting_down else context.config.timeout_header)
        if peer.secure and (failure := handshake_failure(stream.transport)) is not None:
            self._refuse_tls(failure)

    def _refuse_tls(self, failure: str) -> None:
        if failure == PLAIN_HTTP:
            self._context.count_refusal("plain_http")
            self._reject(RequestError(400, failure))
            self._stream.close()  # nothing that comes can be read
        else:
            logger.debug("%s: TLS handshake failed: %s", self.peer, failure)
            self._context.count_refusal("tls_handshake")
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._body_bytes += len(data)  # see _lingers()
            return
        if not self._deferred and (self._receiving or self._can_begin_request()):
            self._parse(data)
        else:
            self._pending += data
            if len(self._pending) > PENDING_MARK:
                self._stream.pause_reading()

    def eof_received(self) -> bool:
        in_progress = isinstance(self._cycle, HTTPCycle) or bool(self._pending)
        if self._closing or self._receiving or not in_progress or not self._stream.half_open:
            return False
        self._eof = True
        if isinstance(self._cycle, HTTPCycle):
            self._cycle.half_closed()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._detach()
        self._stream.lost()
        cycle, self._cycle = self._cycle, None
        if cycle is not None:
            cycle.disconnected()

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()
        if self._cycle is None:
            self._parse_next()

    # Requests

    def _parse(self, data: bytes) -> None:
        idle = self._cycle is None and not self._parser.started
        try:
            while True:
                data = self._parser.feed(data)
                if not data or self._closing or not (self._receiving or self._can_begin_request()):
                    break
                if self._context.timeslice.used_up():
                    self._defer()
                    break
        except RequestError as error:
            self._context.count_refusal("bad_request")
            if isinstance(error, ForeignProtocol):
                self._context.warn_once(error.hint, "%s %s (told once)", self.peer, error.hint)
            self._reject(error)
        if self._closing:
            return
        self._pending = data
        if idle and self._parser.started:
            self._set_deadline(self._context.config.timeout_header)

    def _defer(self) -> None:
        self._deferred = True
        self._stream.pause_reading()
        self._context.timeslice.defer(self)

    def on_time_slice(self) -> None:
        """Continue parsing; see `time_slice.Deferrable`."""
        self._deferred = False
        if self._receiving and not self._closing:
            self._parse_pending()
            self._resume_if_allowed()
        else:
            self._parse_next()

    def _can_begin_request(self) -> bool:
        """Whether a request can begin: none is in progress, and the stream is below its high-water mark."""
        return self._cycle is None and not self._stream.write_paused

    def on_request(self, request: RequestHead) -> None:
        """See `request_parser.RequestHandler`: refuse the request, or have a cycle call the application for it."""
        context = self._context
        fresh = self._request is None
        self._request = request
        self._encoder = ResponseEncoder(request)
        self._receiving = True
        if context.shutting_down:
            self._encoder.keep_alive = False
            if request.is_websocket() and not (fresh and context.late_websockets):
                context.count_refusal("shutting_down")
                self._reject(RequestError(503, "The server is shutting down"))
                return
        admission = self._admission
        if admission.is_health_check(request):
            self._answer_health_check(request)
            return
        try:
            self.peer = admission.admit(request, self.peer, self._proxy is not None)
            self._upgrade = admission.upgrade(request) if request.is_websocket() else None
        except (RequestError, HandshakeError) as error:
            self._refuse(request, error)
            return
        if self._upgrade is not None:
            websocket = self._cycle = WebSocketCycle(request, self, context)
            self._set_deadline(context.config.timeout_handshake)
            websocket.run(self._upgrade.subprotocols)
        else:
            if request.has_body:
                self._body_size = 0
                self._start_body_timeout()
            cycle = self._cycle = HTTPCycle(request, self, context)
            cycle.run()

    def on_body(self, data: bytes) -> None:
        """Pass a part of the body to the cycle. It is dropped if the response is complete already."""
        self._body_bytes += len(data)
        self._body_size += len(data)
        cycle = self._http_cycle()
        if cycle is not None and not self._admission.allows_body(self._body_size):
            self._reject(self._admission.body_refusal())
        elif cycle is not None:
            cycle.body_received(data)

    def on_end(self) -> None:
        """Note that the request is complete."""
        self._receiving = False
        cycle = self._http_cycle()
        if cycle is not None:
            cycle.body_complete()
            if self._eof:
                cycle.half_closed()

    def _http_cycle(self) -> HTTPCycle | None:
        """Return the cycle in progress if it is an HTTPCycle."""
        return self._cycle if isinstance(self._cycle, HTTPCycle) else None

    def _answer_health_check(self, request: RequestHead) -> None:
        draining = self._context.lame_duck or self._context.draining.is_set()
        self.start_response(503 if draining else 200, _HEALTH_FIELDS)
        self.send_body(b"draining" if draining else b"ok", False)
        self._receiving = request.has_body
        self.finished()

    def _refuse(self, request: RequestHead, error: RequestError | HandshakeError) -> None:
        """Reject a well-formed request, which appears in the access log and in the metrics."""
        self._context.response_ended(request, self.peer, error.status, perf_counter(), len(error.detail.encode()))
        self._reject(error)

    def _reject(self, error: RequestError | HandshakeError) -> None:
        """Answer with `error` and close, or abort if a response has begun. A cycle in progress is disconnected."""
        http, cycle, self._cycle = self._http_cycle(), self._cycle, None
        if http is not None:
            http.refused(error.status, len(error.detail.encode()))
        elif cycle is not None:
            cycle.disconnected()
        logger.debug("%s refused: %s", self.peer, error)
        if self._encoder is not None and self._encoder.started:
            self._stream.abort()
        else:
            self._respond_and_close(error)

    # As the stream of a cycle

    def send_error(self, status: int, detail: str) -> None:
        self._cycle = None
        if not self._closing:
            self._respond_and_close(RequestError(status, detail))

    def finished(self) -> None:
        """Parse the next request, or close."""
        self._cycle = None
        if self._closing:
            return
        if not self._encoder.keep_alive:  # type: ignore[union-attr]
            self._close()
            return
        self._encoder = None
        if self._proxy is not None:
            self.peer = self._proxy
        self._set_deadline(self._context.timeout_keep_alive)
        if not self._stream.half_open:  # TLS: much of the response may still be unsent below it, see progressed()
            self._stream.progressed()
        self._parse_next()

    def _parse_next(self) -> None:
        """Parse pending bytes and resume reading, if a request can begin."""
        if self._stream.write_paused or self._closing or self._deferred:
            return
        self._parse_pending()
        self.resume_reading()
        if self._eof and self._cycle is None and not self._closing:
            self._close()

    def _parse_pending(self) -> None:
        data, self._pending = self._pending, b""
        if data:
            self._context.variables.copy().run(self._parse, data)  # as the last response's application may call this

    def agree(self, subprotocol: str) -> str | None:
        upgrade: Upgrade = self._upgrade  # type: ignore[assignment]
        return upgrade.agree(subprotocol, self._context, self.peer)

    def accept(self, subprotocol: str | None, headers: Sequence[tuple[bytes, bytes]]) -> Session:
        """See `UpgradeStream.accept()`. The session gets what the client has sent behind its request."""
        upgrade: Upgrade = self._upgrade  # type: ignore[assignment]
        context = self._context
        defaults = context.default_headers()
        self.switching, session = upgrade.answer(subprotocol, headers, self._deflate, self._stream, context, defaults)
        self._cycle = None
        self._detach()
        self._stream.transport.set_protocol(session)  # type: ignore[arg-type]  # it does not derive from BaseProtocol
        session.begin(self.switching)
        self._stream.resume_reading()
        if self._pending:
            session.data_received(self._pending)
        if self._eof and not session.eof_received():
            self._stream.close()
        return session

    # Deadlines and shutdown

    def on_deadline(self, now: float) -> None:
        """Check a request in progress, or end what took too long: a head, being idle, or closing."""
        if self._cycle is not None:
            self._check_progress()  # the application's own time for a response is not limited
        elif self._is_taking_response():
            self._await_taking()
        elif self._closing:
            if not self._lingers(now):
                self._abort_closing()
        elif self._parser.started and not self._receiving:
            self._context.count_refusal("slow_request")
            self._reject(RequestError(*LATE_REQUEST))
        else:
            unsent = self._stream.unsent() > 0  # of the last response; over TLS it may have left this layer at once
            self._close()
            if unsent:
                self._await_taking()

    def _start_body_timeout(self) -> None:
        """Start --timeout-body for the next part of the body."""
        timeout = self._context.config.timeout_body
        self._body_bytes = 0
        if timeout is not None:
            self._set_deadline(timeout)

    def _check_progress(self) -> None:
        """End a request whose client does not take the response or send the body, or a handshake whose time is over."""
        config = self._context.config
        if self._stream.write_paused and config.timeout_response is not None:
            if self._stream.progressed():
                self._set_deadline(config.timeout_response)
            else:
                self._report_slow_response()
                self._stream.abort()
        elif isinstance(self._cycle, WebSocketCycle):
            self._cycle.timed_out()
        elif self._receiving and config.timeout_body is not None:
            cycle = self._http_cycle()
            if self._body_bytes >= _MIN_BODY_PROGRESS or cycle is None or not cycle.awaits_body():
                self._start_body_timeout()
            else:
                self._context.count_refusal("slow_request")
                logger.info("%s sends the body of its request too slowly: it ends (--timeout-body)", self.peer)
                self._reject(RequestError(408, "The request body took too long"))

    @property
    def opening(self) -> bool:
        """Whether an opening handshake is in progress."""
        return isinstance(self._cycle, WebSocketCycle)

    def shutdown(self) -> None:
        """Close: after the response in progress; in SHUTDOWN_GRACE seconds if a head is incomplete, or the connection
        has been idle for less than that; otherwise now. An opening handshake is refused."""
        encoder = self._encoder
        if encoder is not None and not encoder.started:  # otherwise its head, which is sent, has kept the connection
            encoder.keep_alive = False
        if isinstance(self._cycle, WebSocketCycle):
            self._cycle.shutdown()
        elif self._cycle is None and not self._closing:
            config = self._context.config
            timeout = config.timeout_header if self._request is None else config.timeout_keep_alive
            quiet_since, now = self.deadline - timeout, self._context.loop.time()
            # the deadline of a connection that began during the shutdown is SHUTDOWN_GRACE already, see begin()
            if self._parser.started or now - quiet_since < SHUTDOWN_GRACE or self.deadline - now <= SHUTDOWN_GRACE:
                self._set_deadline(SHUTDOWN_GRACE)
            else:
                self._close()

    def _detach(self) -> None:
        """Stop being a live connection, and break reference cycles: it is lost, or a session's."""
        self._parser.close()
        self._context.timers.cancel(self)
        self._context.live.discard(self)
