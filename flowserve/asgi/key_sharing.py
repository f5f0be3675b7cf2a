"""Dicts that share their keys, for objects of which every open connection has one."""

from __future__ import annotations

from typing import Any

_INSTANCES = 32
"""Number of instances after which Python (3.11 on) reserves no room for further keys than the class has."""


def key_sharing(items: dict[str, Any], compact: bool = False) -> dict[str, Any]:
    """Return a dict with `items` whose `copy()` shares its table of keys, as the instances of one class do (PEP 412).

    The table has room for a few further keys, which are shared too. If it is `compact` it has none: that takes the
    least memory, but the first further key turns a copy into an ordinary dict.
    """

    class Keys:
        pass

    for _ in range(_INSTANCES if compact else 1):
        instance = Keys()
        for key, value in items.items():
            setattr(instance, key, value)
    return vars(instance)
