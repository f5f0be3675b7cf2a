# cython: language_level=3, annotation_typing=False, binding=False
"""One HTTP/1.1 connection: keep-alive, pipelining, errors, and handing over to a WebSocket (RFC 9112)."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

from flowserve.asgi.context import Context
from flowserve.asgi.http import HTTPCycle
from flowserve.asgi.websocket import WebSocketCycle
from flowserve.errors import LATE_REQUEST, ForeignProtocol, HandshakeError, RequestError
from flowserve.http.messages import RequestHead
from flowserve.http.request_parser import RequestParser
from flowserve.http.response_encoder import ResponseEncoder, encode_error, status_line
from flowserve.logs.loggers import access_http, logger
from flowserve.server.peers import peer_of
from flowserve.server.tls import PLAIN_HTTP, handshake_failure
from flowserve.server.upgrade import Upgrade
from flowserve.session.session import Session
from flowserve.transport.interfaces import Peer
from flowserve.transport.stream import TransportStream
from flowserve.websocket.deflate import DeflateSettings

_PENDING_MARK = 65536
"""Bytes kept unparsed while a request is in progress; above it reading stops."""
_WRITE_MARK = 65536
"""Bytes written without letting others run."""
_WRITE_COST = 1024
"""Bytes that take about as long as a write takes in any case."""
_LINGER = 2.0
"""Seconds in which a client may still send after its last response: closing at once would reset the connection, and the
response with it (RFC 9112 section 9.6)."""
LAST_CALL = 0.5
"""Seconds that a connection gets at shutdown, if it was busy that shortly before: a request may be on its way, and
would be lost."""
_LEAST_BODY = 1024
"""Bytes of a body that have to come in --timeout-body, else a client could hold an application for ever."""
_HEALTH = ((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))
_STALL = 30.0
"""Seconds in which a client must take something of a response that waits for it."""


class H1Connection:
    """The protocol of a transport until it closes or becomes a WebSocket; a `stream.ResponseStream` for its requests.

    One request is in progress at a time (`_cycle`); what comes behind it is kept unparsed in `_pending`, and so is what
    there was no time for in this turn of the event loop (`_deferred`).
    """

    __slots__ = (
        "_admission",
        "_body_bytes",
        "_closing",
        "_context",
        "_cycle",
        "_deferred",
        "_deflate",
        "_encoder",
        "_eof",
        "_held",
        "_parser",
        "_pending",
        "_proxy",
        "_receiving",
        "_request",
        "_stream",
        "_unyielded",
        "_upgrade",
        "deadline",
        "peer",
        "switching",
        "tick",
    )

    def __init__(self, context: Context, deflate: DeflateSettings | None) -> None:
        """`deflate` is what permessage-deflate is to be like, None to do without it."""
        config = context.config
        self._context = context
        self._deflate = deflate
        self._parser = RequestParser(self, config.h1_max_header_size, config.h1_max_header_count)
        self._cycle: HTTPCycle | WebSocketCycle | None = None
        self._request: RequestHead | None = None
        self._encoder: Any = None  # of the request in progress: a ResponseEncoder
        self._admission: Any = None  # the context's, if it has to be asked about every request
        self._proxy: Peer | None = None  # the peer, if it is to be believed what it says of its clients
        self._upgrade: Any = None  # of a request for a WebSocket: an Upgrade
        self._pending = b""
        self._deferred = False
        self._held = False  # the body, as the application has enough of it
        self._receiving = False  # the request, or what is left of one whose response is complete
        self._closing = False  # what comes in from now on is thrown away
        self._eof = False  # the client has stopped writing
        self._unyielded = 0
        self._body_bytes = 0  # since --timeout-body was last looked at
        self.switching = b""  # the head of the 101, once it is sent
        self.deadline = 0.0
        self.tick = 0

    # As the protocol of the transport

    def connection_made(self, transport: Any) -> None:
        admission = self._context.admission
        if admission is None:
            self.begin(TransportStream(transport, self._context.variables), peer_of(transport), False)
        else:
            admission.receive(self, transport, peer_of(transport))

    def begin(self, stream: TransportStream, peer: Peer, trusted: bool) -> None:
        """Serve what comes over `stream`, the transport's. A `trusted` peer is a proxy whose header fields are true."""
        context = self._context
        self._stream = stream
        self.peer = peer
        if trusted:
            self._proxy = peer
        if context.admission is not None and context.admission.asks:
            self._admission = context.admission
        context.live.add(self)
        if context.metrics is not None:
            context.metrics.connections += 1
        self._set_deadline(LAST_CALL if context.shutting_down else context.config.timeout_header)
        if peer.secure and (failure := handshake_failure(stream.transport)) is not None:
            self._end_handshake(failure)

    def _end_handshake(self, failure: str) -> None:
        if failure == PLAIN_HTTP:
            self._context.refused("plain_http")
            self._reject(RequestError(400, failure))
        else:
            logger.debug("%s: TLS handshake failed: %s", self.peer, failure)
            self._context.refused("tls_handshake")
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._deferred and (self._receiving or self._is_free()):
            self._parse(data)
        else:
            self._pending += data
            if len(self._pending) > _PENDING_MARK:
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
            self._context.refused("bad_request")
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

    def next_turn(self) -> None:
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
                context.refused("shutting_down")
                self._reject(RequestError(503, "The server is shutting down"))
                return
        if self._proxy is not None and not self._apply_forwarded(request, self._proxy):
            return
        if self._admission is not None and not self._admit(request):
            return
        if context.is_full():
            context.refused("concurrency_limit")
            self._turn_away(request, RequestError(503, "The server is at its limit of concurrent connections"))
        elif request.is_websocket():
            self._open_websocket(request)
        else:
            if request.has_body:
                self._await_body()
            self._cycle = cycle = HTTPCycle(request, self, context)
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

    def _apply_forwarded(self, request: RequestHead, proxy: Peer) -> bool:
        """Find out for whom a trusted proxy sends this. False: it is answered already."""
        if request.forwarded:
            try:
                self.peer = self._context.admission.client_behind(proxy, request.headers)
            except RequestError as error:
                self._turn_away(request, error)
                return False
        return True

    def _admit(self, request: RequestHead) -> bool:
        """Ask the gate. False: the request is answered already."""
        admission = self._admission
        if request.path == admission.health_path and request.method in ("GET", "HEAD"):
            draining = self._context.draining.is_set()
            self.start_response(503 if draining else 200, _HEALTH)
            self.send_body(b"draining" if draining else b"ok", False)
            self._receiving = request.has_body
            self.finished()
            return False
        try:
            admission.check_host(request, self.peer.secure)
        except RequestError as error:
            self._turn_away(request, error)
            return False
        return True

    def _open_websocket(self, request: RequestHead) -> None:
        admission = self._context.admission
        try:
            self._upgrade = Upgrade(request)
        except HandshakeError as error:
            self._context.refused("bad_handshake")
            self._turn_away(request, RequestError(error.status, error.detail), error.headers)
            return
        if admission is not None:
            try:
                admission.check_websocket(request)
            except HandshakeError as error:
                self._turn_away(request, RequestError(error.status, error.detail), error.headers)
                return
        self._cycle = cycle = WebSocketCycle(request, self, self._context)
        cycle.run(self._upgrade.subprotocols)

    def _turn_away(
        self, request: RequestHead, error: RequestError, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Reject a well-formed request, with a line in the access log."""
        context = self._context
        if context.metrics is not None:
            context.metrics.request(request.method, error.status, 0.0)
        if context.access_log:
            target = context.target_for_log(request.target)
            access_http(str(self.peer), request.method, target, request.http_version, error.status, 0.0)
        self._reject(error, headers)

    def _reject(self, error: RequestError, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Answer a request that goes no further; whoever was told of it is told that the client has left."""
        cycle, self._cycle = self._cycle, None
        if cycle is not None:
            cycle.disconnected()
        logger.debug("%s refused: %s", self.peer, error)
        if self._encoder is not None and self._encoder.started:
            self._stream.abort()
        else:
            self._respond_and_close(error, headers)

    def _respond_and_close(self, error: RequestError, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        # Without an encoder no response is owed: what can't be understood may follow a HEAD that has its answer.
        head_only = self._parser.in_head_request
        if self._encoder is not None and self._request is not None:
            head_only = self._request.method == "HEAD"
        self._stream.write(encode_error(error, self._context.default_headers(), headers, head_only))
        self._receiving = True  # whatever the client still sends is not looked at
        self._close()

    def _close(self) -> None:
        """Close when all is sent, so that it also arrives."""
        self._closing = True
        self._stream.progressed()  # so that the deadline is told of what is taken from now on
        self._set_deadline(_LINGER)
        if self._receiving or self._pending:
            self._pending = b""
            self._stream.resume_reading()
            self._stream.end_writing()
        else:
            self._stream.close()

    # As the stream of a request

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
        encoder = self._encoder
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
        if not (self._held or self._deferred) and len(self._pending) <= _PENDING_MARK:
            self._stream.resume_reading()

    def is_reset(self) -> bool:
        """Whether the client has reset the connection: nobody is told of it once the client has stopped writing."""
        return self._stream.is_reset()

    def progressed(self) -> bool:
        """Whether some, but not yet all, of what was written has left since this was last asked."""
        return self._stream.progressed()

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
            self._context.refused("slow_request")
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
                self._context.refused("slow_request")
                logger.info("%s sends the body of its request too slowly: it ends (--timeout-body)", self.peer)
                self._reject(RequestError(408, "The request body took too long"))

    def _still_takes(self) -> bool:
        """Whether a slow client still takes its response, or may stand still as long as it likes."""
        endless = self._context.config.timeout_response is None
        return self._stream.progressed() or (endless and self._stream.buffered() > 0)

    def _cut_response(self) -> None:
        self._context.refused("slow_response")
        logger.info("%s takes nothing of its response: it is cut (--timeout-response)", self.peer)

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

    def abort(self) -> None:
        """Close now: the client sees that a response in progress is not whole."""
        self._stream.abort()

    def _set_deadline(self, seconds: float) -> None:
        deadline = self._context.loop.time() + seconds
        if self.tick and deadline >= self.deadline:
            self.deadline = deadline  # all that Timers would do, on each request's way
        else:
            self._context.timers.set(self, deadline)

    def _forget(self) -> None:
        self._parser.close()
        self._context.timers.cancel(self)
        self._context.live.discard(self)
