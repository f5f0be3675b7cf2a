"""Frozen dataclasses with a clear error when an attribute is set."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import TypeVar

T = TypeVar("T")


def sealed(cls: type[T]) -> type[T]:
    """Make a frozen dataclass with slots raise FrozenInstanceError when any attribute is set or deleted. By itself it
    raises a TypeError about super() for names that are not fields (CPython issue 90562)."""

    def refuse(self: T, name: str, value: object = None) -> None:
        raise FrozenInstanceError(f"{name!r} can't be set: a {cls.__name__} does not change, and takes no attributes")

    cls.__setattr__ = refuse  # type: ignore[method-assign,assignment]
    cls.__delattr__ = refuse  # type: ignore[method-assign,assignment]
    return cls
