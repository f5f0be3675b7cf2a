"""The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt): who the client is, said before its bytes.

The specification forbids to guess whether there is a header: where it is expected, each connection has to begin with
one, and connections of others than trusted proxies are ended, as what they say of themselves could be a lie.
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
from flowserve.server.h1_connection import LAST_CALL, H1Connection
from flowserve.server.peers import peer_of
from flowserve.server.tls import tls_timeouts
from flowserve.transport.interfaces import Peer

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LONGEST_LINE = 107
_SHORTEST_LINES = {  # by the family
    b"TCP4": len("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"),
    b"TCP6": len("PROXY TCP6 :: :: 0 0\r\n"),
    b"UNKN": len("PROXY UNKNOWN\r\n"),
}
_LONGEST = 16384
"""Bytes of a version 2 header; what is beyond its addresses, such as a client's certificate, seldom needs a tenth."""
_PORT = rb"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?"
    rb"|TCP4 ([0-9.]+) ([0-9.]+) %b %b|TCP6 ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) %b %b)\r\n" % ((_PORT,) * 4)
)
_LOCAL, _PROXY = 0, 1
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_BLOCKS = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}
"""Bytes of addresses, by the family."""
_TLV_SSL = 0x20
_CLIENT_SSL = 0x01


class Header(NamedTuple):
    """What a PROXY header says.

    `kind`: 'local' for a connection of the proxy's own, 'unknown' for a client that it knows nothing of, else 'known'.
    `client` is None for one that came over a UNIX domain socket. `secure`: the client spoke TLS with the proxy.
    """

    kind: Literal["local", "unknown", "known"]
    client: tuple[str, int] | None = None
    server: tuple[str, int | None] | None = None
    secure: bool = False


def missing(data: bytes) -> int:
    """Return how many bytes a header that begins with `data` has at least behind it; 0 when it is complete.

    Whoever reads no more than that never reads what belongs to the client. Raises ValueError for what is no header.
    """
    if _SIGNATURE.startswith(data[:12]):
        if len(data) < 16:
            return (12 if len(data) < 12 else 16) - len(data)
        return _missing_binary(data)
    if not data.startswith(b"PROXY "[: len(data)]):
        raise ValueError("the connection does not begin with a PROXY header")
    return _missing_line(data)


def _missing_line(data: bytes) -> int:
    if len(data) < 12:
        return 12 - len(data)
    shortest = _SHORTEST_LINES.get(data[6:10])
    if shortest is None:
        raise ValueError("the PROXY header names no family that there is")
    end = data.find(b"\r")
    if end < 0:
        wanted = max(2, shortest - len(data))
    elif data[end:] == b"\r\n":
        return 0
    elif data[end:] == b"\r":
        wanted = 1
    else:
        raise ValueError("the PROXY header is malformed")
    if b"\n" in data or len(data) + wanted > _LONGEST_LINE:
        raise ValueError("the PROXY header is malformed: no CRLF within 107 bytes")
    return wanted


def _missing_binary(data: bytes) -> int:
    length = int.from_bytes(data[14:16], "big") + 16
    if data[12] >> 4 != 2:
        raise ValueError("the PROXY header is of a version that is neither 1 nor 2")
    if length > _LONGEST:
        raise ValueError(f"the PROXY header is too long: {length} bytes")
    return length - len(data)


def parse(data: bytes) -> Header:
    """Return what a complete header says. Raises ValueError for a malformed one."""
    return _parse_binary(data) if data.startswith(_SIGNATURE) else _parse_line(data)


def _parse_line(data: bytes) -> Header:
    match = _LINE.fullmatch(data)
    if match is None:
        raise ValueError("the PROXY header is malformed")
    source, target, source_port, target_port = match.groups()[:4] if match[1] else match.groups()[4:]
    if source is None:
        return Header("unknown")
    kind = IPv4Address if match[1] else IPv6Address
    client = (_host(kind(source.decode())), int(source_port))
    server = (_host(kind(target.decode())), int(target_port))
    if max(client[1], server[1]) > 65535:
        raise ValueError("the PROXY header has a port above 65535")
    return Header("known", client, server)


def _parse_binary(data: bytes) -> Header:
    command, family, transport = data[12] & 15, data[13] >> 4, data[13] & 15
    if command == _LOCAL:
        return Header("local")
    if command != _PROXY or family not in _BLOCKS or transport > 2:
        raise ValueError("the PROXY header has a command or family that there is not")
    if family == _UNSPEC or transport == _UNSPEC:
        return Header("unknown")
    size = _BLOCKS[family]
    block, rest = data[16 : 16 + size], data[16 + size :]
    if len(block) < size:
        raise ValueError("the PROXY header is too short for its addresses")
    secure = _is_secure(rest)
    if family == _UNIX:
        path = block[108:].partition(b"\0")[0]
        return Header("known", None, (os.fsdecode(path), None) if path else None, secure)
    half = (size - 4) // 2
    kind = IPv4Address if family == _INET else IPv6Address
    client = (_host(kind(block[:half])), int.from_bytes(block[-4:-2], "big"))
    server = (_host(kind(block[half:-4])), int.from_bytes(block[-2:], "big"))
    return Header("known", client, server, secure)


