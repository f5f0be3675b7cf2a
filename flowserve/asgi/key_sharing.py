"""Dicts in less memory, for what every open connection has one of."""

from __future__ import annotations

from typing import Any

_SETTLE = 32
"""Instances after which Python (3.11 on) makes no more room for keys to come than a class has."""


def key_sharing(items: dict[str, Any], settled: bool = False) -> dict[str, Any]:
    """Return a dict whose `copy()` shares its table of keys, as the instances of one class do (PEP 412).

    It has room for some keys more, which are shared too; not if it is `settled`, which takes least memory but turns
    into a dict of its own with the first key more.
    """

    class Keys:
        pass

    for _ in range(_SETTLE if settled else 1):
        one = Keys()
        for key, value in items.items():
            setattr(one, key, value)
    return vars(one)
