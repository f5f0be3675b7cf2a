"""Values that can't be changed, and say so."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import TypeVar

T = TypeVar("T")


def sealed(cls: type[T]) -> type[T]:
    """Have a frozen dataclass with slots say of any attribute that it can't be set; by itself it fails with a
    TypeError about super() where there is no such field (CPython issue 90562)."""

    def refuse(self: T, name: str, value: object = None) -> None:
        raise FrozenInstanceError(f"{name!r} can't be set: a {cls.__name__} does not change, and takes no attributes")

    cls.__setattr__ = refuse  # type: ignore[method-assign,assignment]
    cls.__delattr__ = refuse  # type: ignore[method-assign,assignment]
    return cls
