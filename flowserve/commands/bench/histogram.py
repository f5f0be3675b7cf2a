"""Times in bounded memory, whatever their number: a histogram with 128 buckets for each doubling."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

PRECISION = 1 / 128
"""The widest a bucket is, beside the times in it: what is told of them is at most so far off."""
_LONGEST = (1 << 44) - 1  # nanoseconds, some 5 hours: what is above counts as that
_STEPS = (1, 1.5, 2, 3, 5, 7)
"""Where the rows of a drawing begin, in each decade: each about one and a half of the one before."""
_BOUNDS = [int(step * 10**power) for power in range(1, 14) for step in _STEPS]


class Histogram:
    """Whole nanoseconds go in; seconds come out, each the middle of a bucket."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = [0] * (_index(_LONGEST) + 1)

    def add(self, time: int) -> None:
        # _index() written out, as this is done for every message
        shift = time.bit_length() - 8
        if shift <= 0:
            self._counts[time] += 1
        elif shift <= 36:
            self._counts[(shift << 7) + (time >> shift)] += 1
        else:
            self._counts[-1] += 1

    @property
    def count(self) -> int:
        return sum(self._counts)

    def __iter__(self) -> Iterator[tuple[float, int]]:
        """Pairs (nanoseconds, how many), upwards."""
        return ((_middle(index), count) for index, count in enumerate(self._counts) if count)

    @property
    def least(self) -> float | None:
        return next((time / 1e9 for time, _ in self), None)

    @property
    def mean(self) -> float | None:
        count = self.count
        return sum(time * many for time, many in self) / count / 1e9 if count else None

    def quantile(self, part: float) -> float | None:
        """The time that `part` of all times do not exceed; None if there are none. 1.0 is the longest."""
        left = self.count * part
        for time, many in self:
            left -= many
            if left <= 0:
                return time / 1e9
        return None

    def rows(self) -> list[tuple[float, float, int]]:
        """A coarse histogram: (from, to, how many) in seconds, from the shortest to the longest without a gap."""
        found: dict[int, int] = {}
        for time, many in self:
            row = max(bisect_right(_BOUNDS, time) - 1, 0)
            found[row] = found.get(row, 0) + many
        span = range(min(found), max(found) + 1) if found else range(0)
        return [(_BOUNDS[row] / 1e9, _BOUNDS[row + 1] / 1e9, found.get(row, 0)) for row in span]


def _index(time: int) -> int:
    """The bucket of a time: below 256 ns its own, then the eight leading bits say which."""
    shift = max(time.bit_length() - 8, 0)
    return (shift << 7) + (time >> shift)


def _middle(index: int) -> float:
    if index < 256:
        return float(index)
    shift = (index >> 7) - 1
    return float((index - (shift << 7)) << shift) + (1 << shift) / 2
