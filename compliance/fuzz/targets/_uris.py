"""websockets as an oracle for URIs: where both read one, it is the same place."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import unquote_to_bytes

from websockets.exceptions import InvalidProxy, InvalidURI
from websockets.proxy import parse_proxy
from websockets.uri import parse_uri

from compliance.fuzz.findings import require


def agree(text: str, seen: Any) -> bool:
    """Compare a URI and a proxy's URL; False if there was nothing to compare."""
    uri, proxy, _ = seen
    compared = False
    with contextlib.suppress(InvalidURI, ValueError, UnicodeError):
        other = parse_uri(text)
        if uri != "invalid":
            compared = True
            secure, host, port, target, _ = uri
            theirs = (other.secure, _host(other.host), other.port)
            require((secure, _host(host), port) == theirs, "websockets reads another place", uri, theirs)
            # flowserve escapes what a target can't have in it (RFC 3986); websockets sends most of it as it is
            if text.isascii():
                require(
                    unquote_to_bytes(target) == unquote_to_bytes(other.resource_name),
                    "websockets asks for something else",
                    uri,
                    other,
                )
    with contextlib.suppress(InvalidProxy, ValueError, UnicodeError):
        found = parse_proxy(text)
        if proxy != "invalid":
            compared = True
            theirs = (found.scheme == "https", _host(found.host), found.port)
            require((proxy[0], _host(proxy[1]), proxy[2]) == theirs, "websockets reads another proxy", proxy, theirs)
    return compared


def _host(host: str) -> str:
    """Names in the form of both: websockets leaves international ones, and %25 before a zone, as they are."""
    with contextlib.suppress(UnicodeError):
        host = host.encode("idna").decode("ascii")
    return host.lower().replace("%25", "%")
