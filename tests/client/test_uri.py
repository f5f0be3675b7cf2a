"""WebSocket URIs (RFC 6455 section 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.client.uri import URI, parse_uri
from flowserve.errors import InvalidURI


@pytest.mark.parametrize(
    ("text", "uri", "authority"),
    [
        ("ws://h", URI(False, "h", 80, "/"), b"h"),
        ("wss://h", URI(True, "h", 443, "/"), b"h"),
        ("WSS://H.Example:443/A", URI(True, "h.example", 443, "/A"), b"h.example"),
        ("ws://h:443/", URI(False, "h", 443, "/"), b"h:443"),
        ("ws://h?a=b", URI(False, "h", 80, "/?a=b"), b"h"),
        ("ws://h/a?b=c&d=%20é", URI(False, "h", 80, "/a?b=c&d=%20%C3%A9"), b"h"),
        ("ws://h/é%2F[]", URI(False, "h", 80, "/%C3%A9%2F[]"), b"h"),
        ("ws://127.0.0.1:8000", URI(False, "127.0.0.1", 8000, "/"), b"127.0.0.1:8000"),
        ("ws://[::1]:8000/x", URI(False, "::1", 8000, "/x"), b"[::1]:8000"),
        ("wss://[2001:DB8::1]", URI(True, "2001:db8::1", 443, "/"), b"[2001:db8::1]"),
        ("ws://[fe80::1%25eth0]/", URI(False, "fe80::1%eth0", 80, "/"), b"[fe80::1]"),
        ("ws://bücher.example/", URI(False, "xn--bcher-kva.example", 80, "/"), b"xn--bcher-kva.example"),
        ("ws://ΒΌΛΟΣ.gr:1/", URI(False, "xn--nxasmq6b.gr", 1, "/"), b"xn--nxasmq6b.gr:1"),
        ("ws://u:p@faß.de/", URI(False, "xn--fa-hia.de", 80, "/", b"Basic dTpw"), b"xn--fa-hia.de"),
        ("ws://a_b.example./", URI(False, "a_b.example.", 80, "/"), b"a_b.example."),
        ("ws://user:p%40ss@h", URI(False, "h", 80, "/", b"Basic dXNlcjpwQHNz"), b"h"),
        ("ws://user@h", URI(False, "h", 80, "/", b"Basic dXNlcjo="), b"h"),
        ("ws://h/a#b".replace("#", "%23"), URI(False, "h", 80, "/a%23b"), b"h"),
    ],
)
def test_the_parts(text, uri, authority):
    parsed = parse_uri(text)
    assert parsed == uri
    assert parsed.authority == authority
    assert str(parsed) == f"{'wss' if uri.secure else 'ws'}://{authority.decode()}{uri.target}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://h/", "should begin with ws:// or wss://"),
        ("h", "should begin with"),
        ("", "should begin with"),
        ("ws:h", "should begin with"),
        ("ws://", "names no host"),
        ("ws://:80/", "names no host"),
        ("ws://h:0/", "no port 0"),
        ("ws://h:65536/", "[Pp]ort"),
        ("ws://h:x/", "[Pp]ort"),
        pytest.param(f"ws://h:{'9' * 5000}/", "is no URI", id="a port of more digits than int() takes"),
        ("ws://h:\u0663/", "[Pp]ort"),
        ("ws://h/\ud800", "lone surrogate"),
        ("ws://h/?\udfff", "lone surrogate"),
        ("ws://u\ud800@h/", "lone surrogate"),
        ("ws://h/#a", "has a fragment"),
        ("ws://h/#", "has a fragment"),
        ("ws://h/a b", "blanks or control characters"),
        ("ws://\udfff/", "lone surrogate"),
        ("ws://u:\ud800@h/", "lone surrogate"),
        ("ws://h/\r\nX: y", "blanks or control characters"),
        ("ws://[::1/", "is no URI"),
        ("ws://o:[::1]/", r"\[ and \] stand around an IPv6 address"),
        ("ws://user@[::1]o:80/", r"\[ and \] stand around an IPv6 address"),
        ("ws://[nonsense]/", "is no URI"),
        ("ws://a..b/", "can't be the name of a host"),
        ("ws://" + "a" * 64 + ".example/", "can't be the name of a host"),
        ("ws://a<b/", "can't be the name of a host"),
        ("ws://ex%61mple/", "can't be the name of a host"),
        ("ws://./", "can't be the name of a host"),
        ("ws://a\u200db.example/", r"can't be the name of a host: U\+200D must not stand at position 2"),
    ],
)
def test_what_is_none(text, words):
    with pytest.raises(InvalidURI, match=words):
        parse_uri(text)


def test_what_is_no_text():
    with pytest.raises(InvalidURI, match="text is wanted"):
        parse_uri(b"ws://h/")


@pytest.mark.parametrize(
    "text",
    [
        *("ws://u:secret@h/#", "ws://u:secret@h:x/", "http://u:secret@h/", "ws://u:se@cret@h/ "),
        *("ws:/u:secret@h", "u:secret@h", "ws:u://u:secret@h", "ws://u:secret/x@h", "ws://u:se#secret@h/"),
        "ws://u:secret@exa\u2100mple/",  # a character whose normal form has a slash: Python shows all before the path
    ],
)
def test_an_error_shows_no_password(text):
    with pytest.raises(InvalidURI) as caught:
        parse_uri(text)
    assert "cret" not in str(caught.value)
    assert "secret" not in str(parse_uri("ws://u:secret@h/"))


@given(st.text(max_size=30) | st.text(st.characters(categories=["Cs", "L", "P"]), max_size=10))
def test_anything_is_parsed_or_refused(text):
    """What comes of it may go into a request as it stands."""
    try:
        uri = parse_uri("ws://h" + text)
    except InvalidURI:
        return
    (uri.target + uri.host).encode("ascii")
    assert uri.authority
    assert not set(uri.target) & set(' \r\n\t"<>\\^`{|}#')
