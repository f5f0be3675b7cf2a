"""Requests out of bytes (RFC 9112): values, framing, limits; however the bytes are cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowserve.errors import ForeignProtocol, RequestError
from flowserve.http.messages import RequestHead
from flowserve.http.request_parser import RequestParser


class Told:
    """What a parser told: (request, body, whether it is complete) for each request."""

    def __init__(self) -> None:
        self.requests: list[RequestHead] = []
        self.bodies: list[bytes] = []
        self.ended = 0

    def on_request(self, request: RequestHead) -> None:
        assert self.ended == len(self.requests)
        self.requests.append(request)
        self.bodies.append(b"")

    def on_body(self, data: bytes) -> None:
        assert data
        self.bodies[-1] += data

    def on_end(self) -> None:
        self.ended += 1
        assert self.ended == len(self.requests)

    def seen(self) -> list[tuple[Any, ...]]:
        return [
            (r.method, r.target, r.http_version, r.headers, r.has_body, r.keep_alive, r.expect_continue, body)
            for r, body in zip(self.requests, self.bodies, strict=True)
        ]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(bounds)]


def parse(chunks: Iterable[bytes], max_size: int = 65536, max_count: int = 100) -> tuple[Told, int | None]:
    """All requests in `chunks`, and the status of the error that ended them."""
    told = Told()
    try:
        feed(RequestParser(told, max_size, max_count), chunks)
    except RequestError as error:
        return told, error.status
    return told, None


def feed(parser: RequestParser, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        while chunk:
            chunk = parser.feed(chunk)


def one(data: bytes) -> RequestHead:
    """The request that `data` is, in one chunk and byte by byte."""
    told, status = parse([data])
    assert status is None
    assert (len(told.requests), told.ended) == (1, 1)
    bytewise, status = parse(byte_by_byte(data))
    assert status is None
    assert bytewise.seen() == told.seen()
    return told.requests[0]


def refused(data: bytes, **limits: int) -> int:
    """The status for which `data` is refused before any request is told of, in one chunk as byte by byte."""
    statuses = set()
    for chunks in ([data], byte_by_byte(data)):
        told, status = parse(chunks, **limits)
        assert status is not None
        assert told.requests == []
        statuses.add(status)
    assert len(statuses) == 1
    return statuses.pop()


def get(*lines: bytes, target: bytes = b"/", version: bytes = b"1.1") -> bytes:
    return b"GET %b HTTP/%b\r\n%b\r\n" % (target, version, b"".join(line + b"\r\n" for line in lines))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (b"".join(line + b"\r\n" for line in lines), body)


# Heads


def test_a_request() -> None:
    request = one(b"GET /a%20b?c=d HTTP/1.1\r\nHost: example.com\r\nUser-Agent: x\r\nX-Custom:  y \t\r\n\r\n")
    assert (request.method, request.target, request.http_version) == ("GET", b"/a%20b?c=d", "1.1")
    assert (request.path, request.raw_path, request.query_string) == ("/a b", b"/a%20b", b"c=d")
    assert request.headers == [(b"host", b"example.com"), (b"user-agent", b"x"), (b"x-custom", b"y")]
    assert (request.has_body, request.keep_alive, request.expect_continue) == (False, True, False)


def test_names_are_in_lower_case_in_their_order() -> None:
    request = one(get(b"hOsT: a", b"X-A: 1", b"x-b: 2", b"X-a: 3", b"COOKIE: x", b"cookie: y", b"X-Empty:"))
    assert request.headers == [
        (b"host", b"a"),
        (b"x-a", b"1"),
        (b"x-b", b"2"),
        (b"x-a", b"3"),
        (b"cookie", b"x"),
        (b"cookie", b"y"),
        (b"x-empty", b""),
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_methods(method: str) -> None:
    assert one(method.encode() + b" / HTTP/1.1\r\nHost: a\r\n\r\n").method == method


@pytest.mark.parametrize(
    "method",
    ["QUERY", "FOO", "F", "GETX", "HEADER", "PRIX", "X-CACHE_1", "!#$%&'*+-.^_`|~09", "SETUP", "PLAY", "A" * 64],
)
def test_methods_that_only_the_application_may_know(method: str) -> None:
    """RFC 9110 section 9.1: any token. SETUP and PLAY are llhttp's, but for RTSP."""
    head = method.encode() + b" /a?b HTTP/1.1\r\nHost: a\r\n"
    request = one(b"\r\n" + head + b"\r\n")
    assert (request.method, request.target, request.keep_alive) == (method, b"/a?b", True)
    assert not one(head + b"Connection: close\r\n\r\n").keep_alive
    assert one(head.replace(b"1.1", b"1.0") + b"\r\n").http_version == "1.0"
    assert one(head.replace(b"1.1", b"1.7") + b"\r\n").http_version == "1.1"
    wire = head + b"Content-Length: 3\r\n\r\nabc" + head + b"\r\n" + get(b"Host: a")
    for chunks in ([wire], byte_by_byte(wire)):
        told, status = parse(chunks)
        assert [each.method for each in told.requests] == [method, method, "GET"]
        assert (told.bodies, told.ended, status) == ([b"abc", b"", b""], 3, None)


