"""WebSocket URIs (RFC 6455 section 3)."""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from flowserve.client.hosts import ascii_host, in_brackets
from flowserve.errors import InvalidURI
from flowserve.grammar import has_stray_brackets
from flowserve.library.data import plain_str
from flowserve.logs.redaction import redact_target, redact_uri

_PORTS = {"ws": 80, "wss": 443}
_UNESCAPED = "!$%&'()*+,/:;=?@[]~"  # not escaped in a path or query: delimiters, and % of what is escaped already
_BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class URI(NamedTuple):
    """The parts of a WebSocket URI (RFC 6455 section 3)."""

    secure: bool
    """True for wss://, False for ws://."""
    host: str
    """In ASCII and lower case; an IPv6 address without brackets."""
    port: int
    """The port, by default 80 or 443."""
    target: str
    """The request target: path and query, with escapes."""
    authorization: bytes | None = None
    """The value of the Authorization field, made from the user and password in the URI; None without them."""

    @property
    def authority(self) -> bytes:
        """The value of the Host field (RFC 9110 section 7.2): with the port only if it is not the scheme's default."""
        return (in_brackets(self.host) if self.port == _PORTS[self.scheme] else self.host_and_port).encode("ascii")

    @property
    def host_and_port(self) -> str:
        """Host and port, joined by a colon."""
        return f"{in_brackets(self.host)}:{self.port}"

    @property
    def origin(self) -> tuple[bool, str, int]:
        """The origin (RFC 6454 section 4), as a tuple to compare."""
        return self.secure, self.host, self.port

    @property
    def scheme(self) -> str:
        """ws or wss."""
        return "wss" if self.secure else "ws"

    def __str__(self) -> str:
        """Return the URI for messages and logs: without user and password, and with secrets in its query redacted."""
        return f"{self.scheme}://{self.authority.decode()}{redact_target(self.target)}"


def parse_uri(uri: str) -> URI:
    """Parse a ws:// or wss:// URI. Its host may be an international name and its path may hold any characters; both are
    encoded in ASCII (UTS #46, RFC 3987). Raises InvalidURI.
    """
    if not isinstance(uri, str):
        raise InvalidURI(f"text is wanted for a URI, not {type(uri).__name__}")
    uri = plain_str(uri)
    shown = repr(redact_uri(uri))
    if not uri.lower().startswith(("ws://", "wss://")):
        raise InvalidURI(f"{shown} should begin with ws:// or wss://")
    try:
        parts = split(uri)
        host = host_of(parts)
    except ValueError as error:
        raise InvalidURI(f"{shown} is no URI: {error}") from None
    if parts.fragment or uri.endswith("#"):
        raise InvalidURI(f"{shown} has a fragment (#), which a WebSocket URI can't have (RFC 6455 section 3)")
    target = quote(parts.path or "/", _UNESCAPED)
    if parts.query:
        target += "?" + quote(parts.query, _UNESCAPED)
    who = credentials(parts)
    authorization = None if who is None else basic_authorization(*who)
    return URI(parts.scheme == "wss", host, parts.port or _PORTS[parts.scheme], target, authorization)


def split(uri: str) -> SplitResult:
    """Split a URI of any scheme that has a host. Raises ValueError for an invalid one."""
    if _BLANK_OR_CONTROL.search(uri):
        raise ValueError("it has blanks or control characters in it")
    if _SURROGATE.search(uri):
        raise ValueError("it has a lone surrogate in it, which is no character")
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        if "@" in str(error):  # its text may quote user and password
            raise ValueError("it has characters in user, password or host that stand for others") from None
        raise
    if not parts.hostname:
        raise ValueError("it names no host")
    if has_stray_brackets(parts.netloc.rpartition("@")[2]):
        raise ValueError("[ and ] stand around an IPv6 address, and only :PORT may follow")
    if "[" in parts.netloc:
        ipaddress.IPv6Address(parts.hostname.partition("%")[0])  # urlsplit() checks this from Python 3.11 on
    if _port_of(parts) == 0:
        raise ValueError("there is no port 0")
    return parts


def host_of(parts: SplitResult) -> str:
    """Return the host of a split URI in ASCII and lower case (see `ascii_host()`). Raises ValueError for a wrong one.

    `parts.hostname` won't do: Python's lower case of a Greek name is not that of UTS #46.
    """
    place = parts.netloc.rpartition("@")[2]
    return ascii_host(place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0])


def _port_of(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:  # Python's text quotes the port, which may be part of a password
        raise ValueError("its port is no number from 1 to 65535") from None


def credentials(parts: SplitResult) -> tuple[str, str] | None:
    """Return the user and password in a split URI, decoded, None if it has none."""
    return None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))


def basic_authorization(user: str, password: str) -> bytes:
    """Return the value of an Authorization field for HTTP Basic authentication (RFC 7617)."""
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())
