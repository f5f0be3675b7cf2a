"""X-Forwarded-For, X-Forwarded-Proto and Forwarded, as a server reads them that a trusted proxy has sent.

An input is a head's fields, a line each.

- Only RequestError (400) is raised.
- The client is an IP address in its usual form, its port from 0 to 65535.
- What a client writes changes nothing of what its proxy writes behind it: with an address at the right end that is no
  proxy's, it is the client, and the proxy's scheme is its scheme.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from compliance.fuzz.findings import Broken, require
from flowserve.errors import RequestError
from flowserve.http.forwarded import TrustedProxies, forwarded_client
from flowserve.http.messages import RawHeaders

_TRUSTED = TrustedProxies(["127.0.0.1", "10.0.0.0/8", "::1", "fd00::/8", "unix"])
_NAMES = (b"x-forwarded-for", b"x-forwarded-proto", b"forwarded")
_CLIENT = "203.0.113.9"


def observe(data: bytes) -> Any:
    fields = list(_fields(data))
    seen = _seen(fields)
    for name, written in (
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"forwarded", b"for=203.0.113.9;proto=https"),
        (b"forwarded", b'proto="https";for="203.0.113.9:1"'),
    ):
        _proxy_leads([field for field in fields if field[0] == name], name, written)
    return seen


def _fields(data: bytes) -> RawHeaders:
    found: RawHeaders = []
    for line in data.replace(b"\r", b"").replace(b"\0", b"").split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and name.lower() in _NAMES:
            found.append((name.lower(), value.strip(b" \t")))
    return found


def _seen(fields: RawHeaders) -> Any:
    try:
        client, secure = forwarded_client(fields, _TRUSTED)
    except RequestError as error:
        require(error.status == 400, "another status than 400")
        return error.detail
    if client is not None:
        host, port = client
        require(str(ipaddress.ip_address(host)) == host, "an address not in its usual form", host)
        require(0 <= port <= 65535, "a port that is none", port)
    return client, secure


def _proxy_leads(before: RawHeaders, name: bytes, written: bytes) -> None:
    """The proxy appends to the last field, or sends one more: the client can't keep it from being heard."""
    joined = [*before[:-1], (name, b", ".join([before[-1][1], written]))] if before else [(name, written)]
    for fields in (joined, [*before, (name, written)]):
        client, secure = forwarded_client(fields, _TRUSTED)
        if client is None or client[0] != _CLIENT:
            raise Broken(f"{name.decode()}: what a client writes hides what its proxy writes", fields, client)
        require(name != b"forwarded" or secure is True, "the proxy's scheme is not heard", fields)