@pytest.mark.parametrize("method", [b"A" * 65, b"A" * 65 + b"\0", b"A" * 2000])
def test_a_long_method(method: bytes) -> None:
    """RFC 9112 section 3: 501 for a method longer than any that is implemented."""
    assert refused(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n") == 501


@pytest.mark.parametrize(
    "method", [b"get", b"Get", b"FOo", b"F@O", b"FOO\t", b"FOO\0", b"F\xc3\x96", b"\rFOO", b"(GET)"]
)
def test_no_methods(method: bytes) -> None:
    assert refused(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n") == 400


def test_values_may_hold_any_visible_byte() -> None:
    value = bytes(range(0x21, 0x7F)) + b" \t" + bytes(range(0x80, 0x100))
    assert one(get(b"Host: a", b"X: " + value)).values(b"x") == [value]


@pytest.mark.parametrize("empty", [b"\r\n", b"\r\n\r\n"])
def test_empty_lines_before_a_request_are_ignored(empty: bytes) -> None:
    """RFC 9112 section 2.2."""
    assert one(empty + get(b"Host: a")).target == b"/"


@pytest.mark.parametrize("empty", [b"\r", b"\n", b"\r\r\n", b"\n\r\n", b"\r\n\r", b"\r\n\n", b"\r\n\r\n\n"])
def test_only_empty_lines_are(empty: bytes) -> None:
    assert refused(empty + get(b"Host: a")) == 400
    assert refused(empty + b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", None, True),
        (b"1.1", b"close", False),
        (b"1.1", b"x, CLOSE", False),
        (b"1.1", b"keep-alive", True),
        (b"1.0", None, False),
        (b"1.0", b"keep-alive", True),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"close", False),
    ],
)
def test_keep_alive(version: bytes, connection: bytes | None, keep_alive: bool) -> None:
    """RFC 9112 section 9.3."""
    lines = [b"Host: a"] + ([b"Connection: " + connection] if connection else [])
    assert one(get(*lines, version=version)).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (post(b"Expect: 100-continue", b"Content-Length: 1", body=b"x"), True),
        (post(b"Expect: 100-Continue", b"Content-Length: 1", body=b"x"), True),
        (post(b"Content-Length: 1", body=b"x"), False),
        (b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", False),  # RFC 9110 section 10.1.1
    ],
)
def test_expect_continue(request_bytes: bytes, expected: bool) -> None:
    assert one(request_bytes).expect_continue is expected


# Host and target (RFC 9112 section 3.2)


