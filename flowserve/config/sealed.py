"""Frozen dataclasses with a clear error when an attribute is set, and pickles that other versions can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, FrozenInstanceError, fields
from typing import Any, TypeVar

T = TypeVar("T")


def sealed(cls: type[T]) -> type[T]:
    """Change a frozen dataclass with slots in two ways.

    When any attribute is set or deleted, it raises FrozenInstanceError; by itself it raises a TypeError about super()
    for names that are not fields (CPython issue 90562).

    Its pickles have the fields by name; by itself it has them by position. After an upgrade in place, a supervisor of
    one version passes them to workers of another one: fields that those do not know are left out, and those that are
    missing have their defaults.
    """

    def refuse(self: T, name: str, value: object = None) -> None:
        raise FrozenInstanceError(f"{name!r} can't be set: a {cls.__name__} does not change, and takes no attributes")

    def get_state(self: T) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def set_state(self: T, state: Mapping[str, Any]) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            if field.name in state or field.default is not MISSING:
                object.__setattr__(self, field.name, state.get(field.name, field.default))

    cls.__setattr__ = refuse  # type: ignore[method-assign,assignment]
    cls.__delattr__ = refuse  # type: ignore[method-assign,assignment]
    cls.__getstate__ = get_state  # type: ignore[attr-defined]
    cls.__setstate__ = set_state  # type: ignore[attr-defined]
    return cls
