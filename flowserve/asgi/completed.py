# cython: language_level=3, annotation_typing=False, binding=False
"""An awaitable for calls that have nothing to wait for."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast


class Completed:
    """A coroutine that has nothing left to do, as often as it is awaited: one for all saves a tenth of a message."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return _NOTHING

    def send(self, value: None) -> None:
        """For asyncio.create_task(), which wants all that a coroutine has."""
        raise StopIteration

    def throw(self, *error: Any) -> None:
        """Likewise; `error` as for a coroutine."""
        raise next((each for each in error if isinstance(each, BaseException)), error[0])

    def close(self) -> None:
        """Likewise."""


_NOTHING = cast("Generator[Any, Any, None]", iter(()))
COMPLETED = Completed()
