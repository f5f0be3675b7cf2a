"""The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt): a header before the client's bytes that
names the client.

The specification forbids guessing whether there is a header: where it is enabled, each connection must begin with one,
and connections of peers other than trusted proxies are aborted, as their headers could be forged.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NamedTuple, cast

from flowserve.asgi.context import Context
from flowserve.http.forwarded import address_of
from flowserve.logs.loggers import logger
from flowserve.server.admission import Admission
from flowserve.server.h1_connection import SHUTDOWN_GRACE, H1Connection
from flowserve.server.peers import peer_of
from flowserve.server.tls import tls_timeouts
from flowserve.transport.interfaces import Peer
from flowserve.transport.timers import Timed

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_MAX_LINE = 107
"""Bytes of the longest version 1 header."""
_MIN_LINES = {  # by family
    b"TCP4": len("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"),
    b"TCP6": len("PROXY TCP6 :: :: 0 0\r\n"),
    b"UNKN": len("PROXY UNKNOWN\r\n"),
}
_MAX_BINARY = 16384
"""Largest version 2 header in bytes; with TLVs such as a client's certificate it seldom needs a tenth."""
_PORT = rb"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?"
    rb"|TCP4 ([0-9.]+) ([0-9.]+) %b %b|TCP6 ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) %b %b)\r\n" % ((_PORT,) * 4)
)
_LOCAL, _PROXY = 0, 1
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_ADDRESS_SIZES = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}
"""Sizes of the address block in bytes, by family."""
_TLV_SSL = 0x20
_CLIENT_SSL = 0x01


class Header(NamedTuple):
    """A parsed PROXY header.

    `kind` is 'local' for a connection of the proxy itself, 'unknown' for a client whose address the proxy does not
    know, and 'known' otherwise. `client` is None for one that connected over a UNIX domain socket. `secure` says
    whether the client's connection to the proxy uses TLS.
    """

    kind: Literal["local", "unknown", "known"]
    client: tuple[str, int] | None = None
    server: tuple[str, int | None] | None = None
    secure: bool = False


def bytes_missing(data: bytes) -> int:
    """Return how many bytes at least follow `data` in its header; 0 if the header is complete.

    A reader that never reads more than that does not read any byte of the client. Raises ValueError for what is not a
    header.
    """
    if _SIGNATURE.startswith(data[:12]):
        if len(data) < 16:
            return (12 if len(data) < 12 else 16) - len(data)
        return _binary_bytes_missing(data)
    if not data.startswith(b"PROXY "[: len(data)]):
        raise ValueError("the connection does not begin with a PROXY header")
    return _line_bytes_missing(data)


def _line_bytes_missing(data: bytes) -> int:
    if len(data) < 12:
        return 12 - len(data)
    shortest = _MIN_LINES.get(data[6:10])
    if shortest is None:
        raise ValueError("the PROXY header names no family that there is")
    end = data.find(b"\r")
    if end < 0:
        needed = max(2, shortest - len(data))
    elif data[end:] == b"\r\n":
        return 0
    elif data[end:] == b"\r":
        needed = 1
    else:
        raise ValueError("the PROXY header is malformed")
    if b"\n" in data or len(data) + needed > _MAX_LINE:
        raise ValueError("the PROXY header is malformed: no CRLF within 107 bytes")
    return needed


def _binary_bytes_missing(data: bytes) -> int:
    length = int.from_bytes(data[14:16], "big") + 16
    if data[12] >> 4 != 2:
        raise ValueError("the PROXY header is of a version that is neither 1 nor 2")
    if length > _MAX_BINARY:
        raise ValueError(f"the PROXY header is too long: {length} bytes")
    return length - len(data)


def parse(data: bytes) -> Header:
    """Parse a complete header. Raises ValueError for a malformed one."""
    return _parse_binary(data) if data.startswith(_SIGNATURE) else _parse_line(data)


def _parse_line(data: bytes) -> Header:
    match = _LINE.fullmatch(data)
    if match is None:
        raise ValueError("the PROXY header is malformed")
    source, target, source_port, target_port = match.groups()[:4] if match[1] else match.groups()[4:]
    if source is None:
        return Header("unknown")
    kind = IPv4Address if match[1] else IPv6Address
    client = (_format_address(kind(source.decode())), int(source_port))
    server = (_format_address(kind(target.decode())), int(target_port))
    if max(client[1], server[1]) > 65535:
        raise ValueError("the PROXY header has a port above 65535")
    return Header("known", client, server)


def _parse_binary(data: bytes) -> Header:
    command, family, transport = data[12] & 15, data[13] >> 4, data[13] & 15
    if command == _LOCAL:
        return Header("local")
    if command != _PROXY or family not in _ADDRESS_SIZES or transport > 2:
        raise ValueError("the PROXY header has a command or family that there is not")
    if family == _UNSPEC or transport == _UNSPEC:
        return Header("unknown")
    size = _ADDRESS_SIZES[family]
    block, rest = data[16 : 16 + size], data[16 + size :]
    if len(block) < size:
        raise ValueError("the PROXY header is too short for its addresses")
    secure = _is_secure(rest)
    if family == _UNIX:
        path = block[108:].partition(b"\0")[0]
        return Header("known", None, (os.fsdecode(path), None) if path else None, secure)
    half = (size - 4) // 2
    kind = IPv4Address if family == _INET else IPv6Address
    client = (_format_address(kind(block[:half])), int.from_bytes(block[-4:-2], "big"))
    server = (_format_address(kind(block[half:-4])), int.from_bytes(block[-2:], "big"))
    return Header("known", client, server, secure)


