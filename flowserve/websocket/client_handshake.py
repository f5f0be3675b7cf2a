"""The client's side of the opening handshake, as functions over header lists (RFC 6455 section 4.1)."""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Iterable, Sequence

from flowserve.errors import HandshakeError
from flowserve.websocket.server_handshake import accept_key


def request_fields(
    host: bytes, key: bytes, subprotocols: Sequence[str], extensions: bytes | None
) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a client's request (RFC 6455 section 4.1), names in lower case.

    `host` is the value of Host, `key` comes from `new_key()`, `extensions` is the value of Sec-WebSocket-Extensions,
    None to leave it out.
    """
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
    """Return a new Sec-WebSocket-Key (RFC 6455 section 4.1 point 7)."""
    return b2a_base64(os.urandom(16), newline=False)


def check_response(
    key: bytes, subprotocols: Sequence[str], status: int, headers: Iterable[tuple[bytes, bytes]]
) -> str | None:
    """Return the subprotocol that the server chose in its response to `request_fields()`, None for none.

    Names in `headers` are in lower case. Raises HandshakeError, which carries the response, if RFC 6455 section 4.1
    does not allow it. Extensions are not checked here.
    """
    answer = list(headers)
    fields: dict[bytes, list[bytes]] = {}
    for name, value in answer:
        fields.setdefault(name, []).append(value)
    if status != 101:
        raise HandshakeError(status, "the server did not open a WebSocket", answer)
    if _list_members(fields, b"upgrade") != [b"websocket"]:
        raise HandshakeError(status, "the answer has no 'Upgrade: websocket'", answer)
    if b"upgrade" not in _list_members(fields, b"connection"):
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


def _list_members(fields: dict[bytes, list[bytes]], name: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, in lower case."""
    return [member.strip(b" \t").lower() for value in fields.get(name, []) for member in value.split(b",")]
