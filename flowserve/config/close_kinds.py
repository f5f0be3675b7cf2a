"""Kinds of options for close frames: codes and reasons."""

from __future__ import annotations

import dataclasses
from typing import Any

from flowserve.config.kinds import Kind, number, text

_MAX_REASON = 123  # bytes of a reason in a close frame (RFC 6455 section 5.5)


def close_reason() -> Kind:
    """A close reason of at most 123 bytes (RFC 6455 section 7.1.6)."""
    plain = text(empty=True)

    def parse(value: Any) -> str:
        found = str(plain.parse(value))
        if len(found.encode()) > _MAX_REASON:
            raise ValueError(f"a close frame holds {_MAX_REASON} bytes at most (RFC 6455 section 5.5)")
        return found

    return Kind(parse, str, "TEXT", "str")


def close_code() -> Kind:
    """A close code that a server may send (RFC 6455 section 7.4)."""
    plain = number(1000, 4999, "CODE")

    def parse(value: Any) -> int:
        code = int(plain.parse(value))
        if code < 3000 and code not in (1000, 1001, 1008, 1011, 1012, 1013):
            raise ValueError(
                f"{code} is not a code to close with; write 1000, 1001, 1008, 1011 to 1013 or 3000 to 4999"
            )
        return code

    return dataclasses.replace(plain, parse=parse)
