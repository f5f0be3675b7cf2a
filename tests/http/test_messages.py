"""A request as a value."""

from __future__ import annotations

import pytest

from flowserve.http.messages import RawHeaders, RequestHead, tokens
from flowserve.http.request_parser import RequestParser


def request(target: bytes = b"/", headers: RawHeaders | None = None) -> RequestHead:
    return RequestHead("GET", target, "1.1", headers or [])


@pytest.mark.parametrize(
    ("target", "raw_path", "path", "query"),
    [
        (b"/", b"/", "/", b""),
        (b"/a/b", b"/a/b", "/a/b", b""),
        (b"/a?b=c", b"/a", "/a", b"b=c"),
        (b"/a?", b"/a", "/a", b""),
        (b"/?a?b", b"/", "/", b"a?b"),
        (b"/a%20b", b"/a%20b", "/a b", b""),
        (b"/%C3%A9?%C3%A9", b"/%C3%A9", "/é", b"%C3%A9"),
        (b"/%c3%a9", b"/%c3%a9", "/é", b""),
        (b"/a%2Fb", b"/a%2Fb", "/a/b", b""),
        (b"/a%3Fb", b"/a%3Fb", "/a?b", b""),
        (b"/100%", b"/100%", "/100%", b""),
        (b"/%zz%4", b"/%zz%4", "/%zz%4", b""),
        (b"/%=41=%3D%%41%=\xe9%C3", b"/%=41=%3D%%41%=\xe9%C3", "/%=41==%A%=\ufffd\ufffd", b""),
        (b"/%25%32%30", b"/%25%32%30", "/%20", b""),  # decoded once
        (b"/%FF", b"/%FF", "/\ufffd", b""),
        (b"//a/../b", b"//a/../b", "//a/../b", b""),  # not normalised
        (b"/+", b"/+", "/+", b""),
        (b"*", b"*", "*", b""),
    ],
)
def test_target(target: bytes, raw_path: bytes, path: str, query: bytes) -> None:
    made = request(target)
    assert (made.target, made.raw_path, made.path, made.query_string) == (target, raw_path, path, query)


def test_defaults() -> None:
    made = request()
    assert (made.method, made.http_version, made.headers) == ("GET", "1.1", [])
    assert (made.has_body, made.keep_alive, made.expect_continue) == (False, True, False)


def test_values_of_a_field_in_order() -> None:
    made = request(headers=[(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    assert made.values(b"a") == [b"1", b"3"]
    assert made.values(b"c") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"A, b,C", [b"a", b"b", b"c"]),
        (b" \ta\t , b ", [b"a", b"b"]),
        (b",, a,,b, ,", [b"a", b"b"]),  # RFC 9110 section 5.6.1.2
        (b"a b", [b"a b"]),
    ],
)
def test_tokens(value: bytes, expected: list[bytes]) -> None:
    assert tokens(value) == expected


def test_has_token() -> None:
    made = request(headers=[(b"connection", b"keep-alive"), (b"connection", b"x, UpGrade")])
    assert made.has_token(b"connection", b"upgrade")
    assert made.has_token(b"connection", b"keep-alive")
    assert not made.has_token(b"connection", b"close")
    assert not made.has_token(b"upgrade", b"upgrade")


class Kept:
    """Keeps the request that a parser tells of."""

    request: RequestHead

    def on_request(self, request: RequestHead) -> None:
        self.request = request

    def on_body(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...


def parsed(headers: RawHeaders) -> RequestHead:
    kept = Kept()
    fields = b"".join(b"%b: %b\r\n" % field for field in headers)
    RequestParser(kept, 1000, 10).feed(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % fields)
    return kept.request


KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"upgrade", b"websocket"), (b"connection", b"upgrade"), KEY], True),
        ([(b"upgrade", b"WebSocket"), (b"connection", b"keep-alive, Upgrade")], True),
        ([(b"upgrade", b"h2c, websocket"), (b"connection", b"upgrade")], True),
        ([(b"upgrade", b"websocket"), KEY], True),  # a proxy took Connection away
        ([(b"upgrade", b"websocket")], False),
        ([(b"connection", b"upgrade"), KEY], False),
        ([(b"upgrade", b"h2c"), (b"connection", b"upgrade"), KEY], False),
        ([(b"upgrade", b"websocketx"), (b"connection", b"upgrade")], False),
        ([KEY], False),
        ([], False),
    ],
)
def test_is_websocket(headers: RawHeaders, expected: bool) -> None:
    assert parsed(headers).is_websocket() is expected
