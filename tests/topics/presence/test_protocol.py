"""Messages between processes: what is said comes through, whatever the size, and what is none is not understood."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.topics.presence.entries import Entry
from flowserve.topics.presence.protocol import Packet, PacketBuilder, decode, encode

names = st.text(min_size=1, max_size=20)
entries = (
    st.builds(Entry, st.text(max_size=20).map(json.dumps), st.floats(0, 1e10), st.floats(0, 1e10), st.integers(1, 1000))
    | st.none()
)
topics = st.dictionaries(names, st.tuples(st.dictionaries(names, entries, max_size=5), st.booleans()), max_size=5)


@given(st.sets(names), st.sets(names), topics, st.integers(1, 2000))
def test_all_of_it_comes_through(watch: Any, unwatch: Any, said: Any, most: int) -> None:
    builder = PacketBuilder(most)
    builder.watch(watch, resets=True)
    builder.unwatch(unwatch)
    for topic, (found, whole) in said.items():
        builder.state(topic, 1, 2, found.items(), whole)
    packets = [decode(encode(each)) for each in builder.packets]
    assert packets == builder.packets
    assert [each.resets for each in packets if each] == [True] + [False] * (len(packets) - 1)
    assert sorted(name for each in packets if each for name in each.watch) == sorted(watch)
    assert sorted(name for each in packets if each for name in each.unwatch) == sorted(unwatch)
    for topic, (found, whole) in said.items():
        statements = [each.topics[topic] for each in packets if each and topic in each.topics]
        assert {id: entry for each in statements for id, entry in each.entries.items()} == found
        assert [each.begins for each in statements] == [whole] + [False] * (len(statements) - 1)
        assert [each.ends for each in statements] == [False] * (len(statements) - 1) + [whole]


def test_a_heartbeat_in_literal_bytes() -> None:
    assert encode(Packet("ab12", 7)) == b'{"version":1,"sender":"ab12","number":7}'
    assert Packet("ab12", 7).says_nothing


def test_messages_are_about_as_large_as_they_may_be() -> None:
    builder = PacketBuilder(10_000)
    builder.state("t", 0, 0, ((str(number), Entry(json.dumps("x" * 100), 1e9, 1e9, 1)) for number in range(1000)), True)
    sizes = [len(encode(each)) for each in builder.packets]
    assert max(sizes) < 11_000
    assert len(sizes) < 30


WRONG: list[dict[str, Any]] = [
    {"sender": 1},
    {"number": "1"},
    {"number": True},
    {"number": -1},
    {"leaves": 1},
    {"resets": "yes"},
    {"watch": "t"},
    {"unwatch": [1]},
    {"asks": {"*": 1}},
    {"answers": ["a"]},
    {"answers": {"a": "1"}},
    {"topics": {"t": ["0", 0, False, False, {}]}},
    {"topics": {"t": [0, 0.5, False, False, {}]}},
    {"topics": {"t": [0, 0, 0, False, {}]}},
    {"topics": {"t": [0, 0, False, False, {"\ud800": None}]}},
    *(
        {"topics": {"t": [0, 0, False, False, {"a": entry}]}}
        for entry in (
            "abcd",
            [None, 1, 1, 1],
            ["", 1, 1, 1],
            ["{", 1, 1, 1],
            ["NaN", 1, 1, 1],
            ['"\ud800"', 1, 1, 1],
            ['"\\ud800"', 1, 1, 1],
            [json.dumps("x" * 1023), 1, 1, 1],
            ["1", "1", 1, 1],
            ["1", float("nan"), 1, 1],
            ["1", 1, 10**400, 1],
            ["1", 1, 1, None],
        )
    ),
]
"""Fields that can't be what they are."""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"1",
        b'{"version":2,"sender":"a","number":1}',
        b'{"version":1,"sender":"a","number":1,"more":1}',
        b'{"version":1,"sender":"a","number":1,"topics":{"t":[1]}}',
        b'{"version":1,"sender":"a","number":1,"topics":[]}',
        json.dumps({"version": 1, "topics": {"t": [0, 0, False, False, {"a": [1]}]}}).encode(),
        b"[" * 100_000,
        *(json.dumps({"version": 1, "sender": "a", "number": 1, **wrong}).encode() for wrong in WRONG),
    ],
)
def test_what_is_none_is_not_understood(data: bytes) -> None:
    assert decode(data) is None
