"""What `from flowserve import topics` offers, as tests/test_public_names.py holds for `flowserve` itself."""

from __future__ import annotations

import inspect

import pytest

from flowserve import topics

INTERNAL = {"cost", "origin", "place", "plain", "wire", "wrapped"}
"""Of a Message: what flowserve itself keeps in it, without the cost of a second object."""

NAMES: dict[str, set[str]] = {
    "Connection": {"count", "listen", "presence", "publish"},
    "Kind": {"BINARY", "END", "GAP", "JSON", "PRESENCE", "TEXT"},
    "Message": {"data", "json", "kind", "position", "published_at", "text", "topic"} | INTERNAL,
    "MissedMessages": set(),
    "Position": set(),
    "Presence": {"complete", "connections", "members"},
    "PresenceMember": {"connections", "id", "info", "since"},
    "RequestRefused": set(),
    "Stream": {"end", "write"},
    "Subscription": {"unsubscribe"},
    "TopicsError": set(),
}
FUNCTIONS = {
    *("connect", "count", "event_source", "grant", "listen", "presence"),
    *("publish", "serve", "stream", "subscribe"),
}
VALUES = {"OLDEST", "START", "SUBPROTOCOL"}


def test_all_that_is_exported() -> None:
    assert set(topics.__all__) == {*NAMES, *FUNCTIONS, *VALUES}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_classes(name: str) -> None:
    kind = getattr(topics, name)
    inherited = {each for base in (int, str, Exception) if issubclass(kind, base) for each in dir(base)}
    assert {each for each in dir(kind) if not each.startswith("_")} - inherited == NAMES[name]


@pytest.mark.parametrize("name", sorted({*NAMES, *FUNCTIONS}))
def test_all_of_them_have_a_docstring(name: str) -> None:
    public = getattr(topics, name)
    assert inspect.getdoc(public)
    for each in NAMES.get(name, ()):
        member = inspect.getattr_static(public, each)
        if inspect.isroutine(member) or isinstance(member, property):
            assert inspect.getdoc(member), each


def test_the_channel_layer() -> None:
    """It is not in `__all__`, as it needs Django Channels; its names are those of the specification, and `close()`."""
    own = {name for name in vars(topics.ChannelLayer) if not name.startswith("_")}
    specified = {"extensions", "flush", "group_add", "group_discard", "group_send", "new_channel", "receive", "send"}
    assert own == specified | {"close"}
    assert all(inspect.getdoc(vars(topics.ChannelLayer)[name]) for name in own - {"extensions"})
    assert "ChannelLayer" not in topics.__all__
    with pytest.raises(AttributeError, match="no attribute 'NothingLikeThat'"):
        topics.NothingLikeThat  # noqa: B018