@pytest.mark.parametrize("host", [b"a", b"A.example:80", b"[::1]:8000", b"127.0.0.1", b"", b"xn--a", b"a:", b"%41"])
def test_hosts(host: bytes) -> None:
    assert one(get(b"Host: " + host)).values(b"host") == [host]


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"X: y",),
        (b"Host: a", b"Host: a"),
        (b"Host: a", b"X: y", b"host: b"),
        (b"Host: a/b",),
        (b"Host: user@a",),
        (b"Host: a b",),
        (b"Host: a?b",),
        (b"Host: a\\b",),
    ],
)
def test_exactly_one_valid_host_is_required(lines: tuple[bytes, ...]) -> None:
    assert refused(get(*lines)) == 400


@pytest.mark.parametrize(
    "host", [b"a:x", b"a:80:80", b"[::1", b"::1", b'"a"', b"a<b", b"a|b", b"\xc3\xa9", b"a{b}", b"%4"]
)
def test_a_host_is_a_uri_host(host: bytes) -> None:
    """RFC 9112 section 3.2: 'MUST respond with a 400 [...] a Host header field with an invalid field value'; the value
    is uri-host [ ":" port ] (RFC 9110 section 7.2, RFC 3986 section 3.2)."""
    assert refused(get(b"Host: " + host)) == 400


def test_http_10_needs_no_host() -> None:
    assert one(get(version=b"1.0")).headers == []
    assert refused(get(b"Host: a", b"Host: b", version=b"1.0")) == 400


@pytest.mark.parametrize(
    ("target", "host", "origin_form"),
    [
        (b"http://b.example/x?y", b"b.example", b"/x?y"),
        (b"HTTPS://b.example:8443/", b"b.example:8443", b"/"),
        (b"http://b.example", b"b.example", b"/"),
        (b"http://b.example?y=z", b"b.example", b"/?y=z"),
        (b"http://[::1]:80/x", b"[::1]:80", b"/x"),
    ],
)
def test_absolute_form(target: bytes, host: bytes, origin_form: bytes) -> None:
    """RFC 9112 section 3.2.2: the Host field is ignored for the target's authority."""
    request = one(get(b"X: y", b"Host: a.example", b"Z: z", target=target))
    assert request.target == origin_form
    assert request.headers == [(b"x", b"y"), (b"host", host), (b"z", b"z")]


def test_absolute_form_says_the_host_in_http_10_too() -> None:
    assert one(get(target=b"http://b.example/x", version=b"1.0")).values(b"host") == [b"b.example"]


@pytest.mark.parametrize("target", [b"http://user@b.example/", b"http://user:pass@b.example/x"])
def test_absolute_form_without_userinfo(target: bytes) -> None:
    """RFC 9110 section 4.2.4: 'SHOULD parse for userinfo and treat its presence as an error'; no Host has it (7.2)."""
    assert refused(get(b"Host: a", target=target)) == 400


@pytest.mark.parametrize("target", [b"http:///x", b"http://:80/x", b"http://?x"])
def test_absolute_form_with_a_host(target: bytes) -> None:
    """RFC 9110 section 4.2.1: 'A recipient that processes such a URI reference MUST reject it as invalid'."""
    assert refused(get(b"Host: a", target=target)) == 400


def test_absolute_form_does_not_make_up_for_the_host_field() -> None:
    assert refused(get(target=b"http://b.example/")) == 400
    assert refused(get(b"Host: a", b"Host: a", target=b"http://b.example/")) == 400


