# cython: language_level=3, annotation_typing=False, binding=False
"""Awaitables for calls with nothing to wait for: one that is done already, and one that raises."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast


class Completed:
    """A coroutine that is done, and can be awaited any number of times. Sharing one object for all calls saves a tenth
    of the time of a message."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return _NOTHING

    def send(self, value: None) -> None:
        """See `coroutine.send()`; asyncio.create_task() requires all methods of a coroutine."""
        raise StopIteration

    def throw(self, *error: Any) -> None:
        """See `coroutine.throw()`."""
        raise next((each for each in error if isinstance(each, BaseException)), error[0])

    def close(self) -> None:
        """See `coroutine.close()`."""


_NOTHING = cast("Generator[Any, Any, None]", iter(()))
COMPLETED = Completed()
"""The shared object."""


async def raise_when_awaited(error: Exception) -> None:
    """Raise `error`."""
    raise error
