"""Checks of the arguments of `connect()`; each error names the argument that is wrong."""

from __future__ import annotations

import os
import socket
import ssl as tls
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from flowserve.client.dial import Route, TLSOptions
from flowserve.client.handshake import HandshakeRequest
from flowserve.client.hosts import ascii_host
from flowserve.client.proxies import parse_proxy
from flowserve.client.uri import URI
from flowserve.config.kinds import Kind, duration, number, optional, path, text
from flowserve.errors import ASGIMisuse, ConfigError
from flowserve.grammar import is_token
from flowserve.http.client import encode_request
from flowserve.http.headers import Headers
from flowserve.library.data import plain_str

HeadersLike = Headers | Mapping[str, str] | Iterable[tuple[str, str]]

_TLS_ARGUMENTS = ("ssl_handshake_timeout", "ssl_shutdown_timeout")
_OPTIONAL_PATH = optional(path())
_HANDSHAKE_FIELDS = (b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-accept",
    b"sec-websocket-protocol", b"sec-websocket-extensions", b"content-length", b"transfer-encoding")  # fmt: skip


@dataclass(frozen=True, slots=True)
class RouteArguments:
    """The arguments of `connect()` that say how to reach the server, as they were passed."""

    ssl: tls.SSLContext | Literal[True] | None
    ca_file: str | os.PathLike[str] | None
    server_hostname: str | None
    host: str | None
    port: int | None
    uds: str | os.PathLike[str] | None
    sock: socket.socket | None
    local_addr: tuple[str, int] | None
    proxy: str | Literal[True] | None
    proxy_ssl: tls.SSLContext | None

    def make_route(self, uri: URI, options: dict[str, Any]) -> Route:
        """Return the Route to the server at `uri`. The arguments for the event loop are removed from `options`, the
        keyword arguments of `connect()` that are not parameters of it. Raises ConfigError and InvalidProxy."""
        self._check_tls(uri)
        self._check_address()
        self._check_proxy()
        route = Route(
            TLSOptions(None if self.ssl is True else self.ssl, _parse("ca_file", _OPTIONAL_PATH, self.ca_file)),
            _host("server_hostname", self.server_hostname),
            _host("host", self.host),
            _parse("port", optional(number(1, 65535)), self.port),
            _parse("uds", _OPTIONAL_PATH, self.uds),
            _stream_socket(self.sock),
            _local_address(self.local_addr),
            self.proxy,
            TLSOptions(self.proxy_ssl),
        )
        return _take_loop_arguments(route, options)

    def _check_tls(self, uri: URI) -> None:
        ssl, ca_file = self.ssl, self.ca_file
        for name, value in (("ssl", ssl), ("ca_file", ca_file), ("server_hostname", self.server_hostname)):
            if value is not None and not uri.secure:
                raise ConfigError(f"{name}: {uri} is without TLS; write wss:// for a server that has it")
        for name, context in (("ssl", ssl), ("proxy_ssl", self.proxy_ssl)):
            if context is not None and not isinstance(context, tls.SSLContext) and (name, context) != ("ssl", True):
                raise ConfigError(f"{name}: {context!r} is no ssl.SSLContext")
        if isinstance(ssl, tls.SSLContext) and ca_file is not None:
            raise ConfigError("ca_file: means nothing beside ssl; load it into that context")

    def _check_address(self) -> None:
        ways = {"uds": self.uds, "sock": self.sock, "host": self.host}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1 or (self.port and given in (["uds"], ["sock"])):
            raise ConfigError(f"{given[0]}: leads to the server already; leave out {(given[1:] or ['port'])[0]}")

    def _check_proxy(self) -> None:
        if self.proxy is True or self.proxy is None:
            return
        if not isinstance(self.proxy, str):
            raise ConfigError(f"proxy: {self.proxy!r} is neither a URL nor True nor None")
        parse_proxy(self.proxy)
        if self.uds is not None or self.sock is not None:
            given = "uds" if self.uds is not None else "sock"
            raise ConfigError(f"proxy: can't be gone through with {given}; leave one of them out")


