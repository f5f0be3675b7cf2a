"""websockets and wsproto as oracles for the opening handshake: where both take it, it is the same one."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, NegotiationError
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import parse_extension
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from compliance.fuzz.findings import Broken, require
from compliance.fuzz.targets._values import KEY, SUBPROTOCOLS


def _read(kind: type[Request | Response], data: bytes) -> Any:
    """A head as websockets reads it, or None."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    steps: Generator[None, None, Any]
    if issubclass(kind, Request):
        steps = kind.parse(reader.read_line)
    else:
        steps = kind.parse(reader.read_line, reader.read_exact, reader.read_to_eof)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value
    except Exception:
        return None


def agree_as_servers(data: bytes, seen: Any) -> bool:
    """Compare the answer to a request for a WebSocket."""
    request = _read(Request, data)
    if request is None or seen[0] != "accepted":
        return False
    factory = _factory()
    subprotocols = seen[1]
    server = ServerProtocol(subprotocols=subprotocols[:1] or None, extensions=[factory])  # as an application chooses
    try:
        accept, extensions, subprotocol = server.process_request(request)
    except InvalidHandshake:
        return False  # which of its own rules was broken does not tell what was meant
    _, _, answer_given, fields = seen
    require(accept.encode() == dict(fields)[b"sec-websocket-accept"], "websockets has another key")
    require(subprotocol in (None, *subprotocols), "websockets reads another subprotocol", subprotocol, subprotocols)
    require(subprotocol is not None or not subprotocols, "websockets reads no subprotocol", subprotocols)
    ours = None if answer_given is None else answer_given.decode()
    if (ours is None) != (extensions is None):
        raise Broken("websockets does not agree on the same extensions", ours, extensions)
    return True


def agree_as_clients(data: bytes, seen: Any) -> bool:
    """Compare what comes of a server's answer."""
    if seen[0] != "accepted":
        return False
    _, version, subprotocol, agreed, _ = seen
    response = _read(Response, data)
    if response is None or version != "1.1":
        return False
    factory = ClientPerMessageDeflateFactory(client_max_window_bits=True)
    client = ClientProtocol(
        parse_uri("ws://a/"), subprotocols=[Subprotocol(each) for each in SUBPROTOCOLS], extensions=[factory]
    )
    client.key = KEY.decode()
    try:
        client.process_response(response)
    except InvalidHandshake:
        return False
    require(client.subprotocol == subprotocol, "websockets reads another subprotocol", client.subprotocol, subprotocol)
    require((agreed is None) == (not client.extensions), "websockets does not agree on the same extensions")
    if agreed is not None:
        found = client.extensions[0]
        assert isinstance(found, PerMessageDeflate)
        theirs = [
            found.remote_no_context_takeover,
            found.local_no_context_takeover,
            found.remote_max_window_bits,
            found.local_max_window_bits,
        ]
        require(agreed == theirs, "websockets understands the extension otherwise", agreed, theirs)
    return True


def agree_on_offer(values: list[bytes], extensions: Any, accepted: Any) -> bool:
    """Compare what is read in Sec-WebSocket-Extensions, and what a server agrees to that has no limits of its own."""
    if isinstance(extensions, str):
        return False
    try:
        found = [each for value in values if value for each in parse_extension(value.decode("latin-1"))]
    except InvalidHandshake:
        return False
    read = [(str(name), list(parameters)) for name, parameters in found]
    require(read == extensions, "websockets reads other extensions", read, extensions)
    if isinstance(accepted, tuple):
        _same_agreement(next(parameters for name, parameters in read if _agrees(name, parameters)), accepted[0])
    return True


def _agrees(name: str, parameters: list[tuple[str, str | None]]) -> bool:
    try:
        return name == "permessage-deflate" and bool(_factory().process_request_params(parameters, []))
    except NegotiationError:
        return False


def _same_agreement(parameters: list[tuple[str, str | None]], agreed: list[Any]) -> None:
    found = _factory().process_request_params(parameters, [])[1]
    assert isinstance(found, PerMessageDeflate)
    theirs = [
        found.local_no_context_takeover,
        found.remote_no_context_takeover,
        found.local_max_window_bits,
        found.remote_max_window_bits,
    ]
    require(agreed == theirs, "websockets agrees to something else", agreed, theirs)


def _factory() -> ServerPerMessageDeflateFactory:
    return ServerPerMessageDeflateFactory(server_max_window_bits=None, client_max_window_bits=None)
