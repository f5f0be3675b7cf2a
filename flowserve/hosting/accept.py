"""accept(): a WebSocket over a stream that somebody else has opened, in the server's role."""

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
from typing import Any, cast

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

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Field = tuple[str, str] | tuple[bytes, bytes]


class accept:  # noqa: N801  (used like a function)
    """Open a WebSocket with the client at the other end of `stream`: `ws = await accept(stream)`, or `async with
    accept(stream) as ws`.

    `stream` is a connected socket, or a pair of asyncio's StreamReader and StreamWriter; from then on it belongs to the
    WebSocket, or is closed if there is none. With `ssl`, a server's context, the client of a socket is to begin
    with a TLS handshake.

    Somebody else may have parsed the request already: it is given as `request`, or its header fields as
    `request_headers`. Only the answer is sent then, and the stream's next bytes are frames.

    `subprotocols`, `select_subprotocol`, `origins`, `process_request` and `process_response` are as for `serve()`;
    `headers` are added to the answer. The client has `open_timeout` seconds (None or 0: no limit) for its part.
    `logger` and `write_limit` are as for `connect()`. The other options are those of a WebSocket, such as `max_size`.

    Raises HandshakeError when the client is refused, with the answer that it got, or has left (status 0); TimeoutError,
    where the client gets a 408, or a 504 if it was the callbacks that took so long; OSError when TLS fails; and what
    the callbacks raise, which the client sees as a 500.
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
        **options: Any,
    ) -> None:
        if not isinstance(stream, (socket.socket, tuple)):
            wanted = "a socket, or a pair (StreamReader, StreamWriter)"
            raise TypeError(f"stream: {wanted} is wanted, not {type(stream).__name__}")
        if ssl is not None and not isinstance(stream, socket.socket):
            raise ConfigError("ssl: streams have done their TLS handshake already; give ssl with a socket")
        if request is not None and request_headers is not None:
            raise ConfigError("request_headers: they are in the request already; give one of the two")
        if request_headers is not None:
            request = Request("/", Headers(_as_bytes(field) for field in request_headers))
        self._stream = stream
        self._request = request
        self._terms = HandshakePolicy(subprotocols, select_subprotocol, origins, process_request, process_response)
        self._extra = [_as_bytes(field) for field in headers]
        self._ssl = ssl
        self._timeout = open_timeout or None
        self._extras = WebSocketsArguments(logger, write_limit)
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
        reception = _Reception(self._config, None if self._request is None else _head_of(self._request))
        deadline.doing = "waiting for the client's TLS handshake"
        await self._take_over(reception)
        try:
            return await self._welcome(reception, deadline)
        except HandshakeError as error:
            reception.refuse(error)
            raise
        except Exception:
            reception.refuse(HandshakeError(500, "Internal Server Error"))
            raise
        except BaseException:
            if deadline.expired:
                reception.time_out()
            else:
                reception.transport.abort()
            raise

    async def _take_over(self, reception: _Reception) -> None:
        if isinstance(self._stream, socket.socket):
            if self._stream.family in (socket.AF_INET, socket.AF_INET6):
                # asyncio does so only where the socket's proto says TCP, and mostly that is 0
                self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: reception, self._stream, ssl=self._ssl)
            return
        reader, writer = self._stream
        if (error := reader.exception()) is not None:
            raise HandshakeError(0, f"the stream is lost already: {error}") from error
        if writer.transport.is_closing():
            raise HandshakeError(0, "the stream is closed already")
        buffered = _buffered(reader)
        transport = cast(asyncio.Transport, writer.transport)
        reception.replaced = writer, transport.get_protocol()
        transport.set_protocol(reception)
        reception.begin(transport, buffered, reader.at_eof())

    async def _welcome(self, reception: _Reception, deadline: Deadline) -> WebSocket:
        deadline.doing = "waiting for the client's request"
        head = await reception.head
        deadline.doing = "deciding on the client's request"
        transport = reception.transport
        addresses = [extra_info(transport, name) for name in ("peername", "sockname")]
        handshake = Handshake(self._request or _packed(head), *addresses)
        try:
            return await self._answer(reception, head, handshake)
        except HandshakeError as error:
            if not error.status:
                raise
            raise await self._terms.process_refusal(handshake, error) from None

    async def _answer(self, reception: _Reception, head: RequestHead, handshake: Handshake) -> WebSocket:
        if self._request is None and not head.is_websocket():
            raise await self._terms.refuse_plain_request(handshake, head.method)
        upgrade = Upgrade(head)
        subprotocol = await self._terms.choose_subprotocol(handshake, upgrade.subprotocols)
        extra = await self._terms.process_acceptance(handshake, subprotocol, self._extra)
        if reception.lost:
            raise HandshakeError(0, "the client left before it was answered")
        home = LibraryContext(self._config, asyncio.get_running_loop())
        deflate = deflate_settings(home.config, Role.SERVER)
        stream = TransportStream(reception.transport, home.variables)
        answer, session = upgrade.answer(subprotocol, extra, deflate, stream, home, _date())
        session.begin(answer)
        session.monitor = reception.monitor()
        ws = handshake.hand_over(self._extras.apply_to(WebSocket(session, subprotocol, handshake._request, answer)))
        reception.hand_over(session, home.variables)
        return ws


class _Reception(asyncio.Protocol):
    """The protocol of a transport until the client has its answer: `head` is done when the request has come. Reading is
    paused then, up to `hand_over()` or `refuse()`."""

    def __init__(self, config: Config, head: RequestHead | None) -> None:
        """`head` is the request, if it has been read already."""
        self.head: asyncio.Future[RequestHead] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        # The streams' writer, which would close the transport when it is collected, and the protocol before, which is
        # told of the transport's end: whoever has the writer can still wait for that.
        self.replaced: tuple[asyncio.StreamWriter, asyncio.BaseProtocol] | None = None
        self.lost = False
        self._parser = RequestParser(self, config.h1_max_header_size, config.h1_max_header_count)
        self._request = head
        self._rest = b""  # what came behind the request
        self._eof = False
        self._refused = False
        self._linger: asyncio.TimerHandle | None = None
        if head is not None:
            self.head.set_result(head)

    def begin(self, transport: asyncio.Transport, data: bytes, ended: bool) -> None:
        """Read from `transport`; `data`, and with `ended` the client's end, were read before."""
        self.transport = transport
        transport.resume_reading()
        if self.head.done():
            transport.pause_reading()
        if data:
            self.data_received(data)
        if ended and not self.eof_received():
            transport.close()

    def monitor(self) -> Monitor | None:
        """Return what tells the protocol before of the transport's end, if there was one, instead of this one."""
        replaced, self.replaced = self.replaced, None
        return None if replaced is None else _Forward(*replaced)

    def hand_over(self, session: Session, variables: Variables) -> None:
        """Make `session` the transport's protocol, and give it what came behind the request. It is called with
        `variables` from now on."""
        self.transport.set_protocol(cast(asyncio.Protocol, session))
        if not self.transport.is_closing():
            variables.copy().run(self.transport.resume_reading)
        if self._rest:
            session.data_received(self._rest)
        if self._eof and not session.eof_received():
            self.transport.close()
        self._parser.close()

    def refuse(self, error: HandshakeError) -> None:
        """Answer with `error`, if it is an answer, and close."""
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
        stream.write(encoder.head(_date(), len(body)) + encoder.body(body, False))
        if self._eof or not stream.half_open:
            stream.close()
            return
        stream.end_writing()
        self.transport.resume_reading()  # to throw it away
        self._linger = asyncio.get_running_loop().call_later(LINGER, self.transport.abort)

    def time_out(self) -> None:
        """Answer, as the server does, that it took too long; a client that has sent nothing sees its connection
        close."""
        if self._request is not None:
            self.refuse(HandshakeError(*LATE_ANSWER))
        elif self._parser.started:
            self.refuse(HandshakeError(*LATE_REQUEST))
        else:
            self.transport.close()

    # As the protocol of the transport

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
            self.head.exception()  # looked at: nobody need wait for it

    # What the parser calls

    def on_request(self, request: RequestHead) -> None:
        self._request = request

    def on_body(self, data: bytes) -> None:
        """Of a request that will be refused: nobody wants it."""

    def on_end(self) -> None:
        """The request is complete."""