def _is_secure(data: bytes) -> bool:
    """Whether a TLV says that the client uses TLS; other TLVs are skipped. Raises ValueError for malformed ones."""
    secure = False
    while data:
        length = int.from_bytes(data[1:3], "big")
        value = data[3 : 3 + length]
        if len(data) < 3 or len(value) < length or (data[0] == _TLV_SSL and length < 5):
            raise ValueError("the PROXY header is malformed behind its addresses")
        secure = secure or (data[0] == _TLV_SSL and bool(value[0] & _CLIENT_SSL))
        data = data[3 + length :]
    return secure


def _format_address(address: IPv4Address | IPv6Address) -> str:
    return str(address_of(str(address)) or address)


class ProxiedConnection(Timed, asyncio.BufferedProtocol):
    """The protocol of a transport until the PROXY header is complete and, with TLS, until the TLS handshake is done.

    It reads exactly the header: the bytes behind it belong to the next protocol, and event loops offer no way to push
    bytes back before a TLS handshake.
    """

    __slots__ = (
        "_admission",
        "_buffer",
        "_context",
        "_count_key",
        "_data",
        "_make_connection",
        "_peer",
        "_task",
        "_tls",
        "_transport",
    )

    def __init__(
        self,
        context: Context,
        admission: Admission,
        make_connection: Callable[[], H1Connection],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`make_connection()` returns the connection that serves the client; `tls` is the context for clients that must
        use TLS, None without it."""
        self._context = context
        self._admission = admission
        self._make_connection = make_connection
        self._tls = tls
        self._data = b""
        self._buffer = bytearray()
        self._count_key: bytes | None = None  # the key it is counted under, until the HTTP connection takes over
        self._task: asyncio.Task[None] | None = None
        self.deadline = 0.0  # with `tick`: see timers.Timed
        self.tick = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        context = self._context
        self._transport = cast(asyncio.Transport, transport)
        self._peer = peer_of(transport)
        context.live.add(self)
        context.timers.set(self, context.loop.time() + context.config.timeout_header)
        if not self._admission.trusts(self._peer):
            self._refuse("PROXY headers are taken only of peers in --forwarded-allow-ips", unexpected=True)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return a buffer for exactly the bytes that are known to be missing."""
        self._buffer = bytearray(bytes_missing(self._data))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take a part of the header."""
        self._data += self._buffer[:nbytes]
        try:
            if bytes_missing(self._data):
                return
            header = parse(self._data)
        except ValueError as error:
            self._refuse(str(error))
            return
        self._apply_header(header)

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection was lost before the header was complete."""
        if self in self._context.live:
            logger.debug("%s left without a whole PROXY header", self._peer)
        self._unregister()

    def _apply_header(self, header: Header) -> None:
        peer, trusted = self._peer, header.kind == "local"
        if header.kind == "known":
            peer = Peer(header.client, header.server, header.secure)
            trusted = self._admission.trusts_client(header.client)
            key = self._admission.key_of(peer, trusted)
            if not self._admission.add_connection(key, peer):
                self._transport.abort()
                self._unregister()
                return
            self._count_key = key
        if self._tls is None:
            self._start_connection(self._transport, peer, trusted, b"")
        else:
            self._transport.pause_reading()
            self._task = self._context.loop.create_task(self._start_tls(header, trusted))

    async def _start_tls(self, header: Header, trusted: bool) -> None:
        context, buffered = self._context, _BufferingProtocol()
        context.timers.cancel(self)  # the handshake has its own timeout
        try:
            transport = await context.loop.start_tls(
                self._transport,
                buffered,
                cast(ssl.SSLContext, self._tls),
                server_side=True,
                **tls_timeouts(context.config),
            )
        except OSError as error:  # also SSLError and the handshake timeouts of both event loops
            logger.debug("%s: no TLS after the PROXY header: %s", self._peer, error)
            transport = None
        except BaseException:
            self._unregister()
            raise
        if transport is None or transport.is_closing() or buffered.lost:
            self._unregister()
            return
        peer = peer_of(transport)
        if header.kind == "known":
            peer = peer._replace(client=header.client, server=header.server)
        self._start_connection(transport, peer, trusted, bytes(buffered.data))

    def _start_connection(self, transport: asyncio.Transport, peer: Peer, trusted: bool, data: bytes) -> None:
        key, self._count_key = self._count_key, None
        self._unregister()
        connection = self._make_connection()
        connection.begin(self._admission.stream(transport, key), peer, trusted and self._admission.reads_headers)
        transport.set_protocol(cast(asyncio.Protocol, connection))
        if data:
            connection.data_received(data)

    def _refuse(self, why: str, unexpected: bool = False) -> None:
        self._admission.refuse_proxied(self._peer, why, unexpected)
        self._transport.abort()
        self._unregister()

    def _unregister(self) -> None:
        self._admission.remove_connection(self._count_key)
        self._count_key = None
        self._context.timers.cancel(self)
        self._context.live.discard(self)

    # As a LiveConnection

    def on_deadline(self, now: float) -> None:
        """Abort: the header did not arrive in time or, at shutdown, the TLS handshake took too long."""
        if self._task is None:
            self._refuse("the PROXY header took too long")
        else:
            self._transport.abort()

    def shutdown(self) -> None:
        """Allow SHUTDOWN_GRACE seconds for a header that may already be on its way."""
        self._context.timers.set(self, self._context.loop.time() + SHUTDOWN_GRACE)

    def abort(self) -> None:
        """Abort the connection."""
        self._transport.abort()


class _BufferingProtocol(asyncio.Protocol):
    """Buffers what arrives between the end of the TLS handshake and the connection that serves the client."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