def test_asterisk_form() -> None:
    assert one(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").target == b"*"


@pytest.mark.parametrize("target", [b"/a#b", b"/#", b"http://a/#b", b"a", b"/\x7f", b"/\xff", b"/a\x00"])
def test_bad_targets(target: bytes) -> None:
    assert refused(get(b"Host: a", target=target)) == 400


# What is no request


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"FOO  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"FOO / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"FOO / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"FOO / HTTP/1.1\nHost: a\n\n",
        b"FOO HTTP/1.1\r\nHost: a\r\n\r\n",
        b"FOO\r\n\r\n",
        b"GET / HTTP/1.20\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.\r\nHost: a\r\n\r\n",
        b"GET / HTTP/12\r\nHost: a\r\n\r\n",
        b"POST / RTSP/1.0\r\n\r\n",
        b"DESCRIBE / RTSP/1.0\r\n\r\n",
        b"SETUP / RTSP/1.0\r\nHost: a\r\n\r\n",
        b"SOURCE / ICE/1.0\r\n\r\n",
        b"GET / ICE/1.0\r\n\r\n",
        b"GET / ICE/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
        get(b"Host : a"),
        get(b"Host: a", b" folded"),
        get(b"Host: a", b"X: a\x00b"),
        get(b"Host: a", b"X: a\rb"),
        get(b"Host: a", b"X: a\nY: b"),
        get(b"Host: a", b": b"),
        get(b"Host: a", b"X Y: b"),
        get(b"Host: a", b"X\xc3\xa9: b"),
        get(b"Host: a", b"X"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS ClientHello
        b"\x00" * 20,
    ],
)
def test_malformed_heads(data: bytes) -> None:
    assert refused(data) == 400


@pytest.mark.parametrize("version", [b"0.9", b"0.1", b"2.0", b"2.1", b"3.0", b"9.9"])
def test_other_versions(version: bytes) -> None:
    assert refused(get(b"Host: a", version=version)) == 505


@pytest.mark.parametrize("minor", range(2, 10))
def test_later_minor_versions_are_11(minor: int) -> None:
    """RFC 9110 section 2.5: to be processed as the highest minor version that is implemented."""
    request = one(get(b"Host: a", b"X: y", target=b"/a?b", version=b"1.%d" % minor))
    assert (request.http_version, request.target, request.keep_alive) == ("1.1", b"/a?b", True)
    assert request.headers == [(b"host", b"a"), (b"x", b"y")]
    assert refused(get(version=b"1.%d" % minor)) == 400  # without Host
    wire = get(b"Host: a", version=b"1.%d" % minor) * 2
    assert parse([wire])[0].ended == parse(byte_by_byte(wire))[0].ended == 2


# Other protocols


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "--ssl-certfile"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 505, "HTTP/1.1"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get(b"Host: a"), 400, "--proxy-protocol"),
        (b"PROXY UNKNOWN\r\n" + get(b"Host: a"), 400, "--proxy-protocol"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12), 400, "--proxy-protocol"),
    ],
    ids=["tls", "http/2", "proxy v1", "proxy unknown", "proxy v2"],
)
def test_another_protocol_is_called_by_its_name(data: bytes, status: int, words: str) -> None:
    for chunks in ([data], byte_by_byte(data)):
        with pytest.raises(ForeignProtocol) as caught:
            feed(RequestParser(Told(), 65536, 100), chunks)
        assert (caught.value.status, words in caught.value.hint) == (status, True)


