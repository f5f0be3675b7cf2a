"""The opening handshake as the server reads it: a request's bytes, up to the answer.

- Only RequestError and HandshakeError are raised, the latter with an answer's status and fields that HTTP allows.
- Subprotocols are tokens, each once; what is kept of the request for the user says the same as the request.
- websockets and wsproto, where they take the same request, agree to the same subprotocols and extensions (see
  `_handshakes.py`).
"""

from __future__ import annotations

from typing import Any

from compliance.fuzz.findings import require
from flowserve.errors import HandshakeError, RequestError
from flowserve.grammar import is_token
from flowserve.http.messages import RequestHead
from flowserve.http.request_parser import RequestParser
from flowserve.http.response_encoder import checked_fields
from flowserve.library.messages import pack, unpack_request
from flowserve.websocket import negotiation
from flowserve.websocket.deflate import DeflateSettings
from flowserve.websocket.server_handshake import check_request, response_fields

_SETTINGS = DeflateSettings("takeover")
_MAX_HEAD, _MAX_FIELDS = 4096, 32


class _Head:
    def __init__(self) -> None:
        self.request: RequestHead | None = None

    def on_request(self, request: RequestHead) -> None:
        self.request = request

    def on_body(self, data: bytes) -> None:
        """Not looked at."""

    def on_end(self) -> None:
        """Not looked at."""


def observe(data: bytes) -> Any:
    head = _Head()
    try:
        RequestParser(head, _MAX_HEAD, _MAX_FIELDS).feed(data)
    except RequestError as error:
        if head.request is None:
            return "no request", error.status
    if head.request is None:
        return None
    request = head.request
    _check_heads(request)
    try:
        key, subprotocols = check_request(request.method, request.http_version, request.headers)
    except HandshakeError as error:
        checked_fields(error.headers)
        require(400 <= error.status < 500 and error.detail.isprintable(), "a refusal that is none")
        return "refused", error.status, error.detail
    return _accepted(request, key, subprotocols)


def _accepted(request: RequestHead, key: bytes, subprotocols: list[str]) -> Any:
    require(request.is_websocket(), "a handshake that the server would take for another request")
    require(not request.has_body, "a handshake with a body")
    require(all(map(is_token, subprotocols)), "a subprotocol that is no token", subprotocols)
    require(len(set(subprotocols)) == len(subprotocols), "a subprotocol twice")
    values = request.values(b"sec-websocket-extensions")
    agreed = negotiation.accept(_SETTINGS, values) if values else None
    chosen = subprotocols[0] if subprotocols else None
    fields = response_fields(key, chosen, agreed[1] if agreed is not None else None)
    checked_fields(fields)
    return "accepted", subprotocols, agreed[1] if agreed is not None else None, fields


def _check_heads(request: RequestHead) -> None:
    """A head that is kept as bytes, and unpacked for the user."""
    packed = pack(b"%b %b HTTP/1.1" % (request.method.encode(), request.target), request.headers)
    shown = unpack_request(packed)
    require(shown.path.encode("latin-1") == request.target, "the target that a user sees is another", shown.path)
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in shown.headers.raw_items()]
    require(fields == request.headers, "the fields that a user sees are others", fields, request.headers)


def compare(data: bytes, seen: Any) -> bool:
    from compliance.fuzz.targets._handshakes import agree_as_servers

    return seen is not None and agree_as_servers(data, seen)
