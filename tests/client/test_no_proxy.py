"""What no_proxy covers: networks, addresses, domains and ports, as curl, Go and requests have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.client.no_proxy import is_excluded


@pytest.mark.parametrize(
    ("no_proxy", "covered", "others"),
    [
        ("", [], ["example.com", "127.0.0.1", "localhost"]),
        ("*", ["example.com", "10.0.0.1", "::1"], []),
        ("a.example, *", ["example.com"], []),
        ("example.com", ["example.com", "EXAMPLE.com.", "a.example.com"], ["badexample.com", "com"]),
        (".example.com", ["example.com", "a.example.com"], ["badexample.com"]),
        ("*.example.com", ["example.com", "a.example.com"], ["badexample.com"]),
        ("example.com.", ["example.com", "a.example.com."], []),
        ("EXAMPLE.com", ["example.com"], []),
        ("bücher.example", ["xn--bcher-kva.example"], []),
        ("a.example b.example\t, d.example", ["a.example", "b.example", "d.example"], ["e.example"]),
        ("10.0.0.0/8", ["10.0.0.1", "10.255.255.255"], ["11.0.0.0", "10.example", "::a00:1"]),
        ("10.1.2.3/8", ["10.0.0.1"], ["11.0.0.1"]),
        ("fd00::/8", ["fd12::1", "fd12::1%eth0"], ["fe80::1", "10.0.0.1"]),
        ("0.0.0.0/0", ["10.0.0.1"], ["::1", "example.com"]),
        ("10.0.0.1", ["10.0.0.1"], ["10.0.0.10", "1.10.0.0.1"]),
        ("::1", ["::1", "0:0:0:0:0:0:0:1"], ["::2"]),
        ("[::1]", ["::1"], ["::2"]),
        ("0:0::1", ["::1"], []),
        ("::ffff:10.0.0.1", ["10.0.0.1"], ["10.0.0.2"]),
        ("10.0.0.0/8", ["::ffff:10.0.0.1"], ["::ffff:11.0.0.1"]),
        ("10.0.0.0/33,10.0.0.0/x,a..b,:,[,],http://h", [], ["10.0.0.1", "a", "::1", "h", "http"]),
        (".", [], ["example.com"]),
        ("0.0.1", [], ["10.0.0.1"]),
    ],
)
def test_hosts(no_proxy, covered, others):
    assert [host for host in covered if not is_excluded(no_proxy, host, 443)] == []
    assert [host for host in others if is_excluded(no_proxy, host, 443)] == []


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("example.com:8080", "a.example.com"),
        (".example.com:8080", "a.example.com"),
        ("10.0.0.0/8:8080", "10.0.0.1"),
        ("10.0.0.1:8080", "10.0.0.1"),
        ("[::1]:8080", "::1"),
        ("[fd00::]/8:8080".replace("]/8", "/8]"), "fd00::1"),
        ("*:8080", "anything"),
    ],
)
def test_ports(no_proxy, host):
    assert is_excluded(no_proxy, host, 8080)
    assert not is_excluded(no_proxy, host, 80)


@given(st.text(max_size=30), st.text(max_size=30))
def test_anything_is_read(no_proxy, host):
    is_excluded(no_proxy, host, 80)
    assert is_excluded(f"{no_proxy},*", host, 80)
