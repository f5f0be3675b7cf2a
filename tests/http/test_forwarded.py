"""X-Forwarded-For, X-Forwarded-Proto and Forwarded: who the client is, and what a client can't make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.errors import RequestError
from flowserve.http.forwarded import ForwardedClient, TrustedProxies, forwarded_client

TRUSTED = TrustedProxies(["127.0.0.1", "10.0.0.0/8", "2001:db8:ffff::/48", "unix"])
CLIENT = "203.0.113.7"
PROXY = "10.1.2.3"


def seen(*fields: tuple[str, str], trusted: TrustedProxies = TRUSTED) -> ForwardedClient:
    return forwarded_client([(name.encode(), value.encode("latin-1")) for name, value in fields], trusted)


def by_list(*values: str) -> tuple[str, int] | None:
    return seen(*(("x-forwarded-for", value) for value in values)).client


def by_forwarded(*values: str) -> ForwardedClient:
    return seen(*(("forwarded", value) for value in values))


# Whom to trust


@pytest.mark.parametrize(
    ("entries", "host", "wanted"),
    [
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["127.0.0.1"], "::ffff:127.0.0.1", True),
        (["::ffff:127.0.0.1"], "127.0.0.1", True),
        (["::ffff:10.0.0.0/104"], "10.200.0.1", True),
        (["::ffff:10.0.0.0/104"], "11.0.0.1", False),
        (["::/0"], "127.0.0.1", False),
        (["10.0.0.0/8"], "10.255.255.255", True),
        (["10.0.0.0/8"], "11.0.0.0", False),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["10.0.0.0/8"], "::10.0.0.1", False),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["2001:0DB8::0001"], "2001:db8::1", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["fe80::1"], "fe80::1%eth0", True),
        (["::1"], "0:0:0:0:0:0:0:1", True),
        (["unix"], "127.0.0.1", False),
        (["*"], "203.0.113.7", True),
        ([], "127.0.0.1", False),
        (["10.0.0.0/8"], "", False),
        (["10.0.0.0/8"], "localhost", False),
        (["2001:db8::/32"], "1:2", False),
    ],
)
def test_peers(entries, host, wanted):
    assert TrustedProxies(entries).trusts_peer(host) is wanted


def test_unix_sockets():
    assert TrustedProxies(["unix"]).unix
    assert TrustedProxies(["*"]).unix
    assert not TrustedProxies(["127.0.0.1"]).unix


# X-Forwarded-For


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("203.0.113.7", ("203.0.113.7", 0)),
        ("203.0.113.7:54321", ("203.0.113.7", 54321)),
        ("203.0.113.7:0", ("203.0.113.7", 0)),
        ("  203.0.113.7\t", ("203.0.113.7", 0)),
        ("2001:db8::7", ("2001:db8::7", 0)),
        ("2001:DB8:0:0::7", ("2001:db8::7", 0)),
        ("[2001:db8::7]", ("2001:db8::7", 0)),
        ("[2001:db8::7]:443", ("2001:db8::7", 443)),
        ("2001:db8::7:443", ("2001:db8::7:443", 0)),
        ("::ffff:203.0.113.7", ("203.0.113.7", 0)),
        ("[::ffff:cb00:7107]:80", ("203.0.113.7", 80)),
        ("203.0.113.7,", ("203.0.113.7", 0)),
        (",203.0.113.7, ,\t,", ("203.0.113.7", 0)),
    ],
)
def test_one_address(value, wanted):
    assert by_list(value) == wanted


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", ",", "unknown", "_hidden", "localhost", "example.com", "-", "null", "1", "1.2.3", "1.2.3.4.5"),
        *("256.1.1.1", "01.2.3.4", "0x7f.0.0.1", "1.2.3.4/8", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4:70000", "1.2.3.4:-1"),
        *("1.2.3.4:99999999999999999999", "1.2.3.4:_port:", "[1.2.3.4]", "[::1", "::1]", "[]", "[::1]x", "[::1]:", "["),
        *("fe80::1%eth0", "[fe80::1%25eth0]:80", "::1::2", ":::", "12345::", '"203.0.113.7"', "for=203.0.113.7"),
        *("1.2.3.4 5.6.7.8", "\u0661.2.3.4".encode().decode("latin-1"), "1\x7f.2.3.4", "1.2.3.4\xa0", "unix:"),
        "1" * 70_000,
        "0:" * 30_000,
    ],
)
def test_what_is_no_address_says_nothing(value):
    assert by_list(value) is None
    assert by_list(f"{value}, {PROXY}") == (PROXY, 0)


def test_the_right_most_address_that_is_not_a_proxys_counts():
    assert by_list("1.1.1.1, 8.8.8.8, 203.0.113.7, 10.1.1.1, 127.0.0.1") == (CLIENT, 0)


def test_what_stands_left_of_it_does_not_matter():
    for spoof in ("127.0.0.1", "10.0.0.1", "x, 10.0.0.1", '"', '"10.0.0.1', "[", "\\", ",", "10.0.0.1," * 5000):
        assert by_list(f"{spoof}, {CLIENT}, {PROXY}") == (CLIENT, 0)


def test_several_lines_are_one_list():
    assert by_list("1.1.1.1", CLIENT, PROXY) == (CLIENT, 0)
    assert by_list(CLIENT, f"{PROXY}, {PROXY}") == (CLIENT, 0)
    assert by_list("1.1.1.1, ", f", {CLIENT}", "") == (CLIENT, 0)


def test_when_all_are_proxies_the_first_of_them_is_the_client():
    assert by_list("10.0.0.1, 10.0.0.2, 127.0.0.1") == ("10.0.0.1", 0)
    assert by_list("::ffff:10.0.0.1, 2001:db8:ffff::1") == ("10.0.0.1", 0)


def test_nobody_is_looked_for_behind_an_entry_that_is_not_understood():
    assert by_list(f"{CLIENT}, unknown, {PROXY}") == (PROXY, 0)
    assert by_list(f"{CLIENT}, unknown") is None


def test_a_proxy_behind_a_unix_socket_calls_its_peer_unix():
    assert by_list(f"{CLIENT}, unix:") == (CLIENT, 0)
    assert by_list(f"{CLIENT}, unix:, {PROXY}") == (CLIENT, 0)
    assert seen(("x-forwarded-for", f"{CLIENT}, unix:"), trusted=TrustedProxies(["127.0.0.1"])).client is None


def test_a_star_is_for_the_peer_only():
    """Else the left end would count, which the client writes."""
    assert seen(("x-forwarded-for", f"127.0.0.1, {CLIENT}"), trusted=TrustedProxies(["*"])).client == (CLIENT, 0)
    both = TrustedProxies(["*", "10.0.0.0/8"])
    assert seen(("x-forwarded-for", f"127.0.0.1, {CLIENT}, {PROXY}"), trusted=both).client == (CLIENT, 0)


def test_more_proxies_than_anybody_has():
    assert by_list(CLIENT + f", {PROXY}" * 30) == (CLIENT, 0)
    assert by_list(CLIENT + f", {PROXY}" * 5000) == (PROXY, 0)
    assert by_forwarded(f"for={CLIENT}" + f", for={PROXY}" * 30).client == (CLIENT, 0)
    assert by_forwarded(f"for={CLIENT}" + f", for={PROXY}" * 5000).client == (PROXY, 0)


# X-Forwarded-Proto


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        *(("https", True), ("http", False), ("wss", True), ("ws", False), ("HTTPS", True), (" https ", True)),
        *(("", None), ("on", None), ("https;", None), ("httpss", None), ('"https"', None), ("ftp", None)),
        *(("https, http", False), ("http,https", True), ("https,", None), ("https, ftp", None)),
    ],
)
def test_scheme(value, wanted):
    assert seen(("x-forwarded-proto", value)) == ForwardedClient(None, wanted)


def test_the_last_line_of_schemes_counts():
    assert seen(("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")).secure is False


def test_other_fields_say_nothing():
    fields = [("x-real-ip", CLIENT), ("x-forwarded", CLIENT), ("x-forwarded-host", "a"), ("x-forwarded-ssl", "on")]
    assert seen(*fields) == ForwardedClient(None, None)


# Forwarded


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        # RFC 7239 section 4
        ('for="_gazonk"', ForwardedClient(None, None)),
        ('For="[2001:db8:cafe::17]:4711"', ForwardedClient(("2001:db8:cafe::17", 4711), None)),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", ForwardedClient(("192.0.2.60", 0), False)),
        ("for=192.0.2.43, for=198.51.100.17", ForwardedClient(("198.51.100.17", 0), None)),
        # section 6
        ('for="192.0.2.43:47011"', ForwardedClient(("192.0.2.43", 47011), None)),
        ('for="[2001:db8:cafe::17]"', ForwardedClient(("2001:db8:cafe::17", 0), None)),
        ('for="192.0.2.43:_OBF-x.1"', ForwardedClient(("192.0.2.43", 0), None)),
        ("for=unknown;proto=https", ForwardedClient(None, True)),
        ('for="unknown:443"', ForwardedClient(None, None)),
        ("for=_SEVKISEK;proto=https", ForwardedClient(None, True)),
        # others
        ("FOR=192.0.2.43;PROTO=HTTPS", ForwardedClient(("192.0.2.43", 0), True)),
        ("for=192.0.2.43; proto=https ; by=_x", ForwardedClient(("192.0.2.43", 0), True)),
        (";;for=192.0.2.43;;", ForwardedClient(("192.0.2.43", 0), None)),
        (", ,for=192.0.2.43,\t,", ForwardedClient(("192.0.2.43", 0), None)),
        ("for=192.0.2.43:80", ForwardedClient(("192.0.2.43", 80), None)),
        ("for=[2001:db8::1]:80", ForwardedClient(("2001:db8::1", 80), None)),
        ('host="a,b;c=\\"d\\\\";for=192.0.2.43', ForwardedClient(("192.0.2.43", 0), None)),
        ('for="\\192.0.2.4\\3"', ForwardedClient(("192.0.2.43", 0), None)),
        ("proto=https", ForwardedClient(None, True)),
        ("proto=gopher;for=192.0.2.43", ForwardedClient(("192.0.2.43", 0), None)),
    ],
)
def test_an_element(value, wanted):
    assert by_forwarded(value) == wanted


@pytest.mark.parametrize(
    "value",
    [
        *("", "192.0.2.43", "for", "for=", "=192.0.2.43", "for =192.0.2.43", "for= 192.0.2.43", 'for="192.0.2.43'),
        *('for=192.0.2.43"', 'for="192.0.2.43"x', "for=192.0.2.43;for=192.0.2.44", "for=192.0.2.43;FOR=192.0.2.44"),
        *("for=192.0.2.43 by=x", "for=192.0.2.43;x", 'for="192.0.2.43\\"', "f\xf6r=192.0.2.43", "for=192.0.2.43\x7f"),
        *(
            "for=fe80::1%eth0",
            'for="[fe80::1%eth0]"',
            'for="[192.0.2.43]"',
            'for="192.0.2.43:123456"',
            '"',
            "\\",
            '"\\"',
        ),
        *('for="192.0.2.43:"', "for=unix:", "for=" + "1" * 70_000, '"' * 70_000, "\\" * 70_000, "a=b;" * 20_000),
    ],
)
def test_an_element_that_names_nobody(value):
    assert by_forwarded(value).client is None
    assert by_forwarded(f"for={PROXY}").client == (PROXY, 0)


def test_the_element_of_the_client_counts():
    chain = f'for=1.1.1.1;proto=http, for={CLIENT};proto=https, for="10.0.0.9:80";proto=http, for=127.0.0.1'
    assert by_forwarded(chain) == ForwardedClient((CLIENT, 0), True)
    assert by_forwarded(*chain.split(", ")) == ForwardedClient((CLIENT, 0), True)


def test_without_a_scheme_in_it_no_other_elements_counts():
    found = by_forwarded(f"for=1.1.1.1;proto=https, for={CLIENT}, for={PROXY};proto=https")
    assert found == ForwardedClient((CLIENT, 0), None)


def test_nobody_is_looked_for_behind_who_hides():
    for hidden in ("unknown", "_x", '"_x:1"', "x"):
        assert by_forwarded(f"for={CLIENT}, for={hidden}, for={PROXY}").client == (PROXY, 0)


@pytest.mark.parametrize(
    "begun",
    [
        *(
            '"',
            'for="',
            'for="1.1.1.1',
            'for=1.1.1.1;x="',
            'for=1.1.1.1;x="\\',
            "for=1.1.1.1;x=\\",
            '""""',
            "\\",
            '\\"',
        ),
        *('"a\\"', 'for=1.1.1.1;x="", "', "for", "=", ";", ",,", 'a="b"c="', "for=127.0.0.1", 'for="[::1]";x="'),
        *('a="\\\\\\"', 'a="\\\\"', "x" * 70_000, '"x",' * 2000),
    ],
)
@pytest.mark.parametrize("written", ["for=203.0.113.7", 'for="203.0.113.7"', 'for="203.0.113.7:1";host="a\\"b,c"'])
def test_a_client_can_not_swallow_what_its_proxy_writes_behind(begun, written):
    """Whatever stands to the left, an open quotation mark above all."""
    for chain in (f"{begun}, {written}", f"{begun},{written},for={PROXY}"):
        client = by_forwarded(chain).client
        assert client is not None
        assert client[0] == CLIENT
    client = by_forwarded(begun, written).client
    assert client is not None
    assert client[0] == CLIENT