@pytest.mark.parametrize("data", [b"\x16\x02\x01", b"\x15\x03\x01", b"PROXY / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_what_is_no_protocol_that_is_known(data: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        feed(RequestParser(Told(), 65536, 100), [data])
    assert not isinstance(caught.value, ForeignProtocol)


def test_connect_is_not_supported() -> None:
    assert refused(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n") == 501


@pytest.mark.parametrize("count", [1, 2, 3, 500, 5000])
@pytest.mark.parametrize("pieces", [1, 2, 3, 5, 1000])
def test_empty_lines_before_a_request(count: int, pieces: int) -> None:
    """RFC 9112 section 2.2: they are to be ignored. They count as a part of the head."""
    data = b"\r\n" * count + get(b"Host: a")
    step = len(data) // pieces + 1
    told, status = parse([data[at : at + step] for at in range(0, len(data), step)])
    assert (len(told.requests), told.ended, status) == (1, 1, None)
    endless = b"\r\n" * 40_000
    step = len(endless) // pieces + 1
    told, status = parse([endless[at : at + step] for at in range(0, len(endless), step)])
    assert (told.requests, status) == ([], 431)


@pytest.mark.parametrize("before", [b"\n", b"\r\n\n", b"\r\r\n", b"\r\n" * 100 + b"\n"])
def test_lines_before_a_request_end_in_both(before: bytes) -> None:
    data = before + get(b"Host: a")
    assert parse([data])[1] == parse(byte_by_byte(data))[1] == 400


# Bodies (RFC 9112 section 6)


def test_content_length() -> None:
    told, status = parse([post(b"Content-Length: 5", body=b"hello")])
    assert (told.bodies, told.ended, status) == ([b"hello"], 1, None)
    assert told.requests[0].has_body
    assert not one(post(b"Content-Length: 0")).has_body


def test_chunked() -> None:
    body = b"5;x\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
    for coding in (b"chunked", b"Chunked", b"CHUNKED"):
        told, status = parse([post(b"Transfer-Encoding: " + coding, body=body)])
        assert (told.bodies, told.ended, status) == ([b"hello world"], 1, None)
        assert told.requests[0].has_body
        assert told.requests[0].values(b"trailer") == []


def test_a_request_is_told_of_before_its_body() -> None:
    told = Told()
    parser = RequestParser(told, 1000, 10)
    parser.feed(post(b"Content-Length: 5"))
    assert len(told.requests) == 1
    parser.feed(b"he")
    assert told.bodies == [b"he"]
    assert told.ended == 0
    assert parser.feed(b"lloGET") == b"GET"
    assert (told.bodies, told.ended) == ([b"hello"], 1)


def test_feed_stops_behind_each_request() -> None:
    second, third = post(b"Content-Length: 2", body=b"hi"), get(b"Host: c")
    told = Told()
    parser = RequestParser(told, 1000, 10)
    assert parser.feed(get(b"Host: a") + second + third) == second + third
    assert told.ended == 1
    assert parser.feed(second + third) == third
    assert told.ended == 2
    assert parser.feed(third) == b""
    assert told.ended == 3


def test_what_follows_an_upgrade_is_given_back() -> None:
    told = Told()
    parser = RequestParser(told, 1000, 10)
    head = get(b"Host: a", b"Upgrade: websocket", b"Connection: Upgrade")
    assert parser.feed(head + b"\x81\x80\x01\x02\x03\x04") == b"\x81\x80\x01\x02\x03\x04"
    assert (len(told.requests), told.ended) == (1, 1)


def test_an_upgrade_that_is_not_taken_is_a_request_like_others() -> None:
    told, status = parse(
        [post(b"Upgrade: x", b"Connection: Upgrade", b"Content-Length: 3", body=b"abc") + get(b"Host: a")]
    )
    assert (told.bodies, told.ended, status) == ([b"abc", b""], 2, None)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"Content-Length: 3", b"Content-Length: 3"), 400),
        ((b"Content-Length: 3", b"Content-Length: 4"), 400),
        ((b"Content-Length: 3, 3",), 400),
        ((b"Content-Length: +3",), 400),
        ((b"Content-Length: -1",), 400),
        ((b"Content-Length: 0x3",), 400),
        ((b"Content-Length: 3 3",), 400),
        ((b"Content-Length: 3.0",), 400),
        ((b"Content-Length:",), 400),
        ((b"Content-Length: 18446744073709551616",), 400),
        ((b"Content-Length: 3", b"Transfer-Encoding: chunked"), 400),
        ((b"Transfer-Encoding: chunked", b"Content-Length: 3"), 400),
        ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
        ((b"Transfer-Encoding: chunked, chunked",), 400),
        ((b"Transfer-Encoding: chunked, gzip",), 400),
        ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), 400),
        ((b"Transfer-Encoding:",), 400),
        ((b"Transfer-Encoding: gzip, chunked",), 501),
        ((b"Transfer-Encoding: xchunked",), 501),
        ((b"Transfer-Encoding: identity",), 501),
        ((b'Transfer-Encoding: "chunked"',), 501),
        ((b"Transfer-Encoding: \x0bchunked",), 400),
    ],
)
def test_framing_that_can_be_read_in_two_ways(lines: tuple[bytes, ...], status: int) -> None:
    told, got = parse([post(*lines, body=b"0\r\n\r\n")])
    bytewise, got_bytewise = parse(byte_by_byte(post(*lines, body=b"0\r\n\r\n")))
    assert told.requests == bytewise.requests == []
    assert got == got_bytewise
    assert got in (status, 400)  # an unknown coding may be told of as bad framing