def _take_loop_arguments(route: Route, options: dict[str, Any]) -> Route:
    """Move the arguments that are for the event loop from `options` into the returned copy of `route`."""

    def take(*names: str, prefix: str = "") -> dict[str, Any]:
        found = {name: options.pop(prefix + name) for name in names if prefix + name in options}
        return {name: value for name, value in found.items() if value is not None}

    connect_arguments = take("family", "proto", "flags", "interleave")
    if "interleave" in connect_arguments:
        checked_number("interleave", connect_arguments["interleave"])
    if "happy_eyeballs_delay" in options:  # None is a value too
        connect_arguments["happy_eyeballs_delay"] = checked_seconds(
            "happy_eyeballs_delay", options.pop("happy_eyeballs_delay")
        )
    return replace(
        route,
        connect_arguments=connect_arguments,
        tls_arguments=take(*_TLS_ARGUMENTS),
        proxy_tls_arguments=take(*_TLS_ARGUMENTS, prefix="proxy_"),
        proxy_server_hostname=_host("proxy_server_hostname", options.pop("proxy_server_hostname", None)),
    )


def make_handshake_request(
    subprotocols: Sequence[str] | None, headers: HeadersLike | None, origin: str | None, user_agent: str | None
) -> HandshakeRequest:
    """Return the HandshakeRequest that these arguments of `connect()` describe. Raises ConfigError."""
    if isinstance(subprotocols, (str, bytes)):
        raise ConfigError(f"subprotocols: a list is wanted, not {subprotocols!r} alone")
    for name in subprotocols or ():
        if not isinstance(name, str) or not is_token(name):
            raise ConfigError(f"subprotocols: {name!r} can't be the name of one (RFC 6455 section 4.1 point 10)")
    names = tuple(map(plain_str, subprotocols or ()))
    if len(set(names)) < len(names):
        raise ConfigError("subprotocols: each may be named once")
    pairs = _header_fields(headers)
    given = {name.lower() for name, _ in pairs}
    for each in _HANDSHAKE_FIELDS:
        if each in given:
            raise ConfigError(f"additional_headers: {each.decode()!r} belongs to the handshake; connect() makes it")
    if origin is not None:
        if b"origin" in given:
            raise ConfigError("origin: is in additional_headers already")
        pairs.insert(0, _field("origin", "Origin", origin))
    if user_agent is not None and b"user-agent" not in given:
        pairs.append(_field("user_agent_header", "User-Agent", user_agent))
    return HandshakeRequest(names, pairs, user_agent)


def checked_seconds(name: str, value: Any) -> float | None:
    """Return a duration in seconds; None for None and for 0, which mean no limit. Raises ConfigError."""
    return _parse(name, optional(duration(zero=True)), value) or None


def checked_number(name: str, value: Any) -> int:
    """Return an int of at least 0. Raises ConfigError."""
    return _parse(name, number(0), value)  # type: ignore[no-any-return]


def _parse(name: str, kind: Kind, value: Any) -> Any:
    try:
        return kind.parse(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from None


def _host(name: str, host: Any) -> str | None:
    if host is None:
        return None
    try:
        return ascii_host(text().parse(host).strip("[]"))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def _stream_socket(sock: Any) -> socket.socket | None:
    if sock is not None and (not isinstance(sock, socket.socket) or sock.type != socket.SOCK_STREAM):
        raise ConfigError(f"sock: {sock!r} is no stream socket")
    return sock


def _local_address(address: Any) -> tuple[str, int] | None:
    if address is None:
        return None
    if not isinstance(address, (tuple, list)) or len(address) != 2:
        raise ConfigError(f"local_addr: (host, port) is wanted, not {address!r}")
    return address[0], address[1]


def _header_fields(given: Any) -> list[tuple[bytes, bytes]]:
    if isinstance(given, Headers):
        given = given.raw_items()
    elif isinstance(given, Mapping):
        given = given.items()
    try:
        pairs = list(given or ())
        return [_field("additional_headers", name, value) for name, value in pairs]
    except (TypeError, ValueError):
        raise ConfigError("additional_headers: a mapping is wanted, or pairs of str (name, value)") from None


def _field(option: str, name: Any, value: Any) -> tuple[bytes, bytes]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise ConfigError(f"{option}: {value!r} of {name!r} is not str")
    try:
        field = str.encode(name, "latin-1"), str.encode(value, "latin-1")
        encode_request("GET", "/", [field])
    except UnicodeEncodeError:
        raise ConfigError(f"{option}: {value!r} has characters that a header can't have") from None
    except ASGIMisuse as error:
        raise ConfigError(f"{option}: {error}") from None
    return field
