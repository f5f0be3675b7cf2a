# cython: language_level=3, annotation_typing=False, binding=False
"""One HTTP/1.1 connection: keep-alive, pipelining, errors, and handing over to a WebSocket (RFC 9112)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowserve.asgi.context import Context
from flowserve.asgi.http import HTTPCycle
from flowserve.asgi.websocket import WebSocketCycle
from flowserve.errors import LATE_REQUEST, ForeignProtocol, HandshakeError, RequestError
from flowserve.http.messages import RequestHead
from flowserve.http.request_parser import RequestParser
from flowserve.http.response_encoder import ResponseEncoder
from flowserve.logs.loggers import access_http, logger
from flowserve.server.admission import Admission
from flowserve.server.h1_response_stream import PENDING_MARK, H1ResponseStream
from flowserve.server.peers import peer_of
from flowserve.server.tls import PLAIN_HTTP, handshake_failure
from flowserve.server.upgrade import Upgrade
from flowserve.session.session import Session
from flowserve.transport.interfaces import Peer
from flowserve.transport.stream import TransportStream
from flowserve.websocket.deflate import DeflateSettings

LAST_CALL = 0.5
"""Seconds that a connection gets at shutdown, if it was busy that shortly before: a request may be on its way, and
would be lost."""
_LEAST_BODY = 1024
"""Bytes of a body that have to come in --timeout-body, else a client could hold an application for ever."""
_HEALTH = ((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))
_STALL = 30.0
"""Seconds in which a client must take something of a response that waits for it."""


class H1Connection(H1ResponseStream):
    """The protocol of a transport until it closes or becomes a WebSocket; a `stream.ResponseStream` for its requests.

    One request is in progress at a time (`_cycle`); what comes behind it is kept unparsed in `_pending`, and so is what
    there was no time for in this turn of the event loop (`_deferred`).
    """

    __slots__ = (
        "_admission",
        "_body_bytes",
        "_cycle",
        "_deflate",
        "_eof",
        "_proxy",
        "_upgrade",
        "switching",
    )

    def __init__(self, context: Context, admission: Admission, deflate: DeflateSettings | None) -> None:
        """`deflate` is what permessage-deflate is to be like, None to do without it."""
        config = context.config
        super().__init__(context, RequestParser(self, config.h1_max_header_size, config.h1_max_header_count))
        self._admission = admission
        self._deflate = deflate
        self._cycle: HTTPCycle | WebSocketCycle | None = None
        self._proxy: Peer | None = None  # the peer, if it is to be believed what it says of its clients
        self._upgrade: Any = None  # of a request for a WebSocket: an Upgrade
        self._eof = False  # the client has stopped writing
        self._body_bytes = 0  # since --timeout-body was last looked at
        self.switching = b""  # the head of the 101, once it is sent

    # As the protocol of the transport

    def connection_made(self, transport: Any) -> None:
        self._admission.receive(self, transport, peer_of(transport))

    def begin(self, stream: TransportStream, peer: Peer, trusted: bool) -> None:
        """Serve what comes over `stream`, the transport's. A `trusted` peer is a proxy whose header fields are true."""
        context = self._context
        self._stream = stream
        self.peer = peer
        if trusted:
            self._proxy = peer
        context.live.add(self)
        if context.metrics is not None:
            context.metrics.connections += 1
        self._set_deadline(LAST_CALL if context.shutting_down else context.config.timeout_header)
        if peer.secure and (failure := handshake_failure(stream.transport)) is not None:
            self._end_handshake(failure)

    def _end_handshake(self, failure: str) -> None:
        if failure == PLAIN_HTTP:
            self._context.count_refusal("plain_http")
            self._reject(RequestError(400, failure))
        else:
            logger.debug("%s: TLS handshake failed: %s", self.peer, failure)
            self._context.count_refusal("tls_handshake")
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._deferred and (self._receiving or self._is_free()):
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
        self._forget()
        self._stream.lost()
        cycle, self._cycle = self._cycle, None
        if cycle is not None:
            cycle.disconnected()

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()
        if self._cycle is None:
            self._go_on()

    # Requests

    def _parse(self, data: bytes) -> None:
        idle = self._cycle is None and not self._parser.started
        try:
            while True:
                data = self._parser.feed(data)
                if not data or self._closing or not (self._receiving or self._is_free()):
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
        """Go on with what there was no time for."""
        self._deferred = False
        if self._receiving and not self._closing:
            self._parse_pending()
            self._read_on()
        else:
            self._go_on()

    def _is_free(self) -> bool:
        """Whether a request can be taken up: none is in progress, and the client reads its responses."""
        return self._cycle is None and not self._stream.write_paused

    def on_request(self, request: RequestHead) -> None:
        """A request's head has come."""
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
        upgrade = None
        try:
            self.peer = admission.admit(request, self.peer, self._proxy is not None)
            if request.is_websocket():
                upgrade = admission.upgrade(request)
        except (RequestError, HandshakeError) as error:
            self._turn_away(request, error)
            return
        if upgrade is not None:
            self._upgrade = upgrade
            websocket = self._cycle = WebSocketCycle(request, self, context)
            websocket.run(upgrade.subprotocols)
        else:
            if request.has_body:
                self._await_body()
            cycle = self._cycle = HTTPCycle(request, self, context)
            cycle.run()

    def on_body(self, data: bytes) -> None:
        """Some of the request's body has come; nobody wants it when the response is already complete."""
        self._body_bytes += len(data)
        cycle = self._http_cycle()
        if cycle is not None:
            cycle.body_received(data)

    def on_end(self) -> None:
        """The request is complete."""
        self._receiving = False
        cycle = self._http_cycle()
        if cycle is not None:
            cycle.body_complete()
            if self._eof:
                cycle.half_closed()

    def _http_cycle(self) -> HTTPCycle | None:
        """The cycle in progress, if it is one of HTTP."""
        return self._cycle if isinstance(self._cycle, HTTPCycle) else None

    def _answer_health_check(self, request: RequestHead) -> None:
        draining = self._context.draining.is_set()
        self.start_response(503 if draining else 200, _HEALTH)
        self.send_body(b"draining" if draining else b"ok", False)
        self._receiving = request.has_body
        self.finished()

    def _turn_away(self, request: RequestHead, error: RequestError | HandshakeError) -> None:
        """Reject a well-formed request, with a line in the access log."""
        context = self._context
        if context.metrics is not None:
            context.metrics.request(request.method, error.status, 0.0)
        if context.access_log:
            target = context.target_for_log(request.target)
            access_http(str(self.peer), request.method, target, request.http_version, error.status, 0.0)
        self._reject(error)

    def _reject(self, error: RequestError | HandshakeError) -> None:
        """Answer a request that goes no further; whoever was told of it is told that the client has left."""
        cycle, self._cycle = self._cycle, None
        if cycle is not None:
            cycle.disconnected()
        logger.debug("%s refused: %s", self.peer, error)
        if self._encoder is not None and self._encoder.started:
            self._stream.abort()
        else:
            self._respond_and_close(error)

    # As the stream of a request

    def send_error(self, status: int, detail: str) -> None:
        """Send a whole plain-text response, and close."""
        self._cycle = None
        if not self._closing:
            self._respond_and_close(RequestError(status, detail))

    def finished(self) -> None:
        """The response is complete: go on with the next request, or close."""
        self._cycle = None
        if self._closing:
            return
        if not self._encoder.keep_alive:
            self._close()
            return
        self._encoder = None
        if self._proxy is not None:
            self.peer = self._proxy
        self._set_deadline(self._context.timeout_keep_alive)
        if not self._stream.half_open:  # TLS: much of the response may be in the kernel still
            self._stream.progressed()
        self._go_on()

    def _go_on(self) -> None:
        """Take up what was kept, unless the client does not read its responses."""
        if self._stream.write_paused or self._closing or self._deferred:
            return
        self._parse_pending()
        self.resume_reading()
        if self._eof and self._cycle is None and not self._closing:
            self._close()

    def _parse_pending(self) -> None:
        data, self._pending = self._pending, b""
        if data:
            self._context.variables.copy().run(self._parse, data)  # here may run the application that has just finished

    def agree(self, subprotocol: str) -> str | None:
        """Return what to answer where the application chooses `subprotocol`; see Upgrade."""
        upgrade: Upgrade = self._upgrade
        return upgrade.agree(subprotocol, self._context, self.peer)

    def accept(self, subprotocol: str | None, headers: Sequence[tuple[bytes, bytes]]) -> Session:
        """Complete the opening handshake; what the client sent behind it is in the session. `subprotocol` is one that
        it offers. Raises ASGIMisuse."""
        upgrade: Upgrade = self._upgrade
        context = self._context
        defaults = context.default_headers()
        self.switching, session = upgrade.answer(subprotocol, headers, self._deflate, self._stream, context, defaults)
        self._cycle = None
        self._forget()
        transport: Any = self._stream.transport  # to which a session is a protocol, though it has no such base
        transport.set_protocol(session)
        session.begin(self.switching)
        self._stream.resume_reading()
        if self._pending:
            session.data_received(self._pending)
        if self._eof and not session.eof_received():
            self._stream.close()
        return session

    # Deadlines and the end

    def on_deadline(self, now: float) -> None:
        """A head is too slow, an idle connection too long idle, or a closing one too long in closing."""
        if self._cycle is not None:
            self._look_for_progress()  # the application's time has no end
        elif self._still_takes():
            self._set_deadline(self._context.config.timeout_response or _STALL)
        elif self._closing:
            if self._stream.buffered():
                self._cut_response()
            self._stream.abort()
        elif self._parser.started and not self._receiving:
            self._context.count_refusal("slow_request")
            self._reject(RequestError(*LATE_REQUEST))
        else:
            self._close()

    def _await_body(self) -> None:
        """Give the client its time for a further part of the body."""
        timeout = self._context.config.timeout_body
        self._body_bytes = 0
        if timeout is not None:
            self._set_deadline(timeout)

    def _look_for_progress(self) -> None:
        """End a request whose client neither sends the body that is waited for nor takes the response."""
        config = self._context.config
        if self._stream.write_paused and config.timeout_response is not None:
            if self._stream.progressed():
                self._set_deadline(config.timeout_response)
            else:
                self._cut_response()
                self._stream.abort()
        elif self._receiving and config.timeout_body is not None:
            cycle = self._http_cycle()
            if self._body_bytes >= _LEAST_BODY or cycle is None or not cycle.awaits_body():
                self._await_body()
            else:
                self._context.count_refusal("slow_request")
                logger.info("%s sends the body of its request too slowly: it ends (--timeout-body)", self.peer)
                self._reject(RequestError(408, "The request body took too long"))

    @property
    def opening(self) -> bool:
        """Whether a WebSocket's opening handshake waits for the application."""
        return isinstance(self._cycle, WebSocketCycle)

    def shutdown(self) -> None:
        """Close: at once if idle for some time, else after the response in progress, or after the request that may be
        on its way."""
        encoder = self._encoder
        if encoder is not None and not encoder.started:  # else it has promised to keep the connection alive
            encoder.keep_alive = False
        if isinstance(self._cycle, WebSocketCycle):
            self._cycle.shutdown()
        elif self._cycle is None and not self._closing:
            config = self._context.config
            timeout = config.timeout_header if self._request is None else config.timeout_keep_alive
            quiet_since, now = self.deadline - timeout, self._context.loop.time()
            # one that came in the moment of the end has LAST_CALL for its time already
            if self._parser.started or now - quiet_since < LAST_CALL or self.deadline - now <= LAST_CALL:
                self._set_deadline(LAST_CALL)
            else:
                self._close()

    def _forget(self) -> None:
        self._parser.close()
        self._context.timers.cancel(self)
        self._context.live.discard(self)
