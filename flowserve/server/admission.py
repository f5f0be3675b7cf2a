# cython: language_level=3, annotation_typing=False, binding=False
"""The checks before the application is called: which proxies are trusted, and which connections, requests and
WebSockets are served.

A worker has one `Admission`. A connection calls it when it is made (`begin_connection()`), for each request
(`admit()`), and for each opening handshake (`upgrade()`). Each refusal is counted by its reason, see
`Context.count_refusal()`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextvars import Context as Variables
from typing import NamedTuple, Protocol, cast

from flowserve.asgi.context import Context
from flowserve.errors import HandshakeError, RequestError
from flowserve.http.forwarded import TrustedProxies, address_of, forwarded_client
from flowserve.http.messages import RawHeaders, RequestHead
from flowserve.logs.loggers import logger
from flowserve.server.upgrade import Upgrade
from flowserve.transport.interfaces import Peer
from flowserve.transport.stream import TransportStream

_RETRY_AFTER = b"10"
"""Value of the Retry-After field, in seconds, if too many WebSockets are open."""
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_NAME = r"[a-z0-9_.-]+|\[[0-9a-f:.]+\]"
_HOST = re.compile(rf"({_NAME})(?::([0-9]{{0,5}}))?")
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://({_NAME})(?::([0-9]{{1,5}}))?")


class Admitted(Protocol):
    """A connection that can be admitted."""

    def begin(self, stream: TransportStream, peer: Peer, trusted: bool) -> None:
        """Begin to serve. `stream` is over the transport; a `trusted` peer is a proxy whose forwarded header fields are
        used."""

    def abort(self) -> None:
        """Close now."""


class Admission:
    """The checks that the configuration requires."""

    __slots__ = (
        "_checks_peers",
        "_connections",
        "_context",
        "_has_warned",
        "_hosts",
        "_max_body",
        "_max_connections",
        "_max_websockets",
        "_origins",
        "_trusted",
        "health_path",
        "reads_headers",
    )

    def __init__(self, context: Context) -> None:
        config = context.config
        self._context = context
        proxies = config.forwarded_allow_ips if config.proxy_headers or config.proxy_protocol else ()
        self._trusted = TrustedProxies(proxies)
        self._connections: dict[bytes, int] = {}  # how many are open, by `key_of()`
        self._max_body = config.limit_request_body or 0  # in bytes, 0 for no limit
        self._max_connections = config.limit_connections_per_address
        self._max_websockets = config.ws_max_connections
        self._hosts = _allow_list(config.allowed_hosts, _split_host)
        self._origins = _allow_list(config.ws_allowed_origins, _split_origin)
        self._has_warned = False  # an unexpected connection was logged as a warning
        self.reads_headers = config.proxy_headers  # the forwarded header fields of trusted proxies are used
        self.health_path = config.health_path  # None for none
        self._checks_peers = bool(proxies) or self._max_connections is not None

    # Connections

    def begin_connection(self, connection: Admitted, transport: asyncio.BaseTransport, peer: Peer) -> None:
        """Begin a connection, and abort it at once if too many from its address are open."""
        if not self._checks_peers:
            connection.begin(self.stream(transport, None), peer, False)
            return
        trusted = self.trusts(peer)
        key = self.key_of(peer, trusted)
        if self.add_connection(key, peer):
            connection.begin(self.stream(transport, key), peer, trusted and self.reads_headers)
        else:
            connection.begin(self.stream(transport, None), peer, False)
            connection.abort()

    def trusts(self, peer: Peer) -> bool:
        """Whether the peer of a socket is a trusted proxy."""
        if peer.client is not None:
            return self._trusted.trusts_peer(peer.client[0])
        # A peer that has reset the connection has no address either.
        return self._trusted.unix and peer.server is not None and peer.server[1] is None

    def trusts_client(self, client: tuple[str, int] | None) -> bool:
        """Whether the client that a PROXY header names is a trusted proxy itself. It is not by `*`, which is about the
        peers of sockets."""
        address = address_of(client[0]) if client is not None else None
        return address is not None and self._trusted.contains(address)

    def key_of(self, peer: Peer, trusted: bool) -> bytes | None:
        """Return the key by which a connection is counted: its address, or the first 64 bits of an IPv6 address, as one
        client has all addresses with these (RFC 6177). None if it is not counted: without
        --limit-connections-per-address, for trusted proxies, and over UNIX domain sockets."""
        if self._max_connections is None or trusted or peer.client is None:
            return None
        address = address_of(peer.client[0].partition("%")[0])
        return address.packed[:8] if address is not None else None

    def add_connection(self, key: bytes | None, peer: Peer) -> bool:
        """Count a connection; the caller must call `remove_connection(key)` at its end. Return False, and count
        nothing, if too many are open."""
        if key is None:
            return True
        count = self._connections.get(key, 0)
        if self._max_connections is not None and count >= self._max_connections:
            logger.debug("%s refused: too many connections of its address are open", peer)
            self._context.count_refusal("address_limit")
            return False
        self._connections[key] = count + 1
        return True

    def remove_connection(self, key: bytes | None) -> None:
        """Note that a connection that was counted has ended."""
        if key is not None:
            count = self._connections.pop(key) - 1
            if count:
                self._connections[key] = count

    def stream(self, transport: asyncio.BaseTransport, key: bytes | None) -> TransportStream:
        """Return the stream of a connection that is counted by `key`, until the transport is lost."""
        both = cast(asyncio.Transport, transport)  # it reads and writes
        variables = self._context.variables
        if key is None:
            return TransportStream(both, variables)
        return _CountedStream(both, variables, self, key)

    def refuse_proxied(self, peer: Peer, reason: str, unexpected: bool = False) -> None:
        """Log and count a connection that does not begin with the PROXY header that it should.

        The first one that is `unexpected` is logged as a warning, so that a wrong configuration is noticed.
        """
        log = logger.warning if unexpected and not self._has_warned else logger.debug
        self._has_warned = self._has_warned or unexpected
        log("%s refused: %s", peer, reason)
        self._context.count_refusal("proxy_protocol")

    # Requests

    def is_health_check(self, request: RequestHead) -> bool:
        """Whether a request is for --health-path."""
        return self.health_path is not None and request.path == self.health_path and request.method in ("GET", "HEAD")

    def admit(self, request: RequestHead, peer: Peer, proxied: bool) -> Peer:
        """Return the peer of a request: `peer`, or the client that forwarded header fields name if `proxied`, that is
        if the peer is a trusted proxy.

        Raises RequestError for a request that must not be served.
        """
        if proxied and request.forwarded:
            peer = self._forwarded_peer(peer, request.headers)
        if self._hosts is not None:
            self._check_host(request, peer.secure)
        if self._context.is_full():
            self._context.count_refusal("concurrency_limit")
            raise RequestError(503, "The server is at its limit of concurrent connections")
        if self._max_body and request.has_body:
            for value in request.values(b"content-length"):  # there is at most one, a number
                if not self.allows_body(int(value)):
                    raise self.body_refusal()
        return peer

    def allows_body(self, size: int) -> bool:
        """Whether --limit-request-body allows a body of `size` bytes."""
        return self._max_body == 0 or size <= self._max_body

    def body_refusal(self) -> RequestError:
        """Count a request with a body that is too large, and return its error."""
        self._context.count_refusal("body_limit")
        return RequestError(413, f"The request body is too large; the limit is {self._max_body} bytes")

    def upgrade(self, request: RequestHead) -> Upgrade:
        """Return the opening handshake of a request for a WebSocket. Raises HandshakeError if it is malformed, its
        origin is not allowed, or too many WebSockets are open.

        A handshake without Origin is allowed: browsers always send it (RFC 6455 section 4.1), and only browsers can be
        made to open a WebSocket with the credentials of their user.
        """
        try:
            upgrade = Upgrade(request)
        except HandshakeError:
            self._context.count_refusal("bad_handshake")
            raise
        origins = request.values(b"origin") if self._origins is not None else []
        if origins and not (len(origins) == 1 and self._allows_origin(origins[0])):
            self._context.count_refusal("origin_not_allowed")
            raise HandshakeError(403, "WebSockets from this origin are not allowed")
        if self._max_websockets is not None and self._context.websockets >= self._max_websockets:
            self._context.count_refusal("websocket_limit")
            raise HandshakeError(503, "Too many WebSockets are open", [(b"retry-after", _RETRY_AFTER)])
        return upgrade

    def _forwarded_peer(self, proxy: Peer, headers: RawHeaders) -> Peer:
        """Return the peer of a request that came through a trusted proxy. Raises RequestError for forwarded header
        fields that are malformed."""
        try:
            client, secure = forwarded_client(headers, self._trusted)
        except RequestError:
            self._context.count_refusal("forwarded")
            raise
        return proxy._replace(
            client=proxy.client if client is None else client, secure=proxy.secure if secure is None else secure
        )

    def _check_host(self, request: RequestHead, secure: bool) -> None:
        """Raise RequestError if the Host field is missing or not allowed."""
        hosts = cast(_AllowList, self._hosts)
        for value in request.values(b"host"):  # there is at most one
            if hosts.allows(_split_host(value.decode("latin-1").lower(), 443 if secure else 80)):
                return
        self._context.count_refusal("host_not_allowed")
        raise RequestError(400, "This host is not served here")

    def _allows_origin(self, value: bytes) -> bool:
        return self._origins is None or self._origins.allows(_split_origin(value.decode("latin-1").lower()))


class _CountedStream(TransportStream):
    """The stream of a connection that is counted by its address."""

    __slots__ = ("_admission", "_key")

    def __init__(self, transport: asyncio.Transport, variables: Variables, admission: Admission, key: bytes) -> None:
        super().__init__(transport, variables)
        self._admission = admission
        self._key: bytes | None = key

    def lost(self) -> None:
        super().lost()
        self._admission.remove_connection(self._key)
        self._key = None


class _Origin(NamedTuple):
    """An origin (RFC 6454 section 4), or a Host field."""

    scheme: str
    """Empty for a Host field."""
    host: str
    port: int | None
    """None for any."""


class _AllowList:
    """Hosts or origins that are allowed. An entry with `*.` before the host allows all its subdomains."""

    def __init__(self, entries: Sequence[str], split: Callable[[str], _Origin | None]) -> None:
        """`entries` are those of an option, all well-formed; `split` parses one without `*.`"""
        exact = [split(entry) for entry in entries if "*" not in entry]
        parents = [split(entry.replace("*.", "", 1)) for entry in entries if "*" in entry]
        self._exact = frozenset(exact)
        self._parents = tuple(parent for parent in parents if parent is not None)

    def allows(self, origin: _Origin | None) -> bool:
        """Whether `origin` is allowed; None stands for a malformed one."""
        if origin is None:
            return False
        return (
            origin in self._exact
            or origin._replace(port=None) in self._exact
            or any(_is_subdomain(origin, parent) for parent in self._parents)
        )


def _allow_list(entries: Sequence[str], split: Callable[[str], _Origin | None]) -> _AllowList | None:
    """Return the list for an option; None if everything is allowed, without entries or with `*`."""
    return _AllowList(entries, split) if entries and "*" not in entries else None


def _is_subdomain(origin: _Origin, parent: _Origin) -> bool:
    return (
        origin.host.endswith("." + parent.host)
        and len(origin.host) > len(parent.host) + 1
        and origin.scheme == parent.scheme
        and parent.port in (None, origin.port)
    )


def _split_host(value: str, default_port: int | None = None) -> _Origin | None:
    """Parse a Host field in lower case. A fully qualified name may end in a dot, which is removed."""
    match = _HOST.fullmatch(value)
    if match is None:
        return None
    return _Origin("", _canonical_host(match[1].removesuffix(".")), int(match[2]) if match[2] else default_port)


def _split_origin(value: str) -> _Origin | None:
    """Parse an origin in lower case, as serialized (RFC 6454 section 6.1)."""
    if value == "null":
        return _Origin("null", "", None)
    match = _ORIGIN.fullmatch(value)
    if match is None:
        return None
    return _Origin(match[1], _canonical_host(match[2]), int(match[3]) if match[3] else _DEFAULT_PORTS.get(match[1], 0))


def _canonical_host(host: str) -> str:
    """Return a host with an IPv6 address in its canonical form (RFC 5952)."""
    address = address_of(host[1:-1]) if host.startswith("[") else None
    return host if address is None else f"[{address}]"
