"""Recognising other protocols on a port for HTTP/1.1, mostly caused by a wrong setting. No I/O."""

from __future__ import annotations

import re

from flowserve.errors import ForeignProtocol

_KNOWN = (
    (
        re.compile(rb"\x16(?:\x03|\Z)"),  # a handshake record (RFC 8446 section 5.1)
        400,
        "This port speaks no TLS; use http:// or ws://",
        "speaks TLS, and this port does not: use http:// or ws:// there, or --ssl-certfile here",
    ),
    (
        re.compile(rb"PRI \* HTTP/2"),  # RFC 9113 section 3.4
        505,
        "HTTP/2 is not spoken here; use HTTP/1.1",
        "speaks HTTP/2 without asking first, and only HTTP/1.1 is spoken here: set the proxy or client to HTTP/1.1",
    ),
    (
        re.compile(rb"PROXY (?:TCP|UNK)|\r\n\r\n\0"),  # haproxy.org, doc/proxy-protocol.txt
        400,
        "The PROXY protocol is not expected on this port",
        "sends a PROXY header, which is not expected: use --proxy-protocol here, or turn it off in the proxy",
    ),
)


def foreign_protocol(first: bytes) -> ForeignProtocol | None:
    """Return the error for a connection that sent `first` in place of a request line, if it belongs to a known other
    protocol; otherwise None."""
    for pattern, status, detail, hint in _KNOWN:
        if pattern.match(first):
            return ForeignProtocol(status, detail, hint)
    return None
