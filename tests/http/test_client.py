"""The client's side of HTTP/1.1."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.errors import ASGIMisuse, HandshakeError
from flowserve.http.client import ResponseParser, encode_request

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: a\r\nx:  b \r\n\r\n"


def parsed(data: bytes, method: str = "GET", *, eof: bool = False, step: int = 0) -> ResponseParser:
    """What comes of `data`, fed `step` bytes at a time."""
    parser = ResponseParser(method, 1000, 10)
    complete = False
    for index in range(0, len(data), step or len(data)):
        complete = parser.feed(data[index : index + (step or len(data))])
    if eof:
        parser.feed_eof()
    else:
        assert complete
    return parser


def refused(data: bytes, **options) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        parsed(data, **options)
    assert caught.value.status == 0
    return caught.value


def test_a_request():
    fields = [(b"host", b"h"), (b"X-A", b"b")]
    assert encode_request("GET", "/a?b", fields) == b"GET /a?b HTTP/1.1\r\nhost: h\r\nX-A: b\r\n\r\n"


@pytest.mark.parametrize("field", [(b"a b", b"c"), (b"a", b"b\r\nc: d"), (b"a", b"\0"), (b"", b"c"), ("a", b"b")])
def test_a_request_that_http_does_not_allow(field):
    with pytest.raises(ASGIMisuse):
        encode_request("GET", "/", [field])


@pytest.mark.parametrize("step", [0, 1, 7])
def test_what_stands_behind_a_101_is_no_http(step):
    parser = parsed(SWITCH + b"\x81\x02hi\r\n\r\n", step=step)
    response = parser.response
    assert (response.status, response.reason, response.http_version) == (101, b"Switching Protocols", "1.1")
    assert response.headers[2:] == [(b"x", b"a"), (b"x", b"b")]
    assert response.value(b"x") == b"a"
    assert response.value(b"y") is None
    assert parser.rest == b"\x81\x02hi\r\n\r\n"
    assert not parser.in_body


@pytest.mark.parametrize("step", [0, 1])
def test_a_later_minor_version_is_11(step):
    """RFC 9110 section 2.5."""
    for minor in range(2, 10):
        later = SWITCH.replace(b"1.1", b"1.%d" % minor)
        assert parsed(b"HTTP/1.2 100 C\r\n\r\n" + later, step=step).response == parsed(SWITCH).response


@pytest.mark.parametrize("step", [0, 1])
def test_interim_responses_are_passed_over(step):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
    assert parsed(interim + SWITCH, step=step).response == parsed(SWITCH).response
    refusal = b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"
    assert parsed(interim + refusal, step=step).response.body == b"no"


@pytest.mark.parametrize(
    ("data", "body", "eof"),
    [
        (b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nnot this", b"no", False),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", b"", False),
        (b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nhalf", b"half", True),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\nT: x\r\n\r\n", b"no", False),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\nzz\r\n", b"no", False),
        (b"HTTP/1.1 403 No\r\nContent-Length: 9223372036854775808\r\n\r\nhalf", b"half", True),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhalf", b"half", True),
        (b"HTTP/1.0 403 No\r\n\r\nto the end", b"to the end", True),
        (b"HTTP/1.1 403\r\n\r\n", b"", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", False),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", b"", False),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_refusals(data, body, eof, step):
    response = parsed(data, eof=eof, step=step).response
    assert response.body == body
    assert (b"t", b"x") not in response.headers


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize(
    "kind", [b"Content-Length: 3\r\n\r\nAAA", b"Transfer-Encoding: chunked\r\n\r\n3\r\nAAA\r\n0\r\n\r\n"]
)
def test_what_stands_behind_a_response_is_none_of_it(kind, step):
    behind = b"HTTP/1.1 201 Created\r\nX: y\r\nContent-Length: 4\r\n\r\nBBBB"
    response = parsed(b"HTTP/1.1 403 No\r\n" + kind + behind, step=step).response
    assert (response.status, response.reason, response.body) == (403, b"No", b"AAA")
    assert len(response.headers) == 1


def test_a_body_is_cut():
    parser = ResponseParser("GET", 1000, 10)
    assert not parser.feed(b"HTTP/1.1 500 S\r\n\r\n" + b"x" * 65535)
    assert parser.in_body
    assert parser.feed(b"xyz")
    assert parser.feed(b"more")
    assert parser.response.body == b"x" * 65536
    assert parser.rest == b""


def test_the_answer_to_connect_has_no_body():
    """RFC 9110 section 9.3.6, whatever its fields say."""
    parser = parsed(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n\x16\x03", "CONNECT")
    assert (parser.response.http_version, parser.rest) == ("1.0", b"\x16\x03")
    assert parsed(b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno", "CONNECT").response.body == b"no"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"SSH-2.0", "is no HTTP"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "is no HTTP"),
        (b"HTTP/1.20 200 OK\r\n\r\n", "is no HTTP"),
        (b"HTTP/1. 200 OK\r\n\r\n", "is no HTTP"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "is no HTTP"),
        (b"HTTP/1.1 101 S\r\nno colon\r\n\r\n", "is no HTTP"),
        (b"HTTP/1.1 101 S\r\na: b\0c\r\n\r\n", "is no HTTP"),
        (b"HTTP/1.1 101 S\r\nX: " + b"x" * 1000, "more than 1000 bytes"),
        (b"HTTP/1.1 101 S\r\nX: " + b"x" * 1000 + b"\r\n\r\n", "more than 1000 bytes"),
        (b"HTTP/1.1 101 S\r\n" + b"a: b\r\n" * 11 + b"\r\n", "more than 10 header fields"),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_what_is_no_answer(data, words, step):
    assert words in refused(data, step=step).detail


def test_interim_responses_without_end_take_no_memory():
    parser = ResponseParser("GET", 1000, 10)
    for _ in range(200):
        assert not parser.feed(b"HTTP/1.1 103 Early\r\na: b\r\n\r\n")
    assert parser.feed(SWITCH)
    assert len(parser.response.headers) == 4


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 101", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_end_without_an_answer(data):
    error = refused(data, eof=True, step=100)
    assert isinstance(error.__cause__, EOFError)
    assert ("within its" if data.endswith(b"101") else "without an") in error.detail


@given(st.binary(max_size=60), st.sampled_from(["GET", "CONNECT"]))
def test_any_bytes_are_an_answer_or_an_error(noise, method):
    parser = ResponseParser(method, 1000, 10)
    with contextlib.suppress(HandshakeError):
        parser.feed(b"HTTP/1.1 " + noise)
        parser.feed_eof()
        assert 0 <= parser.response.status <= 999


@given(st.lists(st.integers(1, 40), max_size=20))
def test_cut_anywhere_it_is_the_same(cuts):
    data = b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
    parser = ResponseParser("GET", 1000, 10)
    at, complete = 0, False
    for cut in cuts:
        complete = parser.feed(data[at : at + cut]) or complete
        at += cut
    assert parser.feed(data[at:]) or complete
    assert (parser.response.status, parser.response.body) == (403, b"abcd")