# Both


def test_both_that_agree():
    assert seen(("x-forwarded-for", CLIENT), ("forwarded", f"for={CLIENT}")) == ForwardedClient((CLIENT, 0), None)
    fields = [
        ("forwarded", f'for="{CLIENT}:99";proto=https'),
        ("x-forwarded-for", CLIENT),
        ("x-forwarded-proto", "https"),
    ]
    assert seen(*fields) == ForwardedClient((CLIENT, 0), True)
    assert seen(("x-forwarded-for", "2001:db8::1"), ("forwarded", 'for="[2001:DB8:0::1]"')).client == ("2001:db8::1", 0)


@pytest.mark.parametrize("other", ["1.1.1.1", "127.0.0.1", "unknown", "_x", '"', "1.1.1.1, 10.0.0.1"])
def test_a_client_can_not_add_the_kind_that_its_proxy_does_not_know(other):
    """Which of the two it is can't be known, and both could be a lie."""
    with pytest.raises(RequestError) as caught:
        seen(("x-forwarded-for", CLIENT), ("forwarded", f"for={other}"))
    assert caught.value.status == 400
    with pytest.raises(RequestError):
        seen(("x-forwarded-for", other), ("forwarded", f"for={CLIENT}"))


def test_one_kind_may_name_the_scheme_and_the_other_the_client():
    assert seen(("x-forwarded-for", CLIENT), ("forwarded", "proto=https")) == ForwardedClient((CLIENT, 0), True)
    assert seen(("x-forwarded-proto", "https"), ("forwarded", f"for={CLIENT}")) == ForwardedClient((CLIENT, 0), True)


