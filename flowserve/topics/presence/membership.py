"""What an application says of a member."""

from __future__ import annotations

from typing import Any, NamedTuple

from flowserve.errors import TopicsError
from flowserve.topics.payload import has_half_characters
from flowserve.topics.presence.limits import limits

MAX_ID = 200
"""Characters of an id."""


class Membership(NamedTuple):
    """Who a connection is to be."""

    id: str
    info: str
    """JSON."""


def membership_of(member: Any, info: str) -> Membership:
    """Return it. Raises TypeError for an id that is no str, TopicsError for one, or an info, beyond the limits, or that
    UTF-8 can't hold, as those who show it to others would fail."""
    if not isinstance(member, str):
        raise TypeError(f"member is the id of a member, a str, not {type(member).__name__}")
    if not 0 < len(member) <= MAX_ID:
        raise TopicsError(f"the id of a member has 1 to {MAX_ID} characters, not {len(member)}")
    try:
        member.encode()
    except UnicodeEncodeError as error:
        raise TopicsError(f"the id of a member can't be written in UTF-8: {member!a}: {error.reason}") from None
    if has_half_characters(info):
        raise TopicsError(f"the info of a member can't be written in UTF-8: {info[:100]}: surrogates not allowed")
    size = len(info.encode())
    if size > limits.info:
        raise TopicsError(f"the info of a member has {size} bytes as JSON; at most {limits.info} are kept")
    return Membership(member, info)
