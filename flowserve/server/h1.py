# cython: language_level=3, annotation_typing=False
"""One HTTP/1.1 connection: keep-alive, pipelining, errors, and handing over to a WebSocket (RFC 9112)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Sequence
from typing import Any, cast

from flowserve.asgi.http import HTTPCycle
from flowserve.asgi.websocket import WebSocketCycle
from flowserve.context import Context
from flowserve.errors import ASGIMisuse, HandshakeError, RequestError
from flowserve.flow import Flow
from flowserve.http.h1 import RequestParser, ResponseEncoder, encode_error, encode_switching, status_line
from flowserve.http.messages import Request
from flowserve.logs import logger
from flowserve.session import Session
from flowserve.stream import Peer
from flowserve.websocket import deflate
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateSettings, PerMessageDeflate
from flowserve.websocket.handshake import check_request, response_fields

_PENDING_MARK = 65536
"""Bytes kept unparsed while a request is in progress; above it reading stops."""
_WRITE_MARK = 65536
"""Bytes sent without letting others have their turn."""
_LINGER = 2.0
"""Seconds in which a client may still send after its last response: closing at once would reset the connection, and the
response with it (RFC 9112 section 9.6)."""


_STALL = 30.0
"""Seconds in which a client must take something of a response that waits for it."""


class H1Connection:
    """The protocol of a transport until it closes or becomes a WebSocket; a `stream.ResponseStream` for its requests.

    One request is in progress at a time (`_cycle`); what comes behind it is kept unparsed in `_pending`.
    """

    __slots__ = (
        "_closing",
        "_context",
        "_cycle",
        "_deflate",
        "_encoder",
        "_eof",
        "_flow",
        "_handshake",
        "_parser",
        "_pending",
        "_receiving",
        "_request",
        "_unyielded",
        "deadline",
        "peer",
        "tick",
    )

    def __init__(self, context: Context, deflate: DeflateSettings | None) -> None:
        """`deflate` is what permessage-deflate is to be like, None to do without it."""
        config = context.config
        self._context = context
        self._deflate = deflate
        self._parser = RequestParser(self, config.h1_max_header_size, config.h1_max_header_count)
        self._cycle: HTTPCycle | WebSocketCycle | None = None
        self._request: Request | None = None
        self._encoder: ResponseEncoder | None = None
        self._handshake: tuple[bytes, list[str]] = b"", []
        self._pending = b""
        self._receiving = False  # the request, or what is left of one whose response is complete
        self._closing = False  # what comes in from now on is thrown away
        self._eof = False  # the client has stopped writing
        self._unyielded = 0
        self.deadline = 0.0
        self.tick = 0

    # As the protocol of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._flow = Flow(cast(asyncio.Transport, transport))
        self.peer = peer_of(transport)
        self._context.live.add(self)
        self._set_deadline(self._context.config.timeout_header)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._receiving or (self._cycle is None and not self._flow.write_paused):
            self._parse(data)
        else:
            self._pending += data
            if len(self._pending) > _PENDING_MARK:
                self._flow.pause_reading()

    def eof_received(self) -> bool:
        in_progress = isinstance(self._cycle, HTTPCycle) or bool(self._pending)
        if self._closing or self._receiving or not in_progress or not self._flow.half_open:
            return False
        self._eof = True
        if isinstance(self._cycle, HTTPCycle):
            self._cycle.half_closed()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._forget()
        self._flow.lost()
        cycle, self._cycle = self._cycle, None
        if cycle is not None:
            cycle.disconnected()

    def pause_writing(self) -> None:
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        self._flow.resume_writing()
        if self._cycle is None:
            self._go_on()

    # Requests

    def _parse(self, data: bytes) -> None:
        idle = self._cycle is None and not self._parser.started
        try:
            while data and not self._closing and (self._cycle is None or self._receiving):
                data = self._parser.feed(data)
        except RequestError as error:
            self._reject(error)
        if self._closing:
            return
        self._pending = data
        if idle and self._parser.started:
            self._set_deadline(self._context.config.timeout_header)

    def on_request(self, request: Request) -> None:
        """A request's head has come."""
        context = self._context
        self._request = request
        self._encoder = ResponseEncoder(request)
        self._receiving = True
        if context.shutting_down:
            self._encoder.keep_alive = False
        if context.is_full:
            self._reject(RequestError(503, "The server is at its limit of concurrent connections"))
        elif request.is_websocket:
            self._open_websocket(request)
        else:
            self._cycle = cycle = HTTPCycle(request, self, context)
            cycle.run()

    def on_body(self, data: bytes) -> None:
        """Some of the request's body has come; nobody wants it when the response is already complete."""
        if isinstance(self._cycle, HTTPCycle):
            self._cycle.body_received(data)

    def on_end(self) -> None:
        """The request is complete."""
        self._receiving = False
        if isinstance(self._cycle, HTTPCycle):
            self._cycle.body_complete()
            if self._eof:
                self._cycle.half_closed()

    def _open_websocket(self, request: Request) -> None:
        try:
            self._handshake = check_request(request.method, request.http_version, request.headers)
        except HandshakeError as error:
            self._reject(RequestError(error.status, error.detail), error.headers)
            return
        self._cycle = cycle = WebSocketCycle(request, self, self._context)
        cycle.run(self._handshake[1])

    def _reject(self, error: RequestError, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Answer a request that goes no further; whoever was told of it is told that the client has left."""
        cycle, self._cycle = self._cycle, None
        if cycle is not None:
            cycle.disconnected()
        logger.debug("%s refused: %s", self.peer, error)
        if self._encoder is not None and self._encoder.started:
            self._flow.abort()
        else:
            self._respond_and_close(error, headers)

    def _respond_and_close(self, error: RequestError, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        head_only = self._request is not None and self._request.method == "HEAD"
        self._flow.write(encode_error(error, self._context.default_headers(), headers, head_only))
        self._receiving = True  # whatever the client still sends is not looked at
        self._close()

    def _close(self) -> None:
        """Close when all is sent, so that it also arrives."""
        self._closing = True
        self._set_deadline(_LINGER)
        if self._receiving or self._pending:
            self._pending = b""
            self._flow.resume_reading()
            self._flow.end_writing()
        else:
            self._flow.close()

    # As the stream of a request

    def send_continue(self) -> None:
        """Send 100 Continue."""
        if not self._closing:
            self._flow.write(status_line(100) + b"\r\n")

    def send_response(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes, more: bool) -> bool:
        """Send the head and the first part of the body. Returns whether to await `drain()`. Raises ASGIMisuse."""
        encoder = cast(ResponseEncoder, self._encoder)
        head = encoder.head(status, headers, self._context.default_headers(), None if more else len(body))
        return self._write(head + encoder.body(body, more))

    def send_body(self, body: bytes, more: bool) -> bool:
        """Send a further part of the body. Returns whether to await `drain()`. Raises ASGIMisuse."""
        return self._write(cast(ResponseEncoder, self._encoder).body(body, more))

    def _write(self, data: bytes) -> bool:
        if data and not self._closing:
            self._flow.write(data)
        self._unyielded += len(data)
        if self._unyielded < _WRITE_MARK and not self._flow.write_paused:
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
        if not cast(ResponseEncoder, self._encoder).keep_alive:
            self._close()
            return
        self._encoder = None
        self._set_deadline(self._context.config.timeout_keep_alive)
        self._go_on()

    def _go_on(self) -> None:
        """Take up what was kept, unless the client does not read its responses."""
        if self._flow.write_paused or self._closing:
            return
        data, self._pending = self._pending, b""
        self._parse(data)
        self.resume_reading()
        if self._eof and self._cycle is None and not self._closing:
            self._close()

    def drain(self) -> Awaitable[None]:
        """Wait until writing is welcome; when it is, only let others have their turn."""
        return self._flow.drain()

    def pause_reading(self) -> None:
        """Stop the body from coming in."""
        self._flow.pause_reading()

    def resume_reading(self) -> None:
        """Let it come again."""
        if len(self._pending) <= _PENDING_MARK:
            self._flow.resume_reading()

    def accept(self, subprotocol: str | None, headers: Sequence[tuple[bytes, bytes]]) -> Session:
        """Complete the opening handshake; what the client sent behind it is in the session. Raises ASGIMisuse."""
        key, subprotocols = self._handshake
        if subprotocol is not None and subprotocol not in subprotocols:
            raise ASGIMisuse(f"subprotocol {subprotocol!r} is none of those that the client offers: {subprotocols}")
        context, config = self._context, self._context.config
        codec, extensions = self._agree_on_deflate()
        fields = response_fields(key, subprotocol, extensions, headers)
        self._flow.write(encode_switching(fields, context.default_headers()))
        connection = Connection(Role.SERVER, config.ws_max_size, config.ws_max_frames_per_message, codec)
        session = Session(connection, self._flow, context)
        self._cycle = None
        self._forget()
        self._flow.transport.set_protocol(cast(asyncio.Protocol, session))
        self._flow.resume_reading()
        if self._pending:
            session.data_received(self._pending)
        return session

    def _agree_on_deflate(self) -> tuple[PerMessageDeflate | None, bytes | None]:
        """The codec, and the value of Sec-WebSocket-Extensions that says so."""
        if self._deflate is None or self._request is None:
            return None, None
        agreed = deflate.accept(self._deflate, self._request.values(b"sec-websocket-extensions"))
        if agreed is None:
            return None, None
        parameters, answer = agreed
        return PerMessageDeflate(self._deflate, parameters, Role.SERVER), answer

    # Deadlines and the end

    def on_deadline(self, now: float) -> None:
        """A head is too slow, an idle connection too long idle, or a closing one too long in closing."""
        if self._cycle is not None:
            pass  # the application's time; the next deadline is set when it is done
        elif self._flow.progressed():
            self._set_deadline(_STALL)  # a slow client still gets its response
        elif self._closing:
            self._flow.abort()
        elif self._parser.started and not self._receiving:
            self._reject(RequestError(408, "The request head took too long"))
        else:
            self._close()

    def shutdown(self) -> None:
        """Close, at once if idle, else after the response in progress."""
        if self._encoder is not None:
            self._encoder.keep_alive = False
        if isinstance(self._cycle, WebSocketCycle):
            self._cycle.shutdown()
        elif self._cycle is None and not self._closing:
            self._close()

    def abort(self) -> None:
        """Close now: the client sees that a response in progress is not whole."""
        self._flow.abort()

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


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Return both ends of a transport. A UNIX domain socket has a server path, and no client."""
    server = transport.get_extra_info("sockname")
    client = transport.get_extra_info("peername")
    return Peer(
        (str(client[0]), int(client[1])) if isinstance(client, tuple) else None,
        _server_address(server) if server else None,
        transport.get_extra_info("sslcontext") is not None,
    )


@functools.lru_cache(maxsize=64)
def _server_address(name: Any) -> tuple[str, int | None]:
    """One object for all connections that came in at the same address."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else (str(name), None)
