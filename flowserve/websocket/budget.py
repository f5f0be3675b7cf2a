# cython: language_level=3, annotation_typing=False, binding=False
"""A bound on how much connections may decode before the event loop goes on with something else."""

from __future__ import annotations

UNLIMITED = 1 << 62

_MIN_ALLOWANCE = 32768  # units per call in any case, so that small messages never wait for other connections
_MAX_OVERDRAFT = 1 << 21  # units that all connections together may use in this way beyond the budget
_CHECK_MARK = 1024  # compressed bytes after which the time is checked: their cost is known only once they are read


class Budget:
    """What the connections that share it may decode in one iteration of the event loop.

    The unit is the cost of one inflated byte, some two nanoseconds; other costs are given in the same unit. `allowance`
    is what the running call of `Connection.feed()` may still use, `remaining` what is left for later calls.
    """

    __slots__ = ("_granted", "_size", "_unchecked", "allowance", "remaining")

    def __init__(self, size: int = UNLIMITED) -> None:
        """`size` is the budget of one iteration, in units."""
        self._size = size
        self._granted = 0  # the allowance that the running call began with
        self._unchecked = 0  # compressed bytes read since the time was checked
        self.remaining = size
        self.allowance = 0

    def begin(self) -> None:
        """Grant an allowance to a connection that begins to decode."""
        self._granted = self.allowance = max(self.remaining, _MIN_ALLOWANCE) if self.remaining > -_MAX_OVERDRAFT else 0

    def end(self) -> None:
        """Charge what the connection has used of it."""
        self.remaining -= self._granted - self.allowance
        if self.remaining < self._size >> 1:
            self.refill()

    def count_read(self, size: int) -> None:
        """Note that `size` bytes of a compressed stream were read. Their cost does not depend on their output, so the
        allowance ends if the time is used up, which is checked after every _CHECK_MARK bytes."""
        self._unchecked += size
        if self._unchecked >= _CHECK_MARK:
            self._unchecked = 0
            if self.used_up():
                self.allowance = min(self.allowance, 0)

    def used_up(self) -> bool:
        """Whether further decoding should wait."""
        return self.remaining <= 0

    def refill(self) -> None:
        """Restore the whole budget, as half of it is used. Subclasses with an event loop do so in its next
        iteration."""
        self.remaining = self._size
