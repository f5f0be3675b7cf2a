"""Grammar that header fields of all protocols here share, and the options that name some (RFC 9110)."""

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