def test_when_the_schemes_differ_it_is_the_one_that_promises_less():
    for one, other in (("http", "https"), ("https", "http")):
        assert seen(("x-forwarded-proto", one), ("forwarded", f"proto={other}")).secure is False


# Whatever comes


_PIECES = st.sampled_from(
    [
        "for=",
        "proto=",
        "https",
        ",",
        ";",
        '"',
        "\\",
        " ",
        "[",
        "]",
        ":",
        "1.2.3.4",
        "10.0.0.1",
        "::1",
        "unknown",
        "_x",
        "%",
    ]
)
_VALUES = st.one_of(st.lists(_PIECES, max_size=12).map("".join), st.text(st.characters(max_codepoint=255), max_size=40))
_FIELDS = st.lists(
    st.tuples(st.sampled_from(["x-forwarded-for", "x-forwarded-proto", "forwarded"]), _VALUES), max_size=5
)


@given(_FIELDS)
def test_nothing_else_is_raised(fields):
    try:
        found = seen(*fields)
    except RequestError:
        return
    assert found.client is None or (0 <= found.client[1] <= 65535 and "%" not in found.client[0])


@given(st.lists(_VALUES, max_size=4))
def test_nothing_that_a_client_sends_hides_what_its_proxy_appends(values):
    """In a line of its own, or at the end of the last one."""
    for lines in ([*values, CLIENT], [*values[:-1], ", ".join([*values[-1:], CLIENT])]):
        assert by_list(*lines) == (CLIENT, 0)
    element = f'for="{CLIENT}";proto=http'
    for lines in ([*values, element], [*values[:-1], ", ".join([*values[-1:], element])]):
        assert by_forwarded(*lines) == ForwardedClient((CLIENT, 0), False)
