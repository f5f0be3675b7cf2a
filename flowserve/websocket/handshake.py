"""The opening handshake as functions over header lists (RFC 6455 section 4)."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable, Sequence

from flowserve.errors import ASGIMisuse, HandshakeError
from flowserve.websocket.constants import GUID

_SERVERS_OWN = frozenset(
    (b"sec-websocket-protocol", b"sec-websocket-extensions", b"content-length", b"transfer-encoding")
)
"""Not for an application to put into the 101: the handshake's, and what frames a body (RFC 9110 section 8.6)."""

Headers = Iterable[tuple[bytes, bytes]]

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def check_request(method: str, http_version: str, headers: Headers) -> tuple[bytes, list[str]]:
    """Return the key and the subprotocols that a client's HTTP/1.1 handshake offers, in its order of preference.

    Names in `headers` are in lower case. Raises HandshakeError, with the answer to give, for a request that RFC 6455
    section 4.2.1 does not allow.
    """
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        fields.setdefault(name, []).append(value)
    if method != "GET":
        raise HandshakeError(405, "A WebSocket is opened with GET", [(b"allow", b"GET")])
    if http_version != "1.1":
        raise HandshakeError(400, "A WebSocket is opened with HTTP/1.1")
    if b"websocket" not in _tokens(fields, b"upgrade"):
        raise HandshakeError(400, "'Upgrade: websocket' is missing")
    if b"upgrade" not in _tokens(fields, b"connection"):
        raise HandshakeError(400, "'Connection: Upgrade' is missing; a proxy may have removed it")
    versions = fields.get(b"sec-websocket-version", [])
    if versions != [b"13"]:
        raise HandshakeError(426, "Only version 13 of WebSocket is spoken here", [
            (b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"),
        ])  # fmt: skip
    keys = fields.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise HandshakeError(400, "Sec-WebSocket-Key must be given once, 16 bytes in base64")
    return keys[0], _subprotocols(fields.get(b"sec-websocket-protocol", []))


def request_fields(
    host: bytes, key: bytes, subprotocols: Sequence[str], extensions: bytes | None
) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a client's request (RFC 6455 section 4.1)."""
    fields = [
        (b"host", host),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", key),
        (b"sec-websocket-version", b"13"),
    ]
    if subprotocols:
        fields.append((b"sec-websocket-protocol", ", ".join(subprotocols).encode("ascii")))
    if extensions is not None:
        fields.append((b"sec-websocket-extensions", extensions))
    return fields


def new_key() -> bytes:
    """Return a Sec-WebSocket-Key (RFC 6455 section 4.1 point 7)."""
    return base64.b64encode(os.urandom(16))


def check_response(key: bytes, subprotocols: Sequence[str], status: int, headers: Headers) -> str | None:
    """Return the subprotocol that a server chose in its answer to `request_fields()`.

    Names in `headers` are in lower case. Raises HandshakeError, which carries the answer, for one that RFC 6455 section
    4.1 does not allow. The extensions are not looked at here.
    """
    answer = list(headers)
    fields: dict[bytes, list[bytes]] = {}
    for name, value in answer:
        fields.setdefault(name, []).append(value)
    if status != 101:
        raise HandshakeError(status, "the server did not open a WebSocket", answer)
    if _tokens(fields, b"upgrade") != [b"websocket"]:
        raise HandshakeError(status, "the answer has no 'Upgrade: websocket'", answer)
    if b"upgrade" not in _tokens(fields, b"connection"):
        raise HandshakeError(status, "the answer has no 'Connection: Upgrade'", answer)
    if fields.get(b"sec-websocket-accept") != [accept_key(key)]:
        raise HandshakeError(status, "the answer's Sec-WebSocket-Accept does not belong to the key", answer)
    chosen = fields.get(b"sec-websocket-protocol", [])
    if not chosen:
        return None
    subprotocol = chosen[0].decode("latin-1")
    if len(chosen) > 1 or subprotocol not in subprotocols:
        raise HandshakeError(status, "the server chose a subprotocol that was not offered", answer)
    return subprotocol


def accept_key(key: bytes) -> bytes:
    """Return Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())


def response_fields(
    key: bytes, subprotocol: str | None, extensions: bytes | None, extra: Sequence[tuple[bytes, bytes]] = ()
) -> list[tuple[bytes, bytes]]:
    """Return the header fields of the 101 response (RFC 6455 section 4.2.2).

    `extra` are the application's; raises ASGIMisuse if one of them belongs to the handshake itself.
    """
    fields = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", accept_key(key))]
    if subprotocol is not None:
        fields.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
    if extensions is not None:
        fields.append((b"sec-websocket-extensions", extensions))
    reserved = {name for name, _ in fields} | _SERVERS_OWN
    for name, value in extra:
        if name.lower() in reserved:
            raise ASGIMisuse(f"the server sends {name.decode('latin-1')!r}; a subprotocol has its own key")
        fields.append((name, value))
    return fields


def _tokens(fields: dict[bytes, list[bytes]], name: bytes) -> list[bytes]:
    return [member.strip(b" \t").lower() for value in fields.get(name, []) for member in value.split(b",")]


def _subprotocols(values: list[bytes]) -> list[str]:
    """The client's list, without repeats (RFC 6455 section 4.1 point 10)."""
    found: dict[str, None] = {}
    for value in values:
        for member in value.split(b","):
            name = member.strip(b" \t")
            if not name:
                continue  # RFC 9110 section 5.6.1: empty members are to be ignored
            if not _TOKEN.fullmatch(name):
                raise HandshakeError(400, "Sec-WebSocket-Protocol must be a list of tokens")
            found[name.decode("ascii")] = None
    return list(found)
