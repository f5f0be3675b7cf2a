# cython: language_level=3, annotation_typing=False, binding=False
"""The server's side of the opening handshake, as functions over header lists (RFC 6455 section 4.2)."""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from hashlib import sha1

from flowserve.errors import ASGIMisuse, HandshakeError
from flowserve.grammar import is_token_bytes
from flowserve.websocket.constants import GUID
from flowserve.websocket.negotiation import check_extensions

_RESERVED_FIELDS = frozenset(
    b"upgrade connection sec-websocket-accept sec-websocket-protocol sec-websocket-extensions"
    b" content-length transfer-encoding".split()
)
"""Fields that an application must not add to the 101: those of the handshake, and those that frame a body (RFC 9110
section 8.6)."""

Headers = Iterable[tuple[bytes, bytes]]

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_MAX_SUBPROTOCOLS = 16384
"""Bytes of all subprotocols that a client offers. Some clients put a token of several KiB there, but thousands of names
take milliseconds to parse."""


def check_request(method: str, http_version: str, headers: Headers) -> tuple[bytes, list[str]]:
    """Return the key of a client's HTTP/1.1 handshake and the subprotocols that it offers, in order of preference.

    Names in `headers` are in lower case. Raises HandshakeError, with the response to send, for a request that RFC 6455
    section 4.2.1 does not allow, and for one with a body, which could not be told from frames.
    """
    upgrades = connects = has_body = False
    extensions: list[bytes] = []
    keys: list[bytes] = []
    versions: list[bytes] = []
    subprotocols: list[bytes] = []
    for name, value in headers:
        if name == b"upgrade":
            upgrades = upgrades or _has_token(value, b"websocket")
        elif name == b"connection":
            connects = connects or _has_token(value, b"upgrade")
        elif name == b"sec-websocket-key":
            keys.append(value)
        elif name == b"sec-websocket-version":
            versions.append(value)
        elif name == b"sec-websocket-protocol":
            subprotocols.append(value)
        elif name == b"sec-websocket-extensions":
            extensions.append(value)
        elif name == b"content-length" or name == b"transfer-encoding":
            has_body = has_body or bool(value.strip(b"0"))
    if method != "GET":
        raise HandshakeError(405, "A WebSocket is opened with GET", [(b"allow", b"GET")])
    if http_version != "1.1":
        raise HandshakeError(400, "A WebSocket is opened with HTTP/1.1")
    if not upgrades:
        raise HandshakeError(400, "'Upgrade: websocket' is missing")
    if not connects:
        raise HandshakeError(400, "'Connection: Upgrade' is missing; a proxy may have removed it")
    if versions != [b"13"]:
        raise HandshakeError(426, "Only version 13 of WebSocket is spoken here", [
            (b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"),
        ])  # fmt: skip
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise HandshakeError(400, "Sec-WebSocket-Key must be given once, 16 bytes in base64")
    if has_body:
        raise HandshakeError(400, "A request for a WebSocket has no body")
    if extensions:
        check_extensions(extensions)
    return keys[0], _parse_subprotocols(subprotocols) if subprotocols else []


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    return b2a_base64(sha1(key + GUID, usedforsecurity=False).digest(), newline=False)


def response_fields(
    key: bytes, subprotocol: str | None, extensions: bytes | None, extra: Sequence[tuple[bytes, bytes]] = ()
) -> list[tuple[bytes, bytes]]:
    """Return the handshake's own header fields of the 101 response (RFC 6455 section 4.2.2), names in lower case.

    `extensions` is the value of Sec-WebSocket-Extensions, None to leave it out. `extra` are the application's fields,
    which are only checked: raises ASGIMisuse if one of them belongs to the handshake.
    """
    fields = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", accept_key(key))]
    if subprotocol is not None:
        fields.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
    if extensions is not None:
        fields.append((b"sec-websocket-extensions", extensions))
    for name, _ in extra:
        if name.lower() in _RESERVED_FIELDS:
            raise ASGIMisuse(f"the server sends {name.decode('latin-1')!r}; a subprotocol has its own key")
    return fields


def _has_token(value: bytes, token: bytes) -> bool:
    """Whether `token` (lower case) is in a comma-separated list, in upper or lower case."""
    lower = value.lower()
    return lower == token or token in [member.strip(b" \t") for member in lower.split(b",")]


def _parse_subprotocols(values: list[bytes]) -> list[str]:
    """Return the client's list without duplicates (RFC 6455 section 4.1 point 10)."""
    found: dict[str, None] = {}
    if sum(map(len, values)) > _MAX_SUBPROTOCOLS:
        raise HandshakeError(431, f"Sec-WebSocket-Protocol has more than {_MAX_SUBPROTOCOLS} bytes")
    for value in values:
        for member in value.split(b","):
            name = member.strip(b" \t")
            if not name:
                continue  # recipients ignore empty members (RFC 9110 section 5.6.1)
            if not is_token_bytes(name):
                raise HandshakeError(400, "Sec-WebSocket-Protocol must be a list of tokens")
            found[name.decode("ascii")] = None
    return list(found)
