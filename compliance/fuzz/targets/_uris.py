"""websockets as an oracle for URIs: where both read one, it is the same place. It encodes international names by IDNA
2003; what they should become says the idna package, which is stricter than browsers and flowserve."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import idna
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
            theirs = (other.secure, _host(text, other.host), other.port)
            require((secure, host, port) == theirs, "websockets reads another place", uri, theirs)
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
            port = found.port if urlsplit(text).port else proxy[2]  # theirs by default is 80, for SOCKS too
            place = (found.scheme, _host(text, found.host), port)
            require(tuple(proxy[:3]) == place, "websockets reads another proxy", proxy, place)
    return compared


def _host(text: str, host: str) -> str:
    """The host that websockets has read in `text`, in the form of flowserve. Raises UnicodeError if the idna package
    takes it for none."""
    if not text.isascii():
        host = urlsplit(text).netloc.rpartition("@")[2]  # as it was written
        if not host.startswith("["):
            return idna.encode(host.partition(":")[0], uts46=True).decode()
        host = host[1:].partition("]")[0]
    return host.lower().replace("%25", "%")