@pytest.mark.parametrize(
    "length",
    [
        10**18,
        2**63 - 1,
        2**63,
        2**63 + 1,
        2**64 - 1,
        pytest.param(b"0" * 30 + b"%d" % 2**63, id="zeros before 2**63"),
    ],
)
def test_a_length_beyond_63_bits(length: int | bytes) -> None:
    """RFC 9110 section 8.6: 'prevent parsing errors due to integer conversion overflows'."""
    digits = length if isinstance(length, bytes) else b"%d" % length
    assert refused(post(b"Content-Length: " + digits, body=b"abc")) == 413


def test_the_largest_length() -> None:
    told, status = parse([post(b"Content-Length: " + b"9" * 18, body=b"abc")])
    assert (told.bodies, told.ended, status) == ([b"abc"], 0, None)


@pytest.mark.parametrize("zeros", [19, 5000])
def test_zeros_before_a_length(zeros: int) -> None:
    """5000 digits are more than Python's int() takes, whatever they say."""
    told, status = parse([post(b"Content-Length: " + b"0" * zeros + b"3", body=b"abc")])
    assert (told.bodies, told.ended, status) == ([b"abc"], 1, None)
    assert not one(post(b"Content-Length: " + b"0" * zeros)).has_body


def test_transfer_encoding_in_http_10() -> None:
    """RFC 9112 section 6.1: the framing is faulty."""
    assert refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") == 400


