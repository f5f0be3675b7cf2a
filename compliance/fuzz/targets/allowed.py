"""Hosts and origins as clients send them, against what --allowed-hosts and --ws-allowed-origins allow.

- Nothing is raised.
- What is held to be allowed is so by a second, simpler reading; case, a dot at the end, and the form of an IPv6 address
  do not matter.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from compliance.fuzz.findings import require
from flowserve.config import Config
from flowserve.server.admission import _AllowList, _split_host, _split_origin

MAX_LEN = 6000
_CONFIG = Config(
    "",
    allowed_hosts=("example.com", "*.example.org:8443", "[2001:db8::1]"),
    ws_allowed_origins=(
        *("https://example.com", "https://*.example.org"),
        *("http://a.example:8080", "https://[2001:db8::1]"),
    ),
)
_HOSTS = _AllowList(_CONFIG.allowed_hosts, _split_host)
_ORIGINS = _AllowList(_CONFIG.ws_allowed_origins, _split_origin)
_HOST = re.compile(r"example\.com\.?(:\d*)?|.+\.example\.org\.?:0*8443")
_ORIGIN = re.compile(
    r"https://example\.com\.?(:0*443)?|https://.+\.example\.org\.?(:0*443)?|http://a\.example\.?:0*8080"
)
_BRACKETS = re.compile(r"(https://)?\[([^\]]*)\](:\d*)?")


def observe(data: bytes) -> Any:
    text = data.decode("latin-1").lower()
    seen = [_HOSTS.allows(_split_host(text, port)) for port in (80, 443, 8443)]
    origin = _ORIGINS.allows(_split_origin(text))
    if seen[0]:
        require(_HOST.fullmatch(text) is not None or _is_ours(text, ""), "a host passes that is not allowed", text)
    if origin:
        require(
            _ORIGIN.fullmatch(text) is not None or _is_ours(text, "https://"),
            "an origin passes that is not allowed",
            text,
        )
    return [*seen, origin]


def _is_ours(text: str, scheme: str) -> bool:
    match = _BRACKETS.fullmatch(text)
    if match is None or (match[1] or "") != scheme:
        return False
    return ipaddress.ip_address(match[2]) == ipaddress.ip_address("2001:db8::1")
