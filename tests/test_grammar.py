"""Tokens (RFC 9110 section 5.6.2), and counts in texts."""

from __future__ import annotations

from flowserve.grammar import has_stray_brackets, is_token, is_token_bytes, plural, without_passwords

ALLOWED = set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def test_each_character() -> None:
    for code in range(256):
        assert is_token(chr(code)) == is_token_bytes(bytes([code])) == (code in ALLOWED)


def test_as_a_whole() -> None:
    assert is_token("a-b")
    assert is_token_bytes(b"a-b")
    for text in ("", "a b", "a\n", "é", "\uff21", "\u0130"):
        assert not is_token(text)
        assert not is_token_bytes(text.encode())


def test_counts() -> None:
    assert [plural(count, "line") for count in (0, 1, 2)] == ["0 lines", "1 line", "2 lines"]


def test_brackets_stand_around_a_whole_address() -> None:
    for place in ("[::1]", "[::1]:80", "[::1]:", "example.com:80"):
        assert not has_stray_brackets(place)
    for place in ("o:[::1]", "[::1]o:80", "o[::1]", "[::1", "::1]", "[[::1]]", "[::1]:x"):
        assert has_stray_brackets(place)


def test_passwords_are_not_shown() -> None:
    for url, shown in (
        ("redis://host:1/2", "redis://host:1/2"),
        ("redis+sentinel://me:secret@host,other/m", "redis+sentinel://***@host,other/m"),
        ("nats://me:secret@host,me:secret@other", "nats://***@other"),
        ("redis://host?password=secret&db=1", "redis://host?password=***&db=1"),
        ("redis://host/m?sentinel_password=secret", "redis://host/m?sentinel_password=***"),
        ("redis://:sec/ret@host", "redis://***@host"),
        ("redis:me:secret@host", "***@host"),
        ("me:sec\nret@host", "***@host"),
    ):
        assert without_passwords(url) == shown
