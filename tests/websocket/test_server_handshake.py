"""The server's side of the opening handshake, over header lists (RFC 6455 sections 4.2 and 1.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.errors import ASGIMisuse, HandshakeError
from flowserve.websocket.server_handshake import accept_key, check_request, response_fields

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HEADERS = {
    b"host": b"server.example.com",
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-key": KEY,
    b"sec-websocket-version": b"13",
}
"""The example of RFC 6455 section 1.2."""


def headers(**changed: bytes | None) -> list[tuple[bytes, bytes]]:
    """HEADERS with some replaced, added, or taken away by None."""
    fields = {**HEADERS, **{name.replace("_", "-").encode(): value for name, value in changed.items()}}
    return [(name, value) for name, value in fields.items() if value is not None]


def refused(
    fields: list[tuple[bytes, bytes]], method: str = "GET", http_version: str = "1.1"
) -> tuple[int, tuple[tuple[bytes, bytes], ...]]:
    with pytest.raises(HandshakeError) as caught:
        check_request(method, http_version, fields)
    assert caught.value.detail
    return caught.value.status, caught.value.headers


def test_the_accept_key_of_the_rfc() -> None:
    """RFC 6455 section 1.3."""
    assert accept_key(KEY) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_the_request_of_the_rfc() -> None:
    fields = headers(origin=b"http://example.com", sec_websocket_protocol=b"chat, superchat")
    assert check_request("GET", "1.1", fields) == (KEY, ["chat", "superchat"])
    assert check_request("GET", "1.1", headers()) == (KEY, [])


@pytest.mark.parametrize(
    "changed",
    [
        {"upgrade": b"WebSocket"},
        {"upgrade": b"WEBSOCKET"},
        {"upgrade": b"h2c, websocket"},
        {"connection": b"upgrade"},
        {"connection": b"keep-alive, Upgrade"},
        {"connection": b"keep-alive,\tUPGRADE"},
        {"connection": b",Upgrade,"},
    ],
)
def test_tokens_are_lists_without_case(changed: dict[str, bytes]) -> None:
    assert check_request("GET", "1.1", headers(**changed))[0] == KEY


def test_lists_may_come_in_several_fields() -> None:
    fields = [
        *headers(connection=None, upgrade=None),
        (b"connection", b"keep-alive"),
        (b"connection", b"Upgrade"),
        (b"upgrade", b"x"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-protocol", b"a"),
        (b"sec-websocket-protocol", b"b, c"),
    ]
    assert check_request("GET", "1.1", fields) == (KEY, ["a", "b", "c"])


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "get"])
def test_the_method_is_get(method: str) -> None:
    """RFC 6455 section 4.2.1 point 1; RFC 9110 section 15.5.6 wants Allow in a 405."""
    assert refused(headers(), method=method) == (405, ((b"allow", b"GET"),))


@pytest.mark.parametrize("version", ["1.0", "0.9"])
def test_the_version_of_http_is_11(version: str) -> None:
    assert refused(headers(), http_version=version)[0] == 400


@pytest.mark.parametrize("version", [None, b"", b"8", b"12", b"14", b"013", b"1 3", b"13, 8", b"13,13"])
def test_another_version_is_told_of_13(version: bytes | None) -> None:
    """RFC 6455 section 4.4: 426 with a Sec-WebSocket-Version; RFC 9110 section 15.5.22: and with Upgrade."""
    status, fields = refused(headers(sec_websocket_version=version))
    assert status == 426
    assert (b"sec-websocket-version", b"13") in fields
    assert (b"upgrade", b"websocket") in fields


def test_two_versions_are_none() -> None:
    assert refused([*headers(), (b"sec-websocket-version", b"13")])[0] == 426


@pytest.mark.parametrize(
    "changed",
    [
        {"upgrade": None},
        {"upgrade": b""},
        {"upgrade": b"h2c"},
        {"upgrade": b"websockets"},
        {"upgrade": b"websocket/13"},
        {"connection": None},
        {"connection": b"close"},
        {"connection": b"upgraded"},
        {"connection": b"keep-alive upgrade"},
    ],
)
def test_upgrade_and_connection_must_be_there(changed: dict[str, bytes | None]) -> None:
    assert refused(headers(**changed))[0] == 400


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"=",
        b"abc",
        b"AAAAAAAAAAAAAAAAAAAA",  # 15 bytes
        b"AAAAAAAAAAAAAAAAAAAAA==",  # no whole number of bytes
        b"AAAAAAAAAAAAAAAAAAAAAAA=",  # 17 bytes
        b"AAAAAAAAAAAAAAAAAAAAAA",  # no padding
        b"AAAAAAAAAAAAAAAAAAAAAAAA",  # 18 bytes
        b"AAAAAAAAAAAAAAAAAAAAA===",
        b"AAAAAAAAAAAAAAAAAAAA-_==",  # base64url
        b"AAAAAAAAAAAAAAAAAAAAAA==\n",
        b" AAAAAAAAAAAAAAAAAAAAAA==",
        b"AAAAAAAAAA AAAAAAAAAAA==",
        b"AAAAAAAAAAAAAAAAAAAAAA==, BAAAAAAAAAAAAAAAAAAAAA==",
    ],
)
def test_the_key_is_16_bytes(key: bytes | None) -> None:
    """RFC 6455 section 4.2.1 point 5."""
    assert refused(headers(sec_websocket_key=key))[0] == 400


def test_two_keys_are_none() -> None:
    assert refused([*headers(), (b"sec-websocket-key", KEY)])[0] == 400


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (b"a", ["a"]),
        (b"a,b", ["a", "b"]),
        (b"  a \t,  b ", ["a", "b"]),
        (b"Chat, chat", ["Chat", "chat"]),  # case counts
        (b"b, a, b", ["b", "a"]),
        (b"v10.stomp, soap, a!#$%&'*+-.^_`|~9", ["v10.stomp", "soap", "a!#$%&'*+-.^_`|~9"]),
    ],
)
def test_subprotocols_stand_in_order_of_preference(value: bytes, names: list[str]) -> None:
    assert check_request("GET", "1.1", headers(sec_websocket_protocol=value))[1] == names


@pytest.mark.parametrize("value", [b"a,,b", b",a,b", b"a,b,", b"a, ,b"])
def test_empty_members_of_a_list_are_passed_over(value: bytes) -> None:
    """RFC 6455 section 4.3 has 1#token; RFC 9110 section 5.6.1.2: 'A recipient MUST parse and ignore a reasonable
    number of empty list elements'."""
    assert check_request("GET", "1.1", headers(sec_websocket_protocol=value))[1] == ["a", "b"]