class _Forward(Monitor):
    """A Monitor that tells the protocol which a session has replaced of the end of its transport."""

    def __init__(self, writer: asyncio.StreamWriter, protocol: asyncio.BaseProtocol) -> None:
        self._writer = writer  # which closes the transport when it is collected
        self._protocol = protocol

    def _on_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(None)


def _as_bytes(field: Field) -> tuple[bytes, bytes]:
    name, value = (each if isinstance(each, bytes) else each.encode("latin-1") for each in field)
    return name, value


def _packed(head: RequestHead) -> bytes:
    return pack(b"%b %b HTTP/%b" % (head.method.encode(), head.target, head.http_version.encode()), head.headers)


def _head_of(request: Request) -> RequestHead:
    """A request that somebody else has parsed, as our parser would have given it."""
    fields = [_as_bytes(field) for field in request.headers.raw_items()]
    headers = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    return RequestHead("GET", b"/", "1.1", headers)  # nobody asks it for the target


def _buffered(reader: asyncio.StreamReader) -> bytes:
    """Take what `reader` has read already, without waiting."""
    if reader.at_eof():
        return b""
    reading = reader.read(sys.maxsize)
    try:
        reading.send(None)
    except StopIteration as done:
        return cast(bytes, done.value)
    reading.close()  # it would wait: there is nothing
    return b""


def _date() -> bytes:
    return b"date: %b\r\n" % formatdate(usegmt=True).encode("ascii")
