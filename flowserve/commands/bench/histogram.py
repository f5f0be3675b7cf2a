"""A histogram of times in bounded memory, with 128 buckets for each doubling."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

PRECISION = 1 / 128
"""The largest width of a bucket relative to its times, and so the largest relative error of the results."""
_LONGEST = (1 << 44) - 1  # nanoseconds, some 5 hours; longer times are counted as this
_STEPS = (1, 1.5, 2, 3, 5, 7)
"""The lower bounds of `rows()` in each decade; each is about 1.5 times the one before."""
_BOUNDS = [int(step * 10**power) for power in range(1, 14) for step in _STEPS]


class Histogram:
    """Counts times, given in whole nanoseconds. Results are in seconds and each the middle of a bucket."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = [0] * (_index(_LONGEST) + 1)

    def add(self, time: int) -> None:
        """Count a time in nanoseconds."""
        # _index() inlined, as this runs for every message
        shift = time.bit_length() - 8
        if shift <= 0:
            self._counts[time] += 1
        elif shift <= 36:
            self._counts[(shift << 7) + (time >> shift)] += 1
        else:
            self._counts[-1] += 1

    @property
    def count(self) -> int:
        """How many times were counted."""
        return sum(self._counts)

    def __iter__(self) -> Iterator[tuple[float, int]]:
        """Iterate over pairs (nanoseconds, count) of the buckets that are not empty, from the shortest time."""
        return ((_middle(index), count) for index, count in enumerate(self._counts) if count)

    @property
    def least(self) -> float | None:
        """The shortest time in seconds; None if there is none."""
        return next((time / 1e9 for time, _ in self), None)

    @property
    def mean(self) -> float | None:
        """The mean in seconds; None if there is none."""
        count = self.count
        return sum(time * number for time, number in self) / count / 1e9 if count else None

    def quantile(self, part: float) -> float | None:
        """Return the time in seconds that the fraction `part` of all times does not exceed; None if there are none. A
        `part` of 1.0 gives the longest time."""
        left = self.count * part
        for time, number in self:
            left -= number
            if left <= 0:
                return time / 1e9
        return None

    def rows(self) -> list[tuple[float, float, int]]:
        """Return a coarse histogram: (from, to, count) with bounds in seconds, from the shortest to the longest time
        without gaps."""
        counts: dict[int, int] = {}
        for time, number in self:
            row = max(bisect_right(_BOUNDS, time) - 1, 0)
            counts[row] = counts.get(row, 0) + number
        span = range(min(counts), max(counts) + 1) if counts else range(0)
        return [(_BOUNDS[row] / 1e9, _BOUNDS[row + 1] / 1e9, counts.get(row, 0)) for row in span]


def _index(time: int) -> int:
    """Return the bucket of a time: one for each nanosecond below 256, then one for each value of the eight leading bits
    and the bit length."""
    shift = max(time.bit_length() - 8, 0)
    return (shift << 7) + (time >> shift)


def _middle(index: int) -> float:
    if index < 256:
        return float(index)
    shift = (index >> 7) - 1
    return float((index - (shift << 7)) << shift) + (1 << shift) / 2
