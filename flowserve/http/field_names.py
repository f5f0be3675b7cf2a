"""Names of header fields that requests commonly have."""

from __future__ import annotations

_COMMON_FIELDS = """
accept accept-charset accept-encoding accept-language authorization cache-control connection content-encoding
content-length content-type cookie date dnt expect forwarded from host if-match if-modified-since if-none-match
if-range if-unmodified-since keep-alive origin pragma priority range referer sec-ch-ua sec-ch-ua-mobile
sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-websocket-extensions
sec-websocket-key sec-websocket-protocol sec-websocket-version te trailer transfer-encoding upgrade
upgrade-insecure-requests user-agent via x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto
x-real-ip x-request-id
"""

FORWARDED = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"))
"""Those in which proxies say who the client is."""
INTERPRETED = FORWARDED | {b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade"}
NAMES = {
    spelling.encode(): (name.encode(), name.encode() in INTERPRETED)
    for name in _COMMON_FIELDS.split()
    for spelling in (name, name.title().replace("Websocket", "WebSocket"))
}
"""From the usual spellings of common names to a shared object in lower case, and whether it is in INTERPRETED."""