def test_an_error_in_a_body_ends_it() -> None:
    data = post(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\nwrong\r\n")
    for chunks in ([data], byte_by_byte(data)):
        told, status = parse(chunks)
        assert (told.bodies, told.ended, status) == ([b"hello"], 0, 400)


# Limits


def sized(size: int, target: bytes = b"/") -> bytes:
    """A head of `size` bytes."""
    filled = get(b"Host: a", b"X: ", target=target)
    return get(b"Host: a", b"X: " + b"x" * (size - len(filled)), target=target)


def test_the_head_has_a_limit() -> None:
    assert len(sized(1000)) == 1000
    for chunks in ([sized(1000)], byte_by_byte(sized(1000))):
        assert parse(chunks, max_size=1000)[0].ended == 1
    assert refused(sized(1001), max_size=1000) == 431
    assert refused(sized(5000)[:1001], max_size=1000) == 431  # without waiting for its end


def test_a_long_target_has_a_status_of_its_own() -> None:
    assert refused(get(b"Host: a", target=b"/" + b"a" * 2000), max_size=1000) == 414
    assert refused(b"GET /" + b"a" * 2000, max_size=1000) == 414


def test_each_head_has_the_limit_for_itself() -> None:
    body = post(b"Content-Length: 3000", body=b"x" * 3000)
    told, status = parse([sized(900) + body + sized(900)], max_size=1000)
    assert (told.ended, status) == (3, None)


def test_empty_lines_count() -> None:
    assert parse([b"\r\n" * 600], max_size=1000)[1] == 431


def test_header_fields_are_counted() -> None:
    lines = [b"Host: a", *(b"X: %d" % i for i in range(9))]
    assert len(parse([get(*lines)], max_count=10)[0].requests[0].headers) == 10
    assert refused(get(*lines, b"Y: one too many"), max_count=10) == 431


def test_trailers_have_the_limit_of_heads() -> None:
    trailers = b"".join(b"X-%d: y\r\n" % i for i in range(200))
    data = post(b"Transfer-Encoding: chunked", body=b"0\r\n" + trailers + b"\r\n")
    assert parse([data], max_size=10_000)[1] is None
    assert parse([data], max_size=1000)[1] == 431


def test_started() -> None:
    told = Told()
    parser = RequestParser(told, 1000, 10)
    assert not parser.started
    parser.feed(b"G")
    assert parser.started
    parser.feed(b"ET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
    assert not parser.started  # the head has come
    parser.feed(b"x")
    assert not parser.started
    parser.feed(b"P")
    assert parser.started


# One chunk equals any others

field = st.sampled_from(
    [b"X-A: b", b"Cookie: a=b; c=d", b"Accept: */*", b"Connection: keep-alive", b"X-Empty:", b"Expect: 100-continue"]
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """(bytes of a request, its body)."""
    body = draw(st.binary(max_size=60))
    lines = [b"Host: a", *draw(st.lists(field, max_size=3))]
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"FOO", b"GETX", b"PAUSE"]))
    target = draw(st.sampled_from([b"/", b"/a?b", b"http://b.example/c", b"/%20"]))
    encoded = b""
    if framing == "none":
        body = b""
    elif framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
        encoded = body
    else:
        lines.append(b"Transfer-Encoding: chunked")
        for piece in split(body, draw(st.lists(st.integers(0, 60), max_size=3))):
            encoded += b"%x\r\n%b\r\n" % (len(piece), piece)
        encoded += draw(st.sampled_from([b"0\r\n\r\n", b"00;x\r\nA: b\r\n\r\n"]))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.3"]))
    head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version, b"".join(line + b"\r\n" for line in lines))
    return draw(st.sampled_from([b"", b"\r\n"])) + head + encoded, body


faults = st.sampled_from(
    [
        b"",
        b"GET / HTTP/1.1\r\nHo",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
        b"\x81\x85\x00\x00\x00\x00hello",
    ]
)


@given(st.lists(requests(), max_size=4), faults, st.lists(st.integers(0, 2**16), max_size=12))
@settings(max_examples=200)
def test_one_chunk_equals_any_others(sent: list[tuple[bytes, bytes]], fault: bytes, cuts: list[int]) -> None:
    wire = b"".join(data for data, _ in sent) + fault
    whole, status = parse([wire])
    assert whole.bodies[: len(sent)] == [body for _, body in sent]
    assert whole.ended == len(sent)
    for chunks in (split(wire, cuts), byte_by_byte(wire)):
        told, got = parse(chunks)
        assert (told.seen(), told.ended, got) == (whole.seen(), whole.ended, status)


words = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"PUT",
        b"FOO",
        b"PRI",
        b"PLAY",
        b"SOURCE",
        b" ",
        b" /a ",
        b" * ",
        b"HTTP/",
        b"RTSP/",
        b"ICE/",
        b"1.1",
        b"1.2",
        b"2.0",
        b"PROXY",
        b"\x16",
        b"Host: a\r\n",
        b"X: y\r\n",
        b"Content-Length: 1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b":",
        b"0",
    ]
)


@given(st.binary(max_size=100) | st.lists(words, max_size=15).map(b"".join))
@settings(max_examples=500)
def test_any_bytes_are_requests_or_an_error(data: bytes) -> None:
    whole, status = parse([data])
    bytewise, got = parse(byte_by_byte(data))
    assert (bytewise.seen(), bytewise.ended, got) == (whole.seen(), whole.ended, status)


# Fields that come again


