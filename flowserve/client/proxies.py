"""Proxies: which one to use, and the tunnel that CONNECT opens through one of HTTP (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import asyncio
import importlib.util
import urllib.request
from typing import Literal, NamedTuple

from flowserve.client.hosts import in_brackets
from flowserve.client.http_exchange import Exchange
from flowserve.client.no_proxy import is_excluded
from flowserve.client.uri import basic_authorization, credentials, host_of, split
from flowserve.config import Config
from flowserve.errors import HandshakeError, InvalidProxy, ProxyError
from flowserve.http.client import encode_request
from flowserve.logs.redaction import redact_uri

_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
_KINDS_FOR_WSS, _KINDS_FOR_WS = ("wss", "socks", "https", "all"), ("ws", "socks", "https", "http", "all")
_LONGEST_SOCKS_NAME = 255
"""Bytes of a user or password (RFC 1929 section 2)."""


class Proxy(NamedTuple):
    """A proxy."""

    scheme: str
    """How to talk to it: http, https, socks4, socks4a, socks5 or socks5h."""
    host: str
    port: int
    username: str | None = None
    password: str | None = None
    """The credentials for it; both are None for none."""

    @property
    def secure(self) -> bool:
        """Whether it is reached over TLS."""
        return self.scheme == "https"

    @property
    def version(self) -> int | None:
        """The version of SOCKS, 4 or 5; None for an HTTP proxy."""
        return int(self.scheme[5]) if self.scheme.startswith("socks") else None

    @property
    def resolves_names(self) -> bool:
        """Whether it is told the server's name; others of SOCKS are told the address."""
        return self.scheme not in ("socks4", "socks5")

    @property
    def authorization(self) -> bytes | None:
        """The value of Proxy-Authorization, None for none."""
        return None if self.username is None else basic_authorization(self.username, self.password or "")

    def __str__(self) -> str:
        return f"the proxy {self.scheme}://{in_brackets(self.host)}:{self.port}"


def find_proxy(wanted: str | Literal[True], secure: bool, host: str, port: int) -> Proxy | None:
    """Return the proxy to use for a server, None for none. `wanted` is the URL of a proxy, or True for the proxy that
    the environment or the system names: wss_proxy, socks_proxy, https_proxy or all_proxy for a `secure` server,
    ws_proxy, socks_proxy, https_proxy, http_proxy or all_proxy for another, unless no_proxy covers `host` and `port`.
    The websockets library looks for the same, except for all_proxy.

    Raises InvalidProxy.
    """
    if wanted is not True:
        return parse_proxy(wanted)
    proxies = urllib.request.getproxies()
    for kind in _KINDS_FOR_WSS if secure else _KINDS_FOR_WS:
        if proxies.get(kind):
            return None if _is_direct(host, port) else parse_proxy(proxies[kind], kind)
    return None


def _is_direct(host: str, port: int) -> bool:
    """Whether the place that names the proxy, which is the environment if that names anything, excludes a server."""
    variables = urllib.request.getproxies_environment()
    if variables:
        return is_excluded(variables.get("no", ""), host, port)
    return bool(urllib.request.proxy_bypass(f"{host}:{port}"))  # of macOS and Windows


def parse_proxy(url: str, kind: str = "http") -> Proxy:
    """Parse the URL of a proxy, which is http:// if it has no scheme; `kind` is that of the variable that named it.

    socks:// is socks5h://, which the desktops mean that set it, and so is any URL of the kind "socks" that does not say
    otherwise. Raises InvalidProxy, also if the package for SOCKS is missing.
    """
    shown = repr(redact_uri(url))
    if kind == "socks":
        url = f"socks5h://{url.removeprefix('http://')}" if "://" not in url.removeprefix("http://") else url
    try:
        parts = split(url if "://" in url else f"http://{url}")
        host = host_of(parts)
        user, password = credentials(parts) or (None, None)
        scheme = "socks5h" if parts.scheme == "socks" else parts.scheme
    except ValueError as error:
        raise InvalidProxy(f"proxy: {shown} is no URL: {error}") from None
    if scheme not in _PORTS:
        raise InvalidProxy(f"proxy: {shown} should begin with http://, https://, socks5h:// or socks5://")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidProxy(f"proxy: {shown} has something behind host and port, which means nothing for a proxy")
    proxy = Proxy(scheme, host, parts.port or _PORTS[scheme], user, password)
    if proxy.version is not None:
        _check_socks(proxy, shown)
    return proxy


def _check_socks(proxy: Proxy, shown: str) -> None:
    """Raise InvalidProxy for what python-socks can't do."""
    given = (proxy.username or "", proxy.password or "")
    if proxy.username is not None and proxy.version == 5 and not all(given):
        raise InvalidProxy(f"proxy: {shown}: SOCKS 5 wants both, a user and a password, or neither")
    if not all(each.isascii() and "\0" not in each and len(each) <= _LONGEST_SOCKS_NAME for each in given):
        raise InvalidProxy(f"proxy: {shown}: a user or password for SOCKS is at most 255 characters of ASCII")
    if importlib.util.find_spec("python_socks") is None:
        raise InvalidProxy(f"proxy: {shown}: SOCKS needs python-socks; pip install 'python-socks[asyncio]'")


async def tunnel(
    transport: asyncio.Transport, proxy: Proxy, host: str, port: int, user_agent: str | None, config: Config
) -> None:
    """Send CONNECT to the proxy at the other end of `transport`; afterwards the transport, with reading paused, is a
    connection to (`host`, `port`).

    Raises ProxyError, with the proxy's response if there was one, and OSError.
    """
    place = f"{in_brackets(host)}:{port}"
    fields = [(b"host", place.encode("ascii"))]
    if user_agent is not None:
        fields.append((b"user-agent", user_agent.encode("latin-1")))
    if proxy.authorization is not None:
        fields.append((b"proxy-authorization", proxy.authorization))
    exchange = Exchange(transport, "CONNECT", config)
    try:
        response = await exchange.run(encode_request("CONNECT", place, fields))
    except HandshakeError as error:
        raise ProxyError(0, f"{proxy}: {error.detail}") from error.__cause__
    if not 200 <= response.status < 300:
        reason = response.reason.decode("latin-1")
        detail = f"{proxy} did not connect to {place} ({reason})" if reason else f"{proxy} did not connect to {place}"
        raise ProxyError(response.status, detail, response.headers, response.body)
    if exchange.rest or exchange.lost:
        why = "sent data of its own behind its answer" if exchange.rest else "closed the connection"
        raise ProxyError(0, f"{proxy} {why}")