@pytest.mark.parametrize("value", [b"a b", b"a;b", b'"a"', b"a/b", b"\xe9", b"a, b c", b"(a)"])
def test_subprotocols_are_tokens(value: bytes) -> None:
    assert refused(headers(sec_websocket_protocol=value))[0] == 400


@pytest.mark.parametrize(
    ("name", "value", "opens"),
    [
        ("content-length", b"0", True),
        ("content-length", b"000", True),
        ("content-length", b"1", False),
        ("content-length", b"100", False),
        ("transfer-encoding", b"chunked", False),
    ],
)
def test_a_body_could_not_be_told_from_frames(name: str, value: bytes, opens: bool) -> None:
    fields = [*headers(), (name.encode(), value)]
    if opens:
        assert check_request("GET", "1.1", fields)[0] == KEY
    else:
        assert refused(fields)[0] == 400


@pytest.mark.parametrize(
    ("value", "opens"),
    [
        (b"permessage-deflate; client_max_window_bits", True),
        (b'x-unknown; a="b"; c, permessage-deflate; server_max_window_bits=99', True),
        (b"permessage-deflate; unknown=1; unknown=1", True),
        (b"permessage-deflate;", False),
        (b"permessage-deflate; client_max_window_bits=", False),
        (b'permessage-deflate; a="b c"', False),
        (b"permessage deflate", False),
        (b"x-webkit-deflate-frame/", False),
        (b"", False),
    ],
)
def test_extensions_are_well_formed(value: bytes, opens: bool) -> None:
    """RFC 6455 section 9.1: what breaks the grammar MUST fail the connection, what is not known is passed over."""
    for fields in (headers(sec_websocket_extensions=value), [*headers(), *[(b"sec-websocket-extensions", value)] * 20]):
        if opens:
            assert check_request("GET", "1.1", fields)[0] == KEY
        else:
            assert refused(fields)[0] == 400