_FIELDS = b"\r\nHost: a\r\nCookie: b=c\r\n\r\n"
AGAIN = [
    b"GET / HTTP/1.1" + _FIELDS,
    b"GET / HTTP/1.1\r\nHost: a\r\nCookie: b=d\r\n\r\n",
    b"GET /b?c=%20 HTTP/1.1" + _FIELDS,
    b"HEAD / HTTP/1.1" + _FIELDS,
    b"DELETE /c HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
    b"GET /d HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
    b"\r\nGET / HTTP/1.1" + _FIELDS,
    b"OPTIONS * HTTP/1.1" + _FIELDS,
    b"PURGE http://b/%20 HTTP/1.5" + _FIELDS,
    b"GET http://b/ HTTP/1.1" + _FIELDS,
    b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"b" * 3000 + b"\r\n\r\n",
]


@given(st.lists(st.sampled_from(AGAIN), max_size=12), st.booleans(), st.lists(st.integers(0, 2**16), max_size=6))
@settings(max_examples=500)
def test_fields_that_come_again(sent: list[bytes], apart: bool, cuts: list[int]) -> None:
    wire = b"".join(sent)
    told, status = parse(sent if apart else split(wire, cuts))
    assert status is None
    assert told.seen() == [seen for data in sent for seen in parse([data])[0].seen()]


def test_what_comes_behind_a_head_that_is_found_again_is_returned() -> None:
    told = Told()
    parser = RequestParser(told, 65536, 100)
    feed(parser, AGAIN[:1])
    assert parser.feed(AGAIN[0] + b"rest") == b"rest"
    assert parser.feed(AGAIN[2] + b"rest") == b"rest"
    assert not parser.started
    assert [request.target for request in told.requests] == [b"/", b"/", b"/b?c=%20"]
    assert told.requests[2].headers == told.requests[0].headers


@pytest.mark.parametrize("octet", [bytes([octet]) for octet in range(256)])
def test_a_request_line_is_judged_the_same_whether_its_fields_came_before(octet: bytes) -> None:
    for line in (
        b"GET /a%bb HTTP/1.1",
        b"GET %b HTTP/1.1",
        b"GE%bT / HTTP/1.1",
        b"GET / HTTP/1.%b",
        b"GET / HTTP/1.1%b",
    ):
        data = line % octet + _FIELDS
        fresh, status = parse([data])
        again, got = parse([AGAIN[0], data])
        assert got == status
        assert again.seen()[1:] == fresh.seen()


@pytest.mark.parametrize("first", AGAIN[:2] + AGAIN[6:])
@pytest.mark.parametrize("line", [b"GET /x HTTP/1.1", b"GET / HTTP/1.1", b"HEAD /", b""])
def test_what_is_no_head_is_none_although_its_end_came_before(first: bytes, line: bytes) -> None:
    for end in (first, first[first.index(b" HTTP") :], b"\r\n" + first):
        fresh, status = parse([line + end])
        again, got = parse([first, line + end])
        assert got == status
        assert again.seen()[1:] == fresh.seen()


def test_limits_hold_for_a_longer_target_before_the_same_fields() -> None:
    fields = b"\r\nHost: a\r\nCookie: " + b"b" * 300 + b"\r\n\r\n"
    fitting = b"GET /" + b"a" * (500 - 5 - 9 - len(fields)) + b" HTTP/1.1" + fields
    for target, expected in ((b"/" + b"a" * 300, 414), (b"/" + b"a" * 240, 431), (b"/b", None)):
        head = b"GET " + target + b" HTTP/1.1" + fields
        assert parse([fitting, head], 500)[1] == parse([head], 500)[1] == expected


def test_nothing_comes_after_the_last_request_although_it_is_the_same() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert parse([head, head])[1] == parse([head + head])[1] == 400


def test_what_is_kept_of_a_head_is_bounded() -> None:
    parser = RequestParser(Told(), 65536, 100)
    for size in (100, 1900, 5000, 20000):
        feed(parser, [b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"b" * size + b"\r\n\r\n"] * 2)
        assert len(getattr(parser, "_repeated_fields", b"")) <= 2048  # compiled, it is hidden
