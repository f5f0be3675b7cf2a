"""Bytes out of responses (RFC 9112 section 6): framing, connection, and what never reaches the wire."""

from __future__ import annotations

import re
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.errors import ASGIMisuse, HandshakeError, RequestError
from flowserve.http.messages import RequestHead
from flowserve.http.response_encoder import ResponseEncoder, encode_error, encode_switching, status_line

Fields = list[tuple[bytes, bytes]]


def encoder(method: str = "GET", version: str = "1.1", keep_alive: bool = True) -> ResponseEncoder:
    request = RequestHead(method, b"/", version, [])
    request.keep_alive = keep_alive
    return ResponseEncoder(request)


def head_of(made: ResponseEncoder, status: int, fields: Any, defaults: bytes, length: int | None) -> bytes:
    made.start(status, fields)
    return made.head(defaults, length)


def head(
    status: int = 200, fields: Any = (), length: int | None = None, defaults: bytes = b"", **request: Any
) -> tuple[list[bytes], bool]:
    """(the lines of a head, whether the connection is kept)."""
    made = encoder(**request)
    data = head_of(made, status, fields, defaults, length)
    assert made.started
    assert data.endswith(b"\r\n\r\n")
    return data[:-4].split(b"\r\n"), made.keep_alive


def whole(parts: list[bytes], fields: Fields | None = None, status: int = 200, **request: Any) -> bytes:
    """A response whose body comes in parts."""
    made = encoder(**request)
    data = head_of(made, status, fields or [], b"", len(parts[0]) if len(parts) == 1 else None)
    for i, part in enumerate(parts):
        data += made.body(part, more=i < len(parts) - 1)
    return data


# Framing


def test_a_body_that_is_known_has_its_length() -> None:
    assert whole([b"hello"]) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    assert whole([b""]) == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def test_a_body_that_is_not_known_is_chunked() -> None:
    assert whole([b"hello", b"", b"0123456789abcdef", b""]) == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
    )
    assert whole([b"", b"last"]).endswith(b"\r\n\r\n4\r\nlast\r\n0\r\n\r\n")


def test_an_empty_part_does_not_end_a_chunked_body() -> None:
    made = encoder()
    head_of(made, 200, [], b"", None)
    assert made.body(b"", more=True) == b""
    assert made.body(b"", more=False) == b"0\r\n\r\n"


def test_the_applications_length_stands() -> None:
    wire = whole([b"hel", b"lo"], [(b"Content-Length", b"5")])
    assert wire == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([b"hel", b"lo!"], "longer"),
        ([b"hel", b"lo", b"!"], "longer"),
        ([b"hel", b"l"], "shorter"),
        ([b"hel", b""], "shorter"),
    ],
)
def test_a_body_must_have_its_length(parts: list[bytes], words: str) -> None:
    with pytest.raises(ASGIMisuse, match=words):
        whole(parts, [(b"content-length", b"5")])


@pytest.mark.parametrize("body", [b"", b"hell", b"hello!"])
def test_a_wrong_length_is_noticed_before_anything_is_sent(body: bytes) -> None:
    made = encoder()
    with pytest.raises(ASGIMisuse, match="content-length"):
        head_of(made, 200, [(b"content-length", b"5")], b"", len(body))
    assert not made.started


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"-1",
        b"+1",
        b" 1",
        b"1 ",
        b"1.0",
        b"0x1",
        b"1_0",
        b"1, 1",
        b"1\r\nx: 1",
        b"\xb2",
        b"9" * 19,
        b"0" * 5000,
    ],
)
def test_a_length_is_a_number(value: bytes) -> None:
    with pytest.raises(ASGIMisuse):
        head(fields=[(b"content-length", value)], length=1)


def test_two_lengths_that_differ() -> None:
    with pytest.raises(ASGIMisuse):
        head(fields=[(b"content-length", b"1"), (b"Content-Length", b"2")])


