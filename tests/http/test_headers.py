"""Header fields as text."""

from __future__ import annotations

import pytest

from flowserve.http.headers import Headers

FIELDS = [(b"Set-Cookie", b"a=1"), (b"x-name", b"caf\xe9"), (b"set-cookie", b"b=2")]


def test_they_are_found_whatever_their_case():
    headers = Headers(FIELDS)
    assert headers["X-Name"] == headers["x-NAME"] == "café"
    assert headers["set-cookie"] == "a=1, b=2"
    assert headers.get_all("SET-COOKIE") == ["a=1", "b=2"]
    assert headers.get_all("none") == []
    assert "Set-cookie" in headers
    assert "none" not in headers
    assert headers.get("none") is None
    with pytest.raises(KeyError):
        headers["none"]


def test_they_are_a_mapping():
    headers = Headers(FIELDS)
    assert list(headers) == ["set-cookie", "x-name"]
    assert len(headers) == 2
    assert dict(headers.items()) == {"set-cookie": "a=1, b=2", "x-name": "café"}
    assert headers.raw_items() == [("Set-Cookie", "a=1"), ("x-name", "café"), ("set-cookie", "b=2")]
    assert repr(headers) == f"Headers({headers.raw_items()!r})"
    assert not Headers([])


def test_what_they_are_made_of():
    pairs = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    assert Headers(pairs).raw_items() == pairs
    assert Headers(Headers(pairs)).raw_items() == pairs
    assert Headers({"X": "y"})["x"] == "y"


def test_setting_adds_and_deleting_takes_all():
    headers = Headers()
    headers["A"] = "1"
    headers["a"] = "2"
    headers["b"] = "3"
    assert headers.get_all("a") == ["1", "2"]
    del headers["A"]
    assert headers.raw_items() == [("b", "3")]
    del headers["none"]
