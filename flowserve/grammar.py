"""Grammar that all rooms share: of header fields (RFC 9110), of hosts (RFC 3986), and of what log lines
show."""

from __future__ import annotations

import re

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""A token (RFC 9110 section 5.6.2), as part of a pattern."""
TOKEN_BYTES = TOKEN.encode()

_TOKEN = re.compile(TOKEN)
_TOKEN_BYTES = re.compile(TOKEN_BYTES)


def is_token(text: str) -> bool:
    """Return whether `text` is a token."""
    return _TOKEN.fullmatch(text) is not None


def is_token_bytes(data: bytes) -> bool:
    """Return whether `data` is a token."""
    return _TOKEN_BYTES.fullmatch(data) is not None


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: '1 request', '2 requests'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


_BRACKETED = re.compile(r"\[[^][]*\](:[0-9]*)?")


def has_stray_brackets(place: str) -> bool:
    """Whether a host and port have brackets that do not stand around an address (RFC 3986 section 3.2.2). Python's
    urlsplit() takes o:[::1] for [::1]."""
    return ("[" in place or "]" in place) and _BRACKETED.fullmatch(place) is None


def without_passwords(url: str) -> str:
    """Return a URL, or what was to be one, without what may be a password, for log lines and errors."""
    shown = re.sub(r"(password=)[^&#]*", r"\1***", url)
    return re.sub(r"^([a-zA-Z+.-]*://)?.*@", r"\1***@", shown, flags=re.DOTALL)
