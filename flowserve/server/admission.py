# cython: language_level=3, annotation_typing=False, binding=False
"""What is decided before the application is called: which proxies are trusted, and which connections, requests and
WebSockets are served.

A context has one `Admission`. A connection asks it when it begins (`receive()`), for each request (`admit()`), and for
each WebSocket (`upgrade()`). Each refusal is counted by its reason, see `Context.count_refusal()`.
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
"""Seconds after which a client may try again, when there are too many WebSockets."""
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_NAME = r"[a-z0-9_.-]+|\[[0-9a-f:.]+\]"
_HOST = re.compile(rf"({_NAME})(?::([0-9]{{0,5}}))?")
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://({_NAME})(?::([0-9]{{1,5}}))?")


class Admitted(Protocol):
    """A connection that asks to be served."""

    def begin(self, stream: TransportStream, peer: Peer, trusted: bool) -> None:
        """Serve what comes over `stream`. A `trusted` peer is a proxy whose header fields are believed."""

    def abort(self) -> None:
        """End it now."""


class Admission:
    """The checks that the configuration asks for."""

    __slots__ = (
        "_connections",
        "_context",
        "_hosts",
        "_looks_at_peers",
        "_most_connections",
        "_most_websockets",
        "_origins",
        "_trusted",
        "_warned",
        "health_path",
        "reads_headers",
    )

    def __init__(self, context: Context) -> None:
        config = context.config
        self._context = context
        proxies = config.forwarded_allow_ips if config.proxy_headers or config.proxy_protocol else ()
        self._trusted = TrustedProxies(proxies)
        self._connections: dict[bytes, int] = {}
        self._most_connections = config.limit_connections_per_address
        self._most_websockets = config.ws_max_connections
        self._hosts = _places(config.allowed_hosts, _split_host)
        self._origins = _places(config.ws_allowed_origins, _split_origin)
        self._warned = False
        self.reads_headers = config.proxy_headers
        self.health_path = config.health_path
        self._looks_at_peers = bool(proxies) or self._most_connections is not None

    # Connections

    def receive(self, connection: Admitted, transport: asyncio.BaseTransport, peer: Peer) -> None:
        """Let a connection begin, or end it at once where too many of its address are open."""
        if not self._looks_at_peers:
            connection.begin(self.stream(transport, None), peer, False)
            return
        trusted = self.trusts(peer)
        key = self.key_of(peer, trusted)
        if self.enter(key, peer):
            connection.begin(self.stream(transport, key), peer, trusted and self.reads_headers)
        else:
            connection.begin(self.stream(transport, None), peer, False)
            connection.abort()

    def trusts(self, peer: Peer) -> bool:
        """Return whether the peer of a socket is a trusted proxy."""
        if peer.client is not None:
            return self._trusted.trusts_peer(peer.client[0])
        # A peer that has reset the connection has no address either.
        return self._trusted.unix and peer.server is not None and peer.server[1] is None

    def trusts_named(self, client: tuple[str, int] | None) -> bool:
        """Return whether a client that a PROXY header names is itself a trusted proxy: `*` says nothing of it."""
        address = address_of(client[0]) if client is not None else None
        return address is not None and self._trusted.contains(address)

    def key_of(self, peer: Peer, trusted: bool) -> bytes | None:
        """What a connection is counted under: its address, of an IPv6 one the first 64 bits, as one client has all
        the others (RFC 6177). None for those that are not counted: trusted proxies, and UNIX domain sockets."""
        if self._most_connections is None or trusted or peer.client is None:
            return None
        address = address_of(peer.client[0].partition("%")[0])
        return address.packed[:8] if address is not None else None

    def enter(self, key: bytes | None, peer: Peer) -> bool:
        """Count a connection; `leave(key)` is owed. False, and nothing is owed, when there are too many."""
        if key is None:
            return True
        count = self._connections.get(key, 0)
        if self._most_connections is not None and count >= self._most_connections:
            logger.debug("%s refused: too many connections of its address are open", peer)
            self._context.count_refusal("address_limit")
            return False
        self._connections[key] = count + 1
        return True

    def leave(self, key: bytes | None) -> None:
        """A connection that was counted has ended."""
        if key is not None:
            count = self._connections.pop(key) - 1
            if count:
                self._connections[key] = count

    def stream(self, transport: asyncio.BaseTransport, key: bytes | None) -> TransportStream:
        """Return the stream of a connection that has entered under `key`; it leaves when the transport is lost."""
        carrier = cast(asyncio.Transport, transport)
        variables = self._context.variables
        return TransportStream(carrier, variables) if key is None else _CountedStream(carrier, variables, self, key)

    def turn_away(self, peer: Peer, why: str, unexpected: bool = False) -> None:
        """Log and count a connection that did not begin with a PROXY header as it should.

        What is `unexpected` is told of as a warning, once: a wrong configuration must not be silent.
        """
        log = logger.warning if unexpected and not self._warned else logger.debug
        self._warned = self._warned or unexpected
        log("%s refused: %s", peer, why)
        self._context.count_refusal("proxy_protocol")

    # Requests

    def is_health_check(self, request: RequestHead) -> bool:
        """Return whether a request is for --health-path."""
        return self.health_path is not None and request.path == self.health_path and request.method in ("GET", "HEAD")

    def admit(self, request: RequestHead, peer: Peer, proxied: bool) -> Peer:
        """Return the client of a request that is to be served; with `proxied`, as a trusted proxy tells it.

        Raises RequestError for a request that is not to be served.
        """
        if proxied and request.forwarded:
            peer = self._client_behind(peer, request.headers)
        if self._hosts is not None:
            self._check_host(request, peer.secure)
        if self._context.is_full():
            self._context.count_refusal("concurrency_limit")
            raise RequestError(503, "The server is at its limit of concurrent connections")
        return peer

    def upgrade(self, request: RequestHead) -> Upgrade:
        """Return the opening handshake of a request for a WebSocket. Raises HandshakeError for a broken one, for one
        from a page that is not allowed, and for one too many.

        A handshake without Origin passes: browsers always send it (RFC 6455 section 4.1), and they alone can be made
        to open a WebSocket in somebody else's name.
        """
        try:
            upgrade = Upgrade(request)
        except HandshakeError:
            self._context.count_refusal("bad_handshake")
            raise
        origins = request.values(b"origin") if self._origins is not None else []
        if origins and not (len(origins) == 1 and self._holds_origin(origins[0])):
            self._context.count_refusal("origin_not_allowed")
            raise HandshakeError(403, "WebSockets from this origin are not allowed")
        if self._most_websockets is not None and self._context.websockets >= self._most_websockets:
            self._context.count_refusal("websocket_limit")
            raise HandshakeError(503, "Too many WebSockets are open", [(b"retry-after", _RETRY_AFTER)])
        return upgrade

    def _client_behind(self, proxy: Peer, headers: RawHeaders) -> Peer:
        """Return the peer of a request that came through a trusted proxy. Raises RequestError."""
        try:
            client, secure = forwarded_client(headers, self._trusted)
        except RequestError:
            self._context.count_refusal("forwarded")
            raise
        return proxy._replace(
            client=proxy.client if client is None else client, secure=proxy.secure if secure is None else secure
        )

    def _check_host(self, request: RequestHead, secure: bool) -> None:
        """Raise RequestError for a host that is not allowed, or none at all."""
        hosts = cast(_Places, self._hosts)
        for value in request.values(b"host"):  # there is at most one
            if hosts.hold(_split_host(value.decode("latin-1").lower(), 443 if secure else 80)):
                return
        self._context.count_refusal("host_not_allowed")
        raise RequestError(400, "This host is not served here")

    def _holds_origin(self, value: bytes) -> bool:
        return self._origins is None or self._origins.hold(_split_origin(value.decode("latin-1").lower()))


class _CountedStream(TransportStream):
    """The stream of a connection that is counted."""

    __slots__ = ("_admission", "_key")

    def __init__(self, transport: asyncio.Transport, variables: Variables, admission: Admission, key: bytes) -> None:
        super().__init__(transport, variables)
        self._admission = admission
        self._key: bytes | None = key

    def lost(self) -> None:
        super().lost()
        self._admission.leave(self._key)
        self._key = None


class _Place(NamedTuple):
    """A host, or an origin with its scheme; `port` None for any."""

    scheme: str
    host: str
    port: int | None


class _Places:
    """Places that are allowed: exactly these, and with `*.` before a host all its subdomains."""

    def __init__(self, entries: Sequence[str], split: Callable[[str], _Place | None]) -> None:
        """`entries` are as in the options, each well-formed; `split` understands them without `*.`"""
        exact = [split(entry) for entry in entries if "*" not in entry]
        below = [split(entry.replace("*.", "", 1)) for entry in entries if "*" in entry]
        self._exact = frozenset(exact)
        self._below = tuple(place for place in below if place is not None)

    def hold(self, place: _Place | None) -> bool:
        """Return whether `place` is allowed; None stands for one that is not well-formed."""
        if place is None:
            return False
        return (
            place in self._exact
            or place._replace(port=None) in self._exact
            or any(_is_below(place, parent) for parent in self._below)
        )


def _places(entries: Sequence[str], split: Callable[[str], _Place | None]) -> _Places | None:
    """None where everything is allowed: without entries, and with `*`."""
    return _Places(entries, split) if entries and "*" not in entries else None


def _is_below(place: _Place, parent: _Place) -> bool:
    return (
        place.host.endswith("." + parent.host)
        and len(place.host) > len(parent.host) + 1
        and place.scheme == parent.scheme
        and parent.port in (None, place.port)
    )


def _split_host(value: str, default_port: int | None = None) -> _Place | None:
    """A Host field in lower case, without the dot that a fully qualified name may end in."""
    match = _HOST.fullmatch(value)
    if match is None:
        return None
    return _Place("", _canonical(match[1].removesuffix(".")), int(match[2]) if match[2] else default_port)


def _split_origin(value: str) -> _Place | None:
    """An origin in lower case (RFC 6454 section 6.1)."""
    if value == "null":
        return _Place("null", "", None)
    match = _ORIGIN.fullmatch(value)
    if match is None:
        return None
    return _Place(match[1], _canonical(match[2]), int(match[3]) if match[3] else _DEFAULT_PORTS.get(match[1], 0))


def _canonical(host: str) -> str:
    """A host with an IPv6 address in its usual form."""
    address = address_of(host[1:-1]) if host.startswith("[") else None
    return host if address is None else f"[{address}]"