def test_the_same_length_twice_is_never_sent_twice() -> None:
    """RFC 9110 section 8.6: Content-Length is one number; clients refuse it repeated as they should (RFC 9112 6.3)."""
    try:
        lines, _ = head(fields=[(b"content-length", b"1"), (b"Content-Length", b"1")], length=1)
    except ASGIMisuse:
        return
    assert sum(line.lower().startswith(b"content-length:") for line in lines) == 1


def test_transfer_encoding_is_the_servers_to_say() -> None:
    for value in (b"chunked", b"gzip, chunked", b"identity"):
        assert head(fields=[(b"Transfer-Encoding", value)])[0][1:] == [b"transfer-encoding: chunked"]
        assert head(fields=[(b"Transfer-Encoding", value)], length=3)[0][1:] == [b"content-length: 3"]


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("length", [None, 0, 5])
def test_statuses_without_body(status: int, length: int | None) -> None:
    """RFC 9112 section 6.3 point 1."""
    made = encoder()
    assert head_of(made, status, [], b"", length).count(b"\r\n") == 2
    assert made.body(b"hello", more=True) == b""
    assert made.body(b"", more=False) == b""
    assert made.keep_alive


def test_a_204_has_no_length_and_a_304_may_have() -> None:
    """RFC 9110 section 8.6."""
    assert head(204, [(b"content-length", b"0")], 0)[0] == [b"HTTP/1.1 204 No Content"]
    assert head(304, [(b"content-length", b"7")], 0)[0][1:] == [b"content-length: 7"]


@pytest.mark.parametrize(
    ("fields", "length", "lines"),
    [
        ([], None, []),
        ([], 5, [b"content-length: 5"]),
        ([], 0, []),  # the application may have left the body away
        ([(b"content-length", b"7")], 0, [b"content-length: 7"]),
        ([(b"content-length", b"7")], None, [b"content-length: 7"]),
    ],
)
def test_head_has_no_body(fields: Fields, length: int | None, lines: list[bytes]) -> None:
    """RFC 9110 section 9.3.2."""
    made = encoder("HEAD")
    assert head_of(made, 200, fields, b"", length)[:-4].split(b"\r\n")[1:] == lines
    assert made.body(b"hello", more=False) == b""
    assert made.keep_alive


# The connection


@pytest.mark.parametrize(
    ("version", "asked", "length", "lines", "kept"),
    [
        ("1.1", True, 0, [b"content-length: 0"], True),
        ("1.1", False, 0, [b"content-length: 0", b"connection: close"], False),
        ("1.1", True, None, [b"transfer-encoding: chunked"], True),
        ("1.1", False, None, [b"transfer-encoding: chunked", b"connection: close"], False),
        ("1.0", True, 0, [b"content-length: 0", b"connection: keep-alive"], True),
        ("1.0", False, 0, [b"content-length: 0", b"connection: close"], False),
        ("1.0", True, None, [b"connection: close"], False),  # the end of the connection is the end of the body
        ("1.0", False, None, [b"connection: close"], False),
    ],
)
def test_connection(version: str, asked: bool, length: int | None, lines: list[bytes], kept: bool) -> None:
    assert head(length=length, version=version, keep_alive=asked) == ([b"HTTP/1.1 200 OK", *lines], kept)


def test_http_10_knows_no_chunks() -> None:
    assert whole([b"hel", b"", b"lo"], version="1.0") == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"


@pytest.mark.parametrize("value", [b"close", b"Close", b"x, close"])
def test_the_application_may_close(value: bytes) -> None:
    lines, kept = head(fields=[(b"Connection", value)], length=0)
    assert lines[1:] == [b"Connection: " + value, b"content-length: 0"]
    assert not kept


def test_the_application_cannot_keep_alive() -> None:
    assert head(fields=[(b"connection", b"keep-alive")], length=0)[1] is True
    assert head(fields=[(b"connection", b"keep-alive")], length=0, keep_alive=False)[1] is False