def _is_secure(data: bytes) -> bool:
    """Whether one of the TLVs says that the client speaks TLS; the others are skipped."""
    secure = False
    while data:
        length = int.from_bytes(data[1:3], "big")
        value = data[3 : 3 + length]
        if len(data) < 3 or len(value) < length or (data[0] == _TLV_SSL and length < 5):
            raise ValueError("the PROXY header is malformed behind its addresses")
        secure = secure or (data[0] == _TLV_SSL and bool(value[0] & _CLIENT_SSL))
        data = data[3 + length :]
    return secure


def _host(address: IPv4Address | IPv6Address) -> str:
    return str(address_of(str(address)) or address)


class ProxiedConnection(asyncio.BufferedProtocol):
    """The protocol of a transport until the PROXY header has come, then until the TLS handshake is done, if there is
    one.

    It reads exactly the header: what comes behind it is for whoever comes next, and event loops can't be given bytes
    back for a TLS handshake.
    """

    __slots__ = (
        "_admission",
        "_buffer",
        "_context",
        "_data",
        "_key",
        "_make",
        "_peer",
        "_task",
        "_tls",
        "_transport",
        "deadline",
        "tick",
    )

    def __init__(
        self,
        context: Context,
        admission: Admission,
        make: Callable[[], H1Connection],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`make` gives the connection that serves the client; `tls` is for a client that has to speak TLS."""
        self._context = context
        self._admission = admission
        self._make = make
        self._tls = tls
        self._data = b""
        self._buffer = bytearray()
        self._key: bytes | None = None  # what it was counted under, until the HTTP connection has taken over
        self._task: asyncio.Task[None] | None = None
        self.deadline = 0.0
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
        """Room for what is missing, and not a byte more."""
        self._buffer = bytearray(missing(self._data))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Some of the header has come."""
        self._data += self._buffer[:nbytes]
        try:
            if missing(self._data):
                return
            header = parse(self._data)
        except ValueError as error:
            self._refuse(str(error))
            return
        self._enter(header)

    def eof_received(self) -> None:
        """The peer has nothing more to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone before there was a header."""
        if self in self._context.live:
            logger.debug("%s left without a whole PROXY header", self._peer)
        self._forget()

    def _enter(self, header: Header) -> None:
        peer, trusted = self._peer, header.kind == "local"
        if header.kind == "known":
            peer = Peer(header.client, header.server, header.secure)
            trusted = self._admission.trusts_named(header.client)
            key = self._admission.key_of(peer, trusted)
            if not self._admission.enter(key, peer):
                self._transport.abort()
                self._forget()
                return
            self._key = key
        if self._tls is None:
            self._hand_over(self._transport, peer, trusted, b"")
        else:
            self._transport.pause_reading()
            self._task = self._context.loop.create_task(self._start_tls(header, trusted))

    async def _start_tls(self, header: Header, trusted: bool) -> None:
        context, held = self._context, _Held()
        context.timers.cancel(self)  # the handshake has its own time
        try:
            transport = await context.loop.start_tls(
                self._transport,
                held,
                cast(ssl.SSLContext, self._tls),
                server_side=True,
                **tls_timeouts(context.config),
            )
        except OSError as error:  # SSLError is one, and so are the timeouts of both event loops
            logger.debug("%s: no TLS after the PROXY header: %s", self._peer, error)
            transport = None
        except BaseException:
            self._forget()
            raise
        if transport is None or transport.is_closing() or held.lost:
            self._forget()
            return
        peer = peer_of(transport)
        if header.kind == "known":
            peer = peer._replace(client=header.client, server=header.server)
        self._hand_over(transport, peer, trusted, bytes(held.data))

    def _hand_over(self, transport: asyncio.Transport, peer: Peer, trusted: bool, data: bytes) -> None:
        key, self._key = self._key, None
        self._forget()
        connection = self._make()
        connection.begin(self._admission.stream(transport, key), peer, trusted and self._admission.reads_headers)
        transport.set_protocol(cast(asyncio.Protocol, connection))
        if data:
            connection.data_received(data)

    def _refuse(self, why: str, unexpected: bool = False) -> None:
        self._admission.turn_away(self._peer, why, unexpected)
        self._transport.abort()
        self._forget()

    def _forget(self) -> None:
        self._admission.leave(self._key)
        self._key = None
        self._context.timers.cancel(self)
        self._context.live.discard(self)

    # As something live

    def on_deadline(self, now: float) -> None:
        """The header did not come in time, or at shutdown the TLS handshake."""
        if self._task is None:
            self._refuse("the PROXY header took too long")
        else:
            self._transport.abort()

    def shutdown(self) -> None:
        """Give what may be on its way its time."""
        self._context.timers.set(self, self._context.loop.time() + LAST_CALL)

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()


class _Held(asyncio.Protocol):
    """Keeps what comes in the moment between the end of the TLS handshake and the connection that serves it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
