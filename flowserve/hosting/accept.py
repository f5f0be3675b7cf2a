"""accept(): the server side of a WebSocket over a connection that the program has accepted itself."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl as tls
import sys
from collections.abc import Generator, Iterable, Sequence
from contextvars import Context as Variables
from contextvars import copy_context
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, cast

from flowserve.config import Config
from flowserve.errors import LATE_ANSWER, LATE_REQUEST, ConfigError, HandshakeError, RequestError
from flowserve.hosting.handshake import Handshake
from flowserve.hosting.policy import (
    HandshakePolicy,
    Origins,
    ProcessRequest,
    ProcessResponse,
    SelectSubprotocol,
    answer_of,
)
from flowserve.http.headers import Headers
from flowserve.http.messages import RequestHead
from flowserve.http.request_parser import RequestParser
from flowserve.http.response_encoder import ResponseEncoder
from flowserve.library.context import LibraryContext, read_options
from flowserve.library.messages import Request, pack
from flowserve.library.timeout import Deadline
from flowserve.library.websocket import WebSocket
from flowserve.library.websockets_arguments import WebSocketsArguments
from flowserve.server.h1_response_stream import LINGER
from flowserve.server.upgrade import Upgrade
from flowserve.session.monitor import Monitor
from flowserve.session.opening import deflate_settings
from flowserve.session.session import Session
from flowserve.transport.stream import TransportStream, extra_info
from flowserve.websocket.constants import Role

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flowserve.library.keywords import LibraryKeywords

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Field = tuple[str, str] | tuple[bytes, bytes]


class accept:  # noqa: N801  (used like a function)
    """Do the server's part of the opening handshake (RFC 6455 section 4.2) on a connection that the program has
    accepted: `ws = await accept(stream)`, or `async with accept(stream) as ws`, which closes the WebSocket at the end
    of the block.

    `stream` is a connected socket, or a pair (StreamReader, StreamWriter) of asyncio. It belongs to the WebSocket from
    then on, and is closed if none is opened. `ssl` is the TLS context of a server, for a socket whose client is to
    begin with a TLS handshake.

    If the request was read already, pass it as `request`, or its header fields, pairs of str or of bytes, as
    `request_headers`. Then only the response is sent, and what follows in the stream are frames.

    `subprotocols`, `select_subprotocol`, `origins`, `process_request` and `process_response` are as for `serve()`.
    `headers`, pairs (name, value) of str, are added to the response with status 101. `open_timeout` limits the seconds
    until the WebSocket is open; None or 0 for no limit. `logger` and `write_limit` are as for `connect()`, and so are
    the other options, such as `max_size`.

    Raises HandshakeError, which holds the response that was sent, if the client was refused, or with status 0 if it
    left before; TimeoutError after `open_timeout`, when the client has got a 408 for an incomplete request, or a 504 if
    the callbacks took too long; OSError if TLS fails; and any exception of the callbacks, after a response with 500.
    The call itself raises ConfigError or TypeError for wrong arguments.
    """

    def __init__(
        self,
        stream: socket.socket | Streams,
        *,
        request: Request | None = None,
        request_headers: Iterable[Field] | None = None,
        subprotocols: Sequence[str] | None = None,
        select_subprotocol: SelectSubprotocol | None = None,
        origins: Origins | None = None,
        process_request: ProcessRequest | None = None,
        process_response: ProcessResponse | None = None,
        headers: Iterable[tuple[str, str]] = (),
        ssl: tls.SSLContext | None = None,
        open_timeout: float | None = 10.0,
        write_limit: int | tuple[int, int | None] | None = None,
        logger: logging.Logger | logging.LoggerAdapter[Any] | None = None,
        **options: Unpack[LibraryKeywords],
    ) -> None:
        if not isinstance(stream, (socket.socket, tuple)):
            expected = "a socket, or a pair (StreamReader, StreamWriter)"
            raise TypeError(f"stream: {expected} is wanted, not {type(stream).__name__}")
        if ssl is not None and not isinstance(stream, socket.socket):
            raise ConfigError("ssl: streams have done their TLS handshake already; give ssl with a socket")
        if request is not None and request_headers is not None:
            raise ConfigError("request_headers: they are in the request already; give one of the two")
        if request_headers is not None:
            request = Request("/", Headers(_as_bytes(field) for field in request_headers))
        self._stream = stream
        self._request = request
        self._policy = HandshakePolicy(subprotocols, select_subprotocol, origins, process_request, process_response)
        self._headers = [_as_bytes(field) for field in headers]
        self._ssl = ssl
        self._timeout = open_timeout or None
        self._websocket_arguments = WebSocketsArguments(logger, write_limit)
        self._config = read_options(options)
        self._ws: WebSocket | None = None

    def __await__(self) -> Generator[Any, None, WebSocket]:
        return self._open().__await__()

    async def __aenter__(self) -> WebSocket:
        self._ws = await self
        return self._ws

    async def __aexit__(self, *exc: object) -> None:
        if self._ws is not None:
            await self._ws.close()

    async def _open(self) -> WebSocket:
        async with Deadline(self._timeout) as deadline:
            return await self._accept(deadline)

    async def _accept(self, deadline: Deadline) -> WebSocket:
        protocol = _HandshakeProtocol(self._config, None if self._request is None else _head_of(self._request))
        deadline.doing = "waiting for the client's TLS handshake"
        await self._connect(protocol)
        try:
            return await self._read_and_answer(protocol, deadline)
        except HandshakeError as error:
            protocol.refuse(error)
            raise
        except Exception:
            protocol.refuse(HandshakeError(500, "Internal Server Error"))
            raise
        except BaseException:
            if deadline.expired:
                protocol.time_out()
            else:
                protocol.transport.abort()
            raise

    async def _connect(self, protocol: _HandshakeProtocol) -> None:
        """Make `protocol` the protocol of the stream's transport. Raises HandshakeError with status 0 if the stream is
        closed already, OSError if TLS fails."""
        if isinstance(self._stream, socket.socket):
            if self._stream.family in (socket.AF_INET, socket.AF_INET6):
                # asyncio sets it only if the socket's proto is IPPROTO_TCP, and usually that is 0
                self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: protocol, self._stream, ssl=self._ssl)
            return
        reader, writer = self._stream
        if (error := reader.exception()) is not None:
            raise HandshakeError(0, f"the stream is lost already: {error}") from error
        if writer.transport.is_closing():
            raise HandshakeError(0, "the stream is closed already")
        buffered = _take_buffered(reader)
        transport = cast(asyncio.Transport, writer.transport)
        protocol.replaced = writer, transport.get_protocol()
        transport.set_protocol(protocol)
        protocol.begin(transport, buffered, reader.at_eof())

    async def _read_and_answer(self, protocol: _HandshakeProtocol, deadline: Deadline) -> WebSocket:
        """Wait for the request and open the WebSocket. Raises HandshakeError, with the response to send, if it is
        refused."""
        deadline.doing = "waiting for the client's request"
        head = await protocol.head
        deadline.doing = "deciding on the client's request"
        transport = protocol.transport
        addresses = [extra_info(transport, name) for name in ("peername", "sockname")]
        handshake = Handshake(self._request or _pack_request(head), *addresses)
        try:
            return await self._answer(protocol, head, handshake)
        except HandshakeError as error:
            if not error.status:
                raise
            raise await self._policy.process_refusal(handshake, error) from None

    async def _answer(self, protocol: _HandshakeProtocol, head: RequestHead, handshake: Handshake) -> WebSocket:
        if self._request is None and not head.is_websocket():
            raise await self._policy.refuse_plain_request(handshake, head.method)
        upgrade = Upgrade(head)
        subprotocol = await self._policy.choose_subprotocol(handshake, upgrade.subprotocols)
        fields = await self._policy.process_acceptance(handshake, subprotocol, self._headers)
        if protocol.lost:
            raise HandshakeError(0, "the client left before it was answered")
        context = LibraryContext(self._config, asyncio.get_running_loop())
        deflate = deflate_settings(context.config, Role.SERVER)
        stream = TransportStream(protocol.transport, context.variables)
        response, session = upgrade.answer(subprotocol, fields, deflate, stream, context, _date_line())
        session.begin(response)
        session.monitor = protocol.monitor()
        ws = self._websocket_arguments.apply_to(WebSocket(session, subprotocol, handshake._request, response))
        handshake._copy_attributes_to(ws)
        protocol.hand_over(session, context.variables)
        return ws


class _HandshakeProtocol(asyncio.Protocol):
    """The protocol of a transport until the handshake is answered, and the RequestHandler of its RequestParser. When
    the request head is complete, `head` is done and reading is paused, until `hand_over()` or `refuse()` is called."""

    def __init__(self, config: Config, head: RequestHead | None) -> None:
        """`head` is the head of the request, if it was read already."""
        self.head: asyncio.Future[RequestHead] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        # The StreamWriter passed to accept() and its protocol. The writer is kept, as it closes the transport when it
        # is garbage-collected; the protocol gets connection_lost(), so that `await writer.wait_closed()` returns.
        self.replaced: tuple[asyncio.StreamWriter, asyncio.BaseProtocol] | None = None
        self.lost = False  # connection_lost() was called
        self._parser = RequestParser(self, config.h1_max_header_size, config.h1_max_header_count)
        self._request = head
        self._rest = b""  # bytes received after the request head
        self._eof = False  # the client has closed its writing end (half-close)
        self._refused = False  # received data is discarded
        self._linger: asyncio.TimerHandle | None = None
        if head is not None:
            self.head.set_result(head)

    def begin(self, transport: asyncio.Transport, data: bytes, ended: bool) -> None:
        """Start reading from `transport`. `data` was received before; `ended` is whether EOF was, too."""
        self.transport = transport
        transport.resume_reading()
        if self.head.done():
            transport.pause_reading()
        if data:
            self.data_received(data)
        if ended and not self.eof_received():
            transport.close()

    def monitor(self) -> Monitor | None:
        """Return a monitor that passes connection_lost() to the replaced protocol, instead of this one; None if there
        is none."""
        replaced, self.replaced = self.replaced, None
        return None if replaced is None else _LostMonitor(*replaced)

    def hand_over(self, session: Session, variables: Variables) -> None:
        """Make `session` the transport's protocol, and pass the bytes received after the request on to it. From now on
        the event loop calls it in the context `variables`."""
        self.transport.set_protocol(cast(asyncio.Protocol, session))
        if not self.transport.is_closing():
            variables.copy().run(self.transport.resume_reading)
        if self._rest:
            session.data_received(self._rest)
        if self._eof and not session.eof_received():
            self.transport.close()
        self._parser.close()

    def refuse(self, error: HandshakeError) -> None:
        """Send the response that `error` holds, if its status is not 0, and close the connection."""
        self._refused, self._rest = True, b""
        if self.lost or self.transport.is_closing() or not error.status:
            self.transport.abort()
            return
        method = "HEAD" if self._parser.in_head_request else "GET"
        encoder = ResponseEncoder(self._request or RequestHead(method, b"/", "1.1", []))
        encoder.keep_alive = False
        status, fields, body = answer_of(error)
        encoder.start(status, fields)
        stream = TransportStream(self.transport, copy_context())
        stream.write(encoder.head(_date_line(), len(body)) + encoder.body(body, False))
        if self._eof or not stream.half_open:
            stream.close()
            return
        stream.end_writing()
        self.transport.resume_reading()  # and discard: closing with unread data would reset the connection
        self._linger = asyncio.get_running_loop().call_later(LINGER, self.transport.abort)

    def time_out(self) -> None:
        """Refuse after a timeout, like the server: with 504 after the request, with 408 within it; without a response
        if the client has sent nothing."""
        if self._request is not None:
            self.refuse(HandshakeError(*LATE_ANSWER))
        elif self._parser.started:
            self.refuse(HandshakeError(*LATE_REQUEST))
        else:
            self.transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.begin(cast(asyncio.Transport, transport), b"", False)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.head.done():
            self._rest += data
            return
        try:
            self._rest = self._parser.feed(data)
        except (RequestError, HandshakeError) as error:
            self._fail(HandshakeError(error.status, error.detail))
            return
        if self._request is not None:
            self.transport.pause_reading()
            self.head.set_result(self._request)

    def eof_received(self) -> bool:
        self._eof = True
        self._fail(HandshakeError(0, "the client left before its request was complete"))
        return not self._refused and self._request is not None and self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._fail(HandshakeError(0, "the client left before its request was complete"))
        self._parser.close()
        if self._linger is not None:
            self._linger.cancel()
        if self.replaced is not None:
            self.replaced[1].connection_lost(exc)

    def _fail(self, error: HandshakeError) -> None:
        if not self.head.done():
            self.head.set_exception(error)
            self.head.exception()  # retrieved, so that asyncio logs nothing if nobody awaits the future

    # RequestHandler

    def on_request(self, request: RequestHead) -> None:
        self._request = request

    def on_body(self, data: bytes) -> None:
        """Discard the body; a request with one is refused."""

    def on_end(self) -> None:
        """The request is complete."""


class _LostMonitor(Monitor):
    """A Monitor that passes connection_lost() on to the protocol that the session has replaced."""

    def __init__(self, writer: asyncio.StreamWriter, protocol: asyncio.BaseProtocol) -> None:
        self._writer = writer  # kept, as it closes the transport when it is garbage-collected
        self._protocol = protocol

    def _on_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(None)


def _as_bytes(field: Field) -> tuple[bytes, bytes]:
    name, value = (each if isinstance(each, bytes) else each.encode("latin-1") for each in field)
    return name, value


def _pack_request(head: RequestHead) -> bytes:
    return pack(b"%b %b HTTP/%b" % (head.method.encode(), head.target, head.http_version.encode()), head.headers)


def _head_of(request: Request) -> RequestHead:
    """Return a request that was read already as the RequestParser would return it."""
    fields = [_as_bytes(field) for field in request.headers.raw_items()]
    headers = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    return RequestHead("GET", b"/", "1.1", headers)  # the target is not used


def _take_buffered(reader: asyncio.StreamReader) -> bytes:
    """Take the data in the buffer of `reader`, without waiting for more."""
    if reader.at_eof():
        return b""
    reading = reader.read(sys.maxsize)
    try:
        reading.send(None)
    except StopIteration as done:
        return cast(bytes, done.value)
    reading.close()  # it waits, as the buffer is empty
    return b""


def _date_line() -> bytes:
    return b"date: %b\r\n" % formatdate(usegmt=True).encode("ascii")
