"""HTTP proxies: which one to use, and the tunnel that CONNECT opens (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import Literal, NamedTuple

from flowserve.client.http_exchange import Exchange
from flowserve.client.uri import ascii_host, basic_authorization, in_brackets, split
from flowserve.config import Config
from flowserve.errors import HandshakeError, InvalidProxy, ProxyError
from flowserve.http.client import encode_request
from flowserve.logs.redaction import redact_uri

_PORTS = {"http": 80, "https": 443}
_KINDS_FOR_WSS, _KINDS_FOR_WS = ("wss", "socks", "https"), ("ws", "socks", "https", "http")


class Proxy(NamedTuple):
    """An HTTP proxy, reached over TLS if `secure`. `authorization` is the value of Proxy-Authorization, None for
    none."""

    secure: bool
    host: str
    port: int
    authorization: bytes | None = None

    def __str__(self) -> str:
        return f"the proxy http{'s' * self.secure}://{in_brackets(self.host)}:{self.port}"


def find_proxy(wanted: str | Literal[True], secure: bool, host: str, port: int) -> Proxy | None:
    """Return the proxy to use for a server, None for none. `wanted` is the URL of a proxy, or True for the proxy that
    the environment or the system names: wss_proxy, socks_proxy or https_proxy for a `secure` server, ws_proxy,
    socks_proxy, https_proxy or http_proxy for another, unless no_proxy covers `host` and `port`. The websockets library
    looks for the same.

    Raises InvalidProxy.
    """
    if wanted is not True:
        return parse_proxy(wanted)
    proxies = urllib.request.getproxies()
    for kind in _KINDS_FOR_WSS if secure else _KINDS_FOR_WS:
        if proxies.get(kind):
            if urllib.request.proxy_bypass(f"{host}:{port}"):
                return None
            return parse_proxy(proxies[kind], kind)
    return None


def parse_proxy(url: str, kind: str = "http") -> Proxy:
    """Parse the URL of a proxy, which is http:// if it has no scheme; `kind` is that of the variable that named it.

    Raises InvalidProxy.
    """
    shown = repr(redact_uri(url))
    if kind == "socks" or url.lower().startswith("socks"):
        raise InvalidProxy(f"proxy: {shown}: SOCKS is not supported; give an http:// or https:// proxy, or None")
    try:
        parts = split(url if "://" in url else f"http://{url}")
        host = ascii_host(parts.hostname or "")
    except ValueError as error:
        raise InvalidProxy(f"proxy: {shown} is no URL: {error}") from None
    if parts.scheme not in _PORTS:
        raise InvalidProxy(f"proxy: {shown} should begin with http:// or https://")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidProxy(f"proxy: {shown} has something behind host and port, which means nothing for a proxy")
    return Proxy(parts.scheme == "https", host, parts.port or _PORTS[parts.scheme], basic_authorization(parts))


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
