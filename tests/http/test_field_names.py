"""Names of fields: what a parser looks up."""

from __future__ import annotations

from flowserve.http.field_names import FORWARDED, INTERPRETED, NAMES


def test_each_spelling_leads_to_the_name_in_lower_case() -> None:
    assert NAMES[b"Sec-WebSocket-Key"] == NAMES[b"sec-websocket-key"] == (b"sec-websocket-key", False)
    assert NAMES[b"X-Forwarded-For"] == (b"x-forwarded-for", True)
    assert NAMES[b"User-Agent"] == (b"user-agent", False)
    assert all(name == spelling.lower() for spelling, (name, _) in NAMES.items())


def test_what_is_interpreted_is_looked_up() -> None:
    """A name that is not found is slower, and is interpreted all the same."""
    assert {name for name, interpreted in NAMES.values() if interpreted} == INTERPRETED
    assert FORWARDED < INTERPRETED