@pytest.mark.parametrize("request_", [{"keep_alive": False}, {"version": "1.0"}])
def test_a_last_response_says_so_whatever_the_application_says(request_: dict[str, Any]) -> None:
    """RFC 9112 section 9.6: 'SHOULD send a "close" connection option in its final response on that connection'."""
    lines, kept = head(fields=[(b"connection", b"keep-alive")], **request_)
    assert not kept
    options = b",".join(line.partition(b":")[2] for line in lines if line.lower().startswith(b"connection:")).lower()
    assert b"close" in options
    assert b"keep-alive" not in options


# Fields


def test_fields_keep_their_order_and_spelling() -> None:
    fields = [(b"X-B", b"1"), (b"x-a", b""), (b"Set-Cookie", b"a"), (b"set-cookie", b"b"), (b"X-High", b"\xe9\t!")]
    lines = [b"X-B: 1", b"x-a: ", b"Set-Cookie: a", b"set-cookie: b", b"X-High: \xe9\t!"]
    assert head(fields=fields, length=0)[0][1:] == [*lines, b"content-length: 0"]


def test_defaults_give_way_to_the_application() -> None:
    defaults = b"date: now\r\nserver: flowserve\r\nx-extra: 1\r\n"
    assert head(length=0, defaults=defaults)[0][1:] == [*defaults.split(b"\r\n")[:-1], b"content-length: 0"]
    lines, _ = head(fields=[(b"Date", b"then"), (b"SERVER", b"mine")], length=0, defaults=defaults)
    assert lines[1:] == [b"x-extra: 1", b"Date: then", b"SERVER: mine", b"content-length: 0"]


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 1000, -200, "200", None, 200.0, True])
def test_bad_statuses(status: Any) -> None:
    with pytest.raises(ASGIMisuse, match="status"):
        head(status)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (404, b"HTTP/1.1 404 Not Found\r\n"),
        (299, b"HTTP/1.1 299 \r\n"),  # RFC 9112 section 4: the space stays
        (999, b"HTTP/1.1 999 \r\n"),
    ],
)
def test_status_line(status: int, line: bytes) -> None:
    assert status_line(status) == line
    assert head(status, length=0)[0][0] + b"\r\n" == line


BAD_FIELDS: list[tuple[bytes, bytes]] = [
    (b"x", b"a\r\nInjected: b"),
    (b"x", b"a\nInjected: b"),
    (b"x", b"a\rInjected: b"),
    (b"x", b"a\r\n folded"),
    (b"x", b"\r\n\r\n<html>"),
    (b"x", b"a\r\n"),
    (b"x", b"a\n"),
    (b"x", b"a\x00b"),
    (b"x", b"a\x0bb"),
    (b"x", b"a\x1fb"),
    (b"x", b"a\x7fb"),
    (b"x\r\ny", b"a"),
    (b"x: a\r\ny", b"b"),
    (b"x\n", b"a"),
    (b"x\x00", b"a"),
    (b"", b"a"),
    (b" x", b"a"),
    (b"x ", b"a"),
    (b"x y", b"a"),
    (b"x:", b"a"),
    (b":x", b"a"),
    (b"x: y", b"a"),
    (b"transfer-encoding: chunked", b""),
    (b"x(y)", b"a"),
    (b'"x"', b"a"),
    (b"x\xe9", b"a"),
]


@pytest.mark.parametrize(("name", "value"), BAD_FIELDS)
def test_what_http_does_not_allow_is_not_sent(name: bytes, value: bytes) -> None:
    """RFC 9110 sections 5.1 and 5.5: a name is a token; no CR, LF or NUL in a value."""
    made = encoder()
    with pytest.raises(ASGIMisuse):
        head_of(made, 200, [(b"a", b"b"), (name, value), (b"c", b"d")], b"", 0)
    assert not made.started
    with pytest.raises(ASGIMisuse):
        encode_switching([(b"upgrade", b"websocket")], [(name, value)], b"")


@pytest.mark.parametrize(
    "fields",
    [
        [("x", "y")],
        [(b"x", "y")],
        [("x", b"y")],
        [(b"x", 1)],
        [(b"x", None)],
        [(b"x",)],
        [(b"x", b"y", b"z")],
        [b"xy"],
        [None],
        {b"x": b"yz"},
        None,
        5,
    ],
)
def test_fields_are_pairs_of_bytes(fields: Any) -> None:
    made = encoder()
    with pytest.raises(ASGIMisuse, match="bytes"):
        head_of(made, 200, fields, b"", 0)
    assert not made.started


