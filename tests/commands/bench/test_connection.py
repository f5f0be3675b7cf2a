"""One connection of `flowserve bench`."""

from __future__ import annotations

import pytest

from flowserve.commands.bench.connection import message_maker


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("size", [1, 4, 11, 12, 13, 64, 5000])
def test_messages_differ(size, binary):
    make = message_maker(size, binary)
    messages = [make(number) for number in range(500)]
    assert {type(message) for message in messages} == {bytes if binary else str}
    assert {len(message) for message in messages} == {size}
    assert len(set(messages)) == min(500, 16**size)
    if size > 300:
        assert len({message[-200:] for message in messages}) == 251, "not only in front"