def test_huge_lists_are_refused() -> None:
    """Thousands of members take milliseconds to read, and nobody has so many to offer."""
    most = b"x; " + b"y" * 2045
    assert check_request("GET", "1.1", headers(sec_websocket_extensions=most))[0] == KEY
    assert refused(headers(sec_websocket_extensions=most + b"y"))[0] == 431
    halves = [(b"sec-websocket-extensions", most[:1024])] * 3
    assert refused([*headers(), *halves])[0] == 431
    most = b"y" * 16384
    assert check_request("GET", "1.1", headers(sec_websocket_protocol=most))[1] == [most.decode()]
    assert refused(headers(sec_websocket_protocol=most + b"y"))[0] == 431


values = st.binary(max_size=12) | st.sampled_from([*HEADERS.values(), b"13,", b"Upgrade, x"])


@given(st.lists(st.tuples(st.sampled_from([*HEADERS, b"sec-websocket-protocol", b"sec-websocket-extensions"]), values)))
def test_any_headers_are_accepted_or_refused(fields: list[tuple[bytes, bytes]]) -> None:
    try:
        key, names = check_request("GET", "1.1", fields)
    except HandshakeError as error:
        status = error.status
    else:
        status = 101
        assert len(key) == 24
        assert len(set(names)) == len(names)
    assert status in (101, 400, 426)


# The answer


def test_the_response_of_the_rfc() -> None:
    assert response_fields(KEY, "chat", None) == [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (b"sec-websocket-protocol", b"chat"),
    ]


def test_what_was_not_agreed_is_not_told() -> None:
    names = [name for name, _ in response_fields(KEY, None, None)]
    assert names == [b"upgrade", b"connection", b"sec-websocket-accept"]
    assert (b"sec-websocket-extensions", b"permessage-deflate") in response_fields(KEY, None, b"permessage-deflate")


def test_the_applications_headers_are_no_obstacle() -> None:
    extra = [(b"set-cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"x-empty", b"")]
    assert response_fields(KEY, None, None, extra) == response_fields(KEY, None, None)


@pytest.mark.parametrize(
    "name",
    [
        b"upgrade",
        b"Connection",
        b"SEC-WEBSOCKET-ACCEPT",
        b"Sec-WebSocket-Protocol",
        b"Sec-WebSocket-Extensions",
    ],
)
@pytest.mark.parametrize("subprotocol", [None, "chat"])
def test_the_handshakes_own_headers_are_not_the_applications(name: bytes, subprotocol: str | None) -> None:
    with pytest.raises(ASGIMisuse, match=name.decode()):
        response_fields(KEY, subprotocol, None, [(name, b"x")])


@pytest.mark.parametrize("name", [b"content-length", b"Transfer-Encoding"])
def test_a_101_has_no_length(name: bytes) -> None:
    """RFC 9110 section 8.6 and RFC 9112 section 6.1: MUST NOT be sent in a response with a 1xx status."""
    try:
        fields = response_fields(KEY, None, None, [(name, b"0")])
    except ASGIMisuse:
        return
    assert name.lower() not in [field.lower() for field, _ in fields]
