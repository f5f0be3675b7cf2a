"""WebSocket URIs (RFC 6455 section 3)."""

from __future__ import annotations

import base64
import re
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from flowserve.errors import InvalidURI

_PORTS = {"ws": 80, "wss": 443}
_KEPT = "!#$%&'()*+,/:;=?@[]~"  # of a path or query: what has a meaning there, and what is escaped already


class URI(NamedTuple):
    """Where a WebSocket is: `host` without brackets, in ASCII; `target` is what the request asks for."""

    secure: bool
    host: str
    port: int
    target: str
    authorization: bytes | None = None
    """The value of an Authorization header, from the user and password that the URI has in it."""

    @property
    def authority(self) -> bytes:
        """The Host header's value (RFC 9110 section 7.2): the port only if it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}").encode("ascii")

    @property
    def scheme(self) -> str:
        return "wss" if self.secure else "ws"

    def __str__(self) -> str:
        """The URI without user and password."""
        return f"{self.scheme}://{self.authority.decode()}{self.target}"


def parse_uri(uri: str) -> URI:
    """Return the parts of a ws:// or wss:// URI. International names and paths are put into ASCII (RFC 3987).

    Raises InvalidURI.
    """
    if re.search(r"[\x00-\x20\x7f]", uri):
        raise InvalidURI(f"{uri!r} has blanks or control characters in it")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise InvalidURI(f"{uri!r} is no URI: {error}") from None
    if parts.scheme not in _PORTS:
        raise InvalidURI(f"{uri!r} should begin with ws:// or wss://")
    if not parts.hostname:
        raise InvalidURI(f"{uri!r} names no host")
    if port == 0:
        raise InvalidURI(f"{uri!r}: there is no port 0")
    if parts.fragment or uri.endswith("#"):
        raise InvalidURI(f"{uri!r} has a fragment (#), which a WebSocket URI can't have (RFC 6455 section 3)")
    target = quote(parts.path or "/", _KEPT)
    if parts.query:
        target += "?" + quote(parts.query, _KEPT)
    host = _ascii_host(uri, parts.hostname)
    return URI(parts.scheme == "wss", host, port or _PORTS[parts.scheme], target, _authorization(parts))


def _ascii_host(uri: str, host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise InvalidURI(f"{uri!r}: {host!r} can't be the name of a host") from None


def _authorization(parts: SplitResult) -> bytes | None:
    """HTTP Basic authentication (RFC 7617)."""
    if parts.username is None:
        return None
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return b"Basic " + base64.b64encode(user.encode())
