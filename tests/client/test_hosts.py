"""Names of hosts. What international ones become is what the URL Standard's reference implementations give
(https://url.spec.whatwg.org/#host-parsing), as browsers do."""

from __future__ import annotations

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.client.hosts import ascii_host, certificate_name, in_brackets


@pytest.mark.parametrize(
    ("host", "encoded"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com."),
        ("a_b.example", "a_b.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("FE80::1%25eth0", "fe80::1%eth0"),
        ("xn--zzz", "xn--zzz"),  # whether there is such a name says DNS
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example.", "xn--bcher-kva.example."),
        ("faß.de", "xn--fa-hia.de"),  # fass.de by IDNA 2003
        ("ẞ.de", "xn--zca.de"),
        ("ΒΌΛΟΣ.gr", "xn--nxasmq6b.gr"),  # no final sigma
        ("βόλος.gr", "xn--nxasmm1c.gr"),
        ("日本語。\N{FULLWIDTH LATIN CAPITAL LETTER J}p", "xn--wgv71a119e.jp"),
        ("☃.net", "xn--n3h.net"),
        ("\N{PILE OF POO}.la", "xn--ls8h.la"),
        ("a_b.bücher.example", "a_b.xn--bcher-kva.example"),
        ("ab--ü.example", "xn--ab---3ra.example"),
        ("-ü.example", "xn----eha.example"),
        ("a\u00adb.ü", "ab.xn--tda"),
        ("xn--bcher-kva.ü", "xn--bcher-kva.xn--tda"),
        ("क्\u200dष.example", "xn--11b2ezcw70k.example"),
        ("א1.example", "xn--1-zhc.example"),
    ],
)
def test_names(host, encoded):
    assert ascii_host(host) == encoded
    assert ascii_host(encoded) == encoded


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("", "nothing but a dot"),
        (".", "nothing but a dot"),
        ("a..b", "nothing between two dots"),
        ("a..", "nothing between two dots"),
        (".ü", "nothing between two dots"),
        ("a" * 64, "a part of it is longer than 63"),
        ("ü" * 60, "a part of it is longer than 63"),
        ("ü." * 60, "longer than 253"),
        ("a<b", "characters that a name can't have"),
        ("a/ü", "characters that a name can't have"),
        ("ab\u0378.x", r"U\+0378 not allowed"),
        ("a\u200db.example", r"U\+200D must not stand at position 2 of"),
        ("\u0301ü.example", "illegal combining character"),
        ("1א.example", "must be directionality"),
    ],
)
def test_what_is_none(host, words):
    with pytest.raises(ValueError, match=rf"can't be the name of a host: .*{words}"):
        ascii_host(host)


@given(st.text(st.characters(exclude_characters=":"), max_size=12))
def test_an_encoder_that_is_stricter_agrees(host):
    """All that IDNA 2008 allows is encoded as the idna package encodes it; anything else is encoded or refused."""
    try:
        encoded = ascii_host(host)
    except ValueError:
        encoded = None
    else:
        assert ascii_host(encoded) == encoded.lower()
    try:
        strict = idna.encode(host, uts46=True).decode()
    except idna.IDNAError:
        return
    assert encoded == strict


def test_names_in_certificates():
    assert certificate_name("example.com.") == "example.com"
    assert certificate_name("example.com") == "example.com"
    assert certificate_name("fe80::1%eth0") == "fe80::1"


def test_addresses_in_uris():
    assert in_brackets("fe80::1%eth0") == "[fe80::1]"
    assert in_brackets("127.0.0.1") == "127.0.0.1"
