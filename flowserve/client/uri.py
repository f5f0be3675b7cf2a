"""WebSocket URIs (RFC 6455 section 3)."""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from flowserve.errors import InvalidURI
from flowserve.library.data import plain_str
from flowserve.logs.redaction import shown_target, shown_uri

_PORTS = {"ws": 80, "wss": 443}
_KEPT = "!$%&'()*+,/:;=?@[]~"  # of a path or query: what has a meaning there, and what is escaped already
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=-]+")
_BLANK = re.compile(r"[\x00-\x20\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class URI(NamedTuple):
    """Where a WebSocket is: `host` without brackets, in ASCII and lower case; `target` is what the request asks for."""

    secure: bool
    host: str
    port: int
    target: str
    authorization: bytes | None = None
    """The value of an Authorization header, from the user and password that the URI has in it."""

    @property
    def authority(self) -> bytes:
        """The Host header's value (RFC 9110 section 7.2): the port only if it is not the usual one."""
        return (in_brackets(self.host) if self.port == _PORTS[self.scheme] else self.place).encode("ascii")

    @property
    def place(self) -> str:
        """Host and port, in one."""
        return f"{in_brackets(self.host)}:{self.port}"

    @property
    def origin(self) -> tuple[bool, str, int]:
        """What tells one server from another (RFC 6454 section 4)."""
        return self.secure, self.host, self.port

    @property
    def scheme(self) -> str:
        return "wss" if self.secure else "ws"

    def __str__(self) -> str:
        """The URI as it may be shown: without user and password, and the secrets of its query."""
        return f"{self.scheme}://{self.authority.decode()}{shown_target(self.target)}"


def parse_uri(uri: str) -> URI:
    """Return the parts of a ws:// or wss:// URI. International names and paths are put into ASCII (RFC 3987).

    Raises InvalidURI.
    """
    if not isinstance(uri, str):
        raise InvalidURI(f"text is wanted for a URI, not {type(uri).__name__}")
    uri = plain_str(uri)
    shown = repr(shown_uri(uri))
    if not uri.lower().startswith(("ws://", "wss://")):
        raise InvalidURI(f"{shown} should begin with ws:// or wss://")
    try:
        parts = split(uri)
        host = ascii_host(parts.hostname or "")
    except ValueError as error:
        raise InvalidURI(f"{shown} is no URI: {error}") from None
    if parts.fragment or uri.endswith("#"):
        raise InvalidURI(f"{shown} has a fragment (#), which a WebSocket URI can't have (RFC 6455 section 3)")
    target = quote(parts.path or "/", _KEPT)
    if parts.query:
        target += "?" + quote(parts.query, _KEPT)
    return URI(parts.scheme == "wss", host, parts.port or _PORTS[parts.scheme], target, basic_authorization(parts))


def split(uri: str) -> SplitResult:
    """Return the parts of any URI with a host. Raises ValueError for what is none."""
    if _BLANK.search(uri):
        raise ValueError("it has blanks or control characters in it")
    if _SURROGATE.search(uri):
        raise ValueError("it has a lone surrogate in it, which is no character")
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        if "@" in str(error):  # user and password, with the host
            raise ValueError("it has characters in user, password or host that stand for others") from None
        raise
    if not parts.hostname:
        raise ValueError("it names no host")
    if "[" in parts.netloc:
        ipaddress.IPv6Address(parts.hostname.partition("%")[0])  # what Python looks at itself from 3.11 on
    if _port_of(parts) == 0:
        raise ValueError("there is no port 0")
    return parts


def _port_of(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:  # Python's text has what stands there, which may be part of a password
        raise ValueError("its port is no number from 1 to 65535") from None


def in_brackets(host: str) -> str:
    """`host` as it stands in a URI: an IPv6 address in brackets, without its zone (RFC 6874 section 3)."""
    return f"[{host.partition('%')[0]}]" if ":" in host else host


def ascii_host(host: str) -> str:
    """Return `host` in ASCII and lower case. Raises ValueError if it can't be a host's name or address."""
    if ":" in host:  # an IPv6 address, which urlsplit() has looked at
        return host.replace("%25", "%")
    try:
        found = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        found = ""
    if host and not _HOST.fullmatch(found):
        raise ValueError(f"{host!r} can't be the name of a host")
    return found


def basic_authorization(parts: SplitResult) -> bytes | None:
    """HTTP Basic authentication (RFC 7617) with the user and password of a URI."""
    if parts.username is None:
        return None
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return b"Basic " + base64.b64encode(user.encode())
