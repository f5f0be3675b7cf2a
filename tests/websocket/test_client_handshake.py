"""The client's side of the opening handshake, over header lists (RFC 6455 section 4.1)."""

from __future__ import annotations

import base64

import pytest

from flowserve.errors import HandshakeError
from flowserve.websocket.client_handshake import check_response, new_key, request_fields
from flowserve.websocket.server_handshake import check_request

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ANSWER = {
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-accept": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
}


def answer(**changed: bytes | None) -> list[tuple[bytes, bytes]]:
    """ANSWER with some replaced, added, or taken away by None."""
    fields = {**ANSWER, **{name.replace("_", "-").encode(): value for name, value in changed.items()}}
    return [(name, value) for name, value in fields.items() if value is not None]


def test_a_clients_request_is_one_that_a_server_takes() -> None:
    key = new_key()
    fields = request_fields(b"h:81", key, ["a", "b"], b"permessage-deflate")
    assert check_request("GET", "1.1", fields) == (key, ["a", "b"])
    assert dict(fields)[b"host"] == b"h:81"
    assert dict(fields)[b"sec-websocket-extensions"] == b"permessage-deflate"
    plain = request_fields(b"h", key, [], None)
    assert not {b"sec-websocket-protocol", b"sec-websocket-extensions"} & {name for name, _ in plain}


def test_keys_are_random() -> None:
    """RFC 6455 section 4.1 point 7."""
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(base64.b64decode(key)) for key in keys} == {16}


def test_an_answer_that_opens() -> None:
    assert check_response(KEY, [], 101, answer()) is None
    assert check_response(KEY, ["a", "b"], 101, answer(sec_websocket_protocol=b"b")) == "b"
    assert check_response(KEY, ["a"], 101, answer()) is None
    assert check_response(KEY, [], 101, answer(upgrade=b"WebSocket", connection=b"keep-alive, upgrade")) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"upgrade": None}, "Upgrade: websocket"),
        ({"upgrade": b"h2c"}, "Upgrade: websocket"),
        ({"connection": None}, "Connection: Upgrade"),
        ({"connection": b"close"}, "Connection: Upgrade"),
        ({"sec_websocket_accept": None}, "Sec-WebSocket-Accept"),
        ({"sec_websocket_accept": b"S3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, "Sec-WebSocket-Accept"),
        ({"sec_websocket_protocol": b"c"}, "subprotocol"),
        ({"sec_websocket_protocol": b"A"}, "subprotocol"),
        ({"sec_websocket_protocol": b"a, b"}, "subprotocol"),
        ({"sec_websocket_protocol": b""}, "subprotocol"),
    ],
)
def test_an_answer_that_does_not(changed: dict[str, bytes | None], words: str) -> None:
    """RFC 6455 section 4.1, what a client checks."""
    with pytest.raises(HandshakeError, match=words) as caught:
        check_response(KEY, ["a", "b"], 101, answer(**changed))
    assert (caught.value.status, caught.value.headers) == (101, tuple(answer(**changed)))


def test_two_subprotocols_or_accepts_are_one_too_many() -> None:
    for name, value in ((b"sec-websocket-protocol", b"a"), (b"sec-websocket-accept", ANSWER[b"sec-websocket-accept"])):
        with pytest.raises(HandshakeError):
            check_response(KEY, ["a"], 101, [*answer(sec_websocket_protocol=b"a"), (name, value)])


def test_a_refusal() -> None:
    with pytest.raises(HandshakeError, match="401: the server did not open a WebSocket") as caught:
        check_response(KEY, [], 401, [(b"www-authenticate", b"Basic")])
    assert caught.value.headers == ((b"www-authenticate", b"Basic"),)
