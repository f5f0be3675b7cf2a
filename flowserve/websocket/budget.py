# cython: language_level=3, annotation_typing=False, binding=False
"""How much decoding connections may do before the event loop goes on with something else."""

from __future__ import annotations

UNLIMITED = 1 << 62

_LEAST = 32768  # units that each call may use in any case: so that small messages never wait for other connections
_MOST_OWED = 1 << 21  # units that all of them may use so beyond what there is
_READ_MARK = 1024  # compressed bytes: their cost is known only when they have been read


class Budget:
    """What the connections that share it may do in one iteration of the event loop.

    The unit is what one inflated byte costs, some two nanoseconds; what else costs time is said in those.
    `allowance` is what the decoding that runs just now may still use, `left` what the later ones may.
    """

    __slots__ = ("_begun", "_read", "_size", "allowance", "left")

    def __init__(self, size: int = UNLIMITED) -> None:
        self._size = size
        self._begun = 0
        self._read = 0
        self.left = size
        self.allowance = 0

    def begin(self) -> None:
        """A connection begins to decode."""
        self._begun = self.allowance = max(self.left, _LEAST) if self.left > -_MOST_OWED else 0

    def end(self) -> None:
        """It has stopped."""
        self.left -= self._begun - self.allowance
        if self.left < self._size >> 1:
            self.refill()

    def read(self, size: int) -> None:
        """`size` bytes of a compressed stream were read. What that costs does not depend on what comes out: look now
        and then whether there is time for more."""
        self._read += size
        if self._read >= _READ_MARK:
            self._read = 0
            if self.used_up():
                self.allowance = min(self.allowance, 0)

    def used_up(self) -> bool:
        """Whether what is left to do should wait."""
        return self.left <= 0

    def refill(self) -> None:
        """Much is used: have all of it back. Where there is an event loop, in its next iteration."""
        self.left = self._size
