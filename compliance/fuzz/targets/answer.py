"""The opening handshake as the client reads its answer: a response's bytes, up to the WebSocket.

- Only HandshakeError is raised.
- A subprotocol is one that was offered, and what is agreed on of permessage-deflate is within the offer.
- websockets, where it takes the same answer, agrees to the same (see `_handshakes.py`).
"""

from __future__ import annotations

from typing import Any

from compliance.fuzz.findings import require
from compliance.fuzz.targets._values import KEY, SUBPROTOCOLS, plain
from flowserve.errors import HandshakeError
from flowserve.http.client import ResponseHead, ResponseParser
from flowserve.library.messages import pack, unpack_response
from flowserve.websocket import negotiation
from flowserve.websocket.client_handshake import check_response
from flowserve.websocket.deflate import DeflateSettings

_SETTINGS = DeflateSettings("takeover")


def observe(data: bytes) -> Any:
    parser = ResponseParser("GET", 4096, 32)
    try:
        if not parser.feed(data):
            return None
        response = parser.response
        subprotocol = check_response(KEY, SUBPROTOCOLS, response.status, response.headers)
        values = [value for name, value in response.headers if name == b"sec-websocket-extensions"]
        agreed = negotiation.read_answer(_SETTINGS, values)
    except HandshakeError as error:
        return "refused", error.status, error.detail
    _check_head(response)
    require(subprotocol is None or subprotocol in SUBPROTOCOLS, "a subprotocol that was not offered", subprotocol)
    return "accepted", response.http_version, subprotocol, None if agreed is None else plain(agreed), parser.rest


def _check_head(response: ResponseHead) -> None:
    shown = unpack_response(pack(b"HTTP/1.1 %d %b" % (response.status, response.reason), response.headers))
    require(shown.status_code == response.status, "the status that a user sees is another")
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in shown.headers.raw_items()]
    require(fields == response.headers, "the fields that a user sees are others", fields, response.headers)


def compare(data: bytes, seen: Any) -> bool:
    from compliance.fuzz.targets._handshakes import agree_as_clients

    return seen is not None and agree_as_clients(data, seen)
