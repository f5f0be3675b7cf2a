"""The chunked transfer coding (RFC 9112 section 7.1), decoded to the byte."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.errors import RequestError
from flowserve.http.chunked import ChunkedDecoder


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(bounds)]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def decode(chunks: Iterable[bytes], max_trailers: int = 1000) -> tuple[bytes, bytes, bool]:
    """(body, what is behind it, whether it is complete)."""
    decoder = ChunkedDecoder(max_trailers)
    body: list[bytes] = []
    rest = b""
    for chunk in chunks:
        while chunk and not decoder.complete:
            chunk = decoder.feed(chunk, body.append)
        rest += chunk
    assert b"" not in body
    return b"".join(body), rest, decoder.complete


def refused(data: bytes, max_trailers: int = 1000, bytewise: bool = True) -> int:
    """The status for which `data` is refused, in one chunk as byte by byte."""
    statuses = set()
    for chunks in ([data], byte_by_byte(data))[: 1 + bytewise]:
        with pytest.raises(RequestError) as caught:
            decode(chunks, max_trailers)
        statuses.add(caught.value.status)
    assert len(statuses) == 1
    return statuses.pop()


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n", b"Wikipedia"),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"3\r\n0\r\n\r\n1\r\n\n\r\n0\r\n\r\n", b"0\r\n\n"),
        (b"5;name=value\r\nhello\r\n0;last\r\n\r\n", b"hello"),
        (b'5 ; name="quoted; \xe9"\r\nhello\r\n0\t;x\r\n\r\n', b"hello"),  # RFC 9112 section 7.1.1: BWS
        (b'5;a;b=c ;\td = "\\"\\\\;\t,=" ; e\r\nhello\r\n0;f=""\r\n\r\n', b"hello"),
        (b"5;!#$%&'*+-.^_`|~09azAZ=!#$%&'*+-.^_`|~09azAZ\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"1\r\nx\r\n0\r\nTrailer: value\r\n\r\n", b"x"),
        (b"1\r\nx\r\n0\r\nA: 1\r\nB:\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n", b"x"),
    ],
)
def test_decodes(wire: bytes, body: bytes) -> None:
    for chunks in ([wire], byte_by_byte(wire)):
        assert decode(chunks) == (body, b"", True)
    for chunks in ([wire + b"GET / HTTP/1.1\r\n"], byte_by_byte(wire + b"GET / HTTP/1.1\r\n")):
        assert decode(chunks) == (body, b"GET / HTTP/1.1\r\n", True)
    for cut in range(len(wire)):
        assert decode([wire[:cut]])[1:] == (b"", False)


@pytest.mark.parametrize(
    "size",
    [
        b"",
        b"g",
        b"0x5",
        b"+5",
        b"-5",
        b" 5",
        b"5 ",
        b"5\t",
        b"5 x",
        b"5\x00",
        b"5_0",
        b"\xd9\xa5",
        b"5,5",
        b"1234567890abcdef",  # 64 bits
        b"0" * 20 + b"5",
        b"5;a\x00b",
        b"5;a\x7f",
        b"5;a\rb",
        b"5\r",
    ],
)
def test_refuses_sizes(size: bytes) -> None:
    """Other readings of them are what request smuggling is made of."""
    assert refused(size + b"\r\nhello\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize(
    "extension",
    [
        *(
            b";",
            b" ;",
            b";;a",
            b";a;",
            b";a; ",
            b";a ",
            b"; a b",
            b";a=",
            b";a= ",
            b";=a",
            b";a==b",
            b";a=b=c",
            b",a",
            b"x",
        ),
        *(
            b";a=b c",
            b";a=b/c",
            b";a/b",
            b";a@",
            b";a[0]",
            b";\xe9",
            b";a=\xe9",
            b";(a)",
            b';"a"',
            b";a='b c'",
            b";a:b",
        ),
        *(b';a="', b';a="b', b';a="b"c', b';a="b""c"', b';a="b\\"', b';a=b"c"', b';a="b\x00"', b';a="b\\\x00"'),
        *(b';a="b\x7f"', b';a="b\r"', b';a="b\\\r"', b";a\x0b;b", b";a=b\x0c"),
    ],
)
def test_refuses_extensions(extension: bytes) -> None:
    """RFC 9112 section 7.1.1: *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )."""
    assert refused(b"5" + extension + b"\r\nhello\r\n0\r\n\r\n") == 400
    assert refused(b"5\r\nhello\r\n0" + extension + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    "hostile",
    [b";a" * 4000, b";a=" + b"a" * 8000, b" " * 8000, b" ;a" * 2600, b';a="' + b"\\\\" * 4000, b";a" + b" " * 8000],
)
def test_reads_extensions_in_linear_time(hostile: bytes) -> None:
    start = time.process_time()
    for _ in range(100):
        assert refused(b"5" + hostile + b"\0\r\n", bytewise=False) == 400
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "wire",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello!0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\rX0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"0\n\n",
        b"0\r\n\n",
        b"0\r\nx\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\nX: y\r\n z\r\n\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\n: y\r\n\r\n",
        b"0\r\nX: \x00\r\n\r\n",
        b"0\r\nX: a\rb\r\n\r\n",
        b"0\r\nGET / HTTP/1.1\r\n\r\n",
    ],
)
def test_refuses(wire: bytes) -> None:
    assert refused(wire) == 400


def test_what_came_before_an_error_was_given() -> None:
    body: list[bytes] = []
    with pytest.raises(RequestError):
        ChunkedDecoder(100).feed(b"5\r\nhello\r\nwrong\r\n", body.append)
    assert body == [b"hello"]


def test_many_chunks_take_several_calls() -> None:
    """The caller has other things to do, too. What one call finds is one piece."""
    decoder, body = ChunkedDecoder(100), []
    rest, calls = b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\nGET", 0
    while not decoder.complete:
        rest = decoder.feed(rest, body.append)
        calls += 1
        assert len(body) <= calls
    assert (b"".join(body), rest) == (b"x" * 20_000, b"GET")
    assert calls > 20


def test_large_chunks_take_one_call() -> None:
    body: list[bytes] = []
    wire = (b"10000\r\n" + bytes(65536) + b"\r\n") * 4
    assert ChunkedDecoder(100).feed(wire, body.append) == b""
    assert body == [bytes(4 * 65536)]


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=10),
    extension=st.sampled_from([b"", b";x", b' ;x="y"']),
    times=st.integers(1, 300),
    cuts=st.lists(st.integers(0, 2**20), max_size=10),
)
def test_many_chunks_are_the_same_however_they_come(
    sizes: list[int], extension: bytes, times: int, cuts: list[int]
) -> None:
    once = b"".join(b"%x%b\r\n%b\r\n" % (size, extension, b"y" * size) for size in sizes)
    wire = once * times + b"0\r\nA: b\r\n\r\nrest"
    assert decode([wire]) == decode(split(wire, cuts)) == (b"y" * (sum(sizes) * times), b"rest", True)


def test_the_largest_size() -> None:
    """Nothing is kept for what has been announced."""
    decoder = ChunkedDecoder(0)
    got: list[bytes] = []
    assert decoder.feed(b"fffffffffffffff\r\nabc", got.append) == b""
    assert got == [b"abc"]
    assert not decoder.complete


def test_a_line_has_a_limit() -> None:
    assert decode([b"1;" + b"x" * 8000 + b"\r\ny\r\n0\r\n\r\n"])[0] == b"y"
    assert refused(b"1;" + b"x" * 8192 + b"\r\ny\r\n0\r\n\r\n") == 400
    assert refused(b"1;" + b"x" * 8192) == 400  # without waiting for its end
    assert refused(b"0\r\nX: " + b"x" * 8192, max_trailers=100_000) == 400


def test_trailers_have_a_limit() -> None:
    line = b"X: " + b"y" * 95 + b"\r\n"
    assert len(line) == 100
    assert decode([b"0\r\n" + line * 2 + b"\r\n"], max_trailers=202) == (b"", b"", True)
    assert refused(b"0\r\n" + line * 2 + b"\r\n", max_trailers=201) == 431
    assert refused(b"0\r\n" + line * 100, max_trailers=1000) == 431


@given(
    bodies=st.lists(st.binary(min_size=1, max_size=50), max_size=6),
    extension=st.sampled_from([b"", b";x", b' ;x="y"']),
    trailers=st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC:\r\n"]),
    rest=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 2**16), max_size=10),
    upper=st.booleans(),
)
def test_one_chunk_equals_any_others(
    bodies: list[bytes], extension: bytes, trailers: bytes, rest: bytes, cuts: list[int], upper: bool
) -> None:
    sizes = [(b"%X" if upper else b"%x") % len(body) for body in bodies]
    wire = b"".join(size + extension + b"\r\n" + body + b"\r\n" for size, body in zip(sizes, bodies, strict=True))
    wire += b"0" + extension + b"\r\n" + trailers + b"\r\n" + rest
    expected = (b"".join(bodies), rest, True)
    assert decode([wire]) == decode(split(wire, cuts)) == decode(byte_by_byte(wire)) == expected


alphabet = st.sampled_from(
    [
        b"0",
        b"1",
        b"a",
        b'"',
        b"=",
        b"\\",
        b";a=b",
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n",
        b";",
        b":",
        b" ",
        b"0\r\n\r\n",
        b"1\r\nx\r\n",
    ]
)


@given(st.lists(alphabet, max_size=25).map(b"".join) | st.binary(max_size=30))
def test_any_bytes_are_a_body_or_an_error(data: bytes) -> None:
    def outcome(chunks: list[bytes]) -> tuple[bytes, bytes, bool] | int:
        try:
            return decode(chunks)
        except RequestError as error:
            return error.status

    assert outcome([data]) == outcome(byte_by_byte(data))