names = st.binary(min_size=1, max_size=8) | st.sampled_from(
    [b"x", b"Content-Length", b"Connection", b"Transfer-Encoding", b"Date"]
)
values = st.binary(max_size=12) | st.sampled_from([b"close", b"3", b"chunked"])


@given(st.lists(st.tuples(names, values), max_size=4), st.sampled_from(["GET", "HEAD"]), st.sampled_from([None, 3]))
def test_any_fields_make_one_head_or_are_refused(fields: Fields, method: str, length: int | None) -> None:
    made = encoder(method)
    try:
        data = head_of(made, 200, fields, b"date: d\r\n", length)
    except ASGIMisuse:
        assert not made.started
        return
    assert data.count(b"\r\n\r\n") == 1
    assert data.endswith(b"\r\n\r\n")
    assert data.replace(b"\r\n", b"").count(b"\n") == data.replace(b"\r\n", b"").count(b"\r") == 0
    first, *lines = data[:-4].split(b"\r\n")
    assert first == b"HTTP/1.1 200 OK"
    assert all(re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e\x80-\xff]*", line) for line in lines)
    assert sum(line.lower().startswith((b"content-length:", b"transfer-encoding:")) for line in lines) <= 1
    assert sum(line.lower().startswith(b"date:") for line in lines) >= 1


# Whole answers


class Reader:
    """A response as a foreign parser reads it."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.complete = self.keep_alive = False
        self.parser = httptools.HttpResponseParser(self)
        self.parser.feed_data(data)
        self.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True
        self.keep_alive = self.parser.should_keep_alive()


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_another_parser_reads_it(parts: list[bytes], declared: bool, keep_alive: bool) -> None:
    body = b"".join(parts)
    fields = [(b"content-length", b"%d" % len(body))] if declared else []
    read = Reader(whole(parts, fields, keep_alive=keep_alive))
    assert (read.status, read.body, read.complete, read.keep_alive) == (200, body, True, keep_alive)


def test_an_error() -> None:
    error = HandshakeError(431, "too läng", [(b"x", b"y")])
    assert encode_error(error, b"server: s\r\n") == (
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nserver: s\r\nx: y\r\n"
        b"content-type: text/plain; charset=utf-8\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo l\xc3\xa4ng"
    )
    error = RequestError(431, "too läng")
    assert encode_error(error, b"", head_only=True).endswith(b"content-length: 9\r\nconnection: close\r\n\r\n")


def test_switching_protocols() -> None:
    assert encode_switching([(b"upgrade", b"websocket")], [(b"x", b"\xe9")], b"server: s\r\n") == (
        b"HTTP/1.1 101 Switching Protocols\r\nserver: s\r\nupgrade: websocket\r\nx: \xe9\r\n\r\n"
    )
    with pytest.raises(ASGIMisuse, match="bytes"):
        encode_switching([], [("x", "y")], b"")  # type: ignore[list-item]


@pytest.mark.parametrize("name", [b"Date", b"SERVER"])
def test_defaults_give_way_in_switching_too(name: bytes) -> None:
    """RFC 9110 section 6.6.1: one Date; section 5.3: no field twice that is no list."""
    data = encode_switching(
        [(b"upgrade", b"websocket")], [(name, b"mine")], b"date: d\r\nserver: s\r\nUpgrade: h2c\r\n"
    )
    for each in (name.lower(), b"upgrade"):
        assert data.lower().count(b"\r\n" + each + b":") == 1


def test_the_applications_fields_come_along_in_switching() -> None:
    extra = [(b"set-cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"x-empty", b"")]
    lines = encode_switching([(b"upgrade", b"websocket")], extra, b"").split(b"\r\n")
    assert lines[1:5] == [b"upgrade: websocket", b"set-cookie: a=1", b"Set-Cookie: b=2", b"x-empty: "]
