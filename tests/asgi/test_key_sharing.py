"""Dicts that share their keys."""

from __future__ import annotations

import sys

import pytest

from flowserve.asgi.key_sharing import key_sharing

ITEMS = {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize("compact", [False, True])
def test_copies_are_apart(compact: bool) -> None:
    one = key_sharing(ITEMS, compact)
    copy, other = one.copy(), one.copy()
    copy["a"] = 4
    copy["d"] = 5
    assert one == other == ITEMS
    assert copy == {"a": 4, "b": 2, "c": 3, "d": 5}
    assert list(copy) == ["a", "b", "c", "d"]
    assert type(one) is dict


@pytest.mark.skipif(sys.implementation.name != "cpython" or sys.version_info < (3, 11), reason="measured there")
def test_copies_are_small() -> None:
    plain = {str(number): None for number in range(14)}
    roomy, compact = key_sharing(plain).copy(), key_sharing(plain, compact=True).copy()
    assert sys.getsizeof(compact) < sys.getsizeof(roomy) < sys.getsizeof(plain)
    before = sys.getsizeof(roomy)
    roomy["one more"] = None
    assert sys.getsizeof(roomy) == before
