"""Sec-WebSocket-Extensions: an offer as the server reads it, and an answer as the client does.

The first byte chooses the settings; the fields' values stand behind it, with line feeds between them.

- Only HandshakeError is raised: 400 for an offer, 101 for an answer.
- What the server agrees to, a client that had offered it can read; both ends then mean the same.
- The answer to the client's own offer is never refused by it.
- websockets, where it reads the same values, reads the same parameters, and agrees to the same as a server.
"""

from __future__ import annotations

from typing import Any

from compliance.fuzz.findings import Broken, require
from compliance.fuzz.targets._values import plain
from flowserve.errors import HandshakeError
from flowserve.websocket import negotiation
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings

MAX_LEN = 600


def settings_of(byte: int) -> DeflateSettings:
    """The settings that an input's first byte chooses."""
    send, receive = (15, 12, 9, 10)[byte >> 1 & 3], (15, 8, 9, 11)[byte >> 3 & 3]
    return DeflateSettings("takeover" if byte & 1 else "shared", send_window_bits=send, receive_window_bits=receive)


def observe(data: bytes) -> Any:
    if not data:
        return None
    settings, values = settings_of(data[0]), data[1:].split(b"\n")
    _ours(settings)
    return [_grammar(values), _accepted(settings, values), _read(settings, values)]


def _grammar(values: list[bytes]) -> Any:
    try:
        found = negotiation.parse_extensions(values)
    except HandshakeError as error:
        require(error.status == 400, "a malformed offer has another status than 400")
        _refuses(values)
        return error.detail
    negotiation.check_extensions(values)
    again = negotiation.parse_extensions([written(found).encode("ascii")])
    require(again == found, "extensions that are written down again are others")
    return found


def _refuses(values: list[bytes]) -> None:
    try:
        negotiation.check_extensions(values)
    except HandshakeError:
        return
    raise Broken("check_extensions() lets pass what parse_extensions() does not")


def written(extensions: list[negotiation.Extension]) -> str:
    """Extensions as the grammar has them (RFC 6455 section 9.1)."""
    return ", ".join(
        "; ".join([name, *(key if value is None else f"{key}={value}" for key, value in parameters)])
        for name, parameters in extensions
    )


def _accepted(settings: DeflateSettings, values: list[bytes]) -> Any:
    try:
        accepted = negotiation.accept(settings, values)
    except HandshakeError as error:
        return error.detail
    if accepted is None:
        return None
    agreed, answer = accepted
    require(9 <= agreed.server_max_window_bits <= settings.send_window_bits, "this end's window is over its setting")
    require(8 <= agreed.client_max_window_bits <= 15, "the peer's window is none that there is")
    # a client that allows everything
    client = negotiation.read_answer(DeflateSettings("takeover"), [answer])
    require(client is not None, "an answer of the server's is none")
    _mean_the_same(agreed, client)
    return plain(agreed), answer


def _mean_the_same(server: DeflateParameters, client: DeflateParameters | None) -> None:
    assert client is not None
    for name in ("server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits"):
        require(getattr(server, name) == getattr(client, name), f"both ends mean something else by {name}")
    # the server may keep a smaller window than it says
    require(server.server_max_window_bits <= client.server_max_window_bits, "the server's window is over what it says")


def _read(settings: DeflateSettings, values: list[bytes]) -> Any:
    try:
        agreed = negotiation.read_answer(settings, values)
    except HandshakeError as error:
        require(error.status == 101, "an answer that is refused has another status than 101")
        return error.detail
    if agreed is None:
        return None
    require(agreed.client_max_window_bits <= settings.send_window_bits, "the client's window is over its setting")
    require(agreed.server_max_window_bits <= settings.receive_window_bits, "the server's window is over the offer")
    return plain(agreed)


def _ours(settings: DeflateSettings) -> None:
    """flowserve's client with flowserve's server."""
    accepted = negotiation.accept(DeflateSettings(), [negotiation.offer(settings)])
    if accepted is not None:  # a window of 8 bits is declined
        negotiation.read_answer(settings, [accepted[1]])


def compare(data: bytes, seen: Any) -> bool:
    from compliance.fuzz.targets._handshakes import agree_on_offer

    return seen is not None and agree_on_offer(data[1:].split(b"\n"), seen[0], seen[1] if data[0] == 1 else None)
