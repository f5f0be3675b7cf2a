"""Times, counted in bounded memory."""

from __future__ import annotations

from itertools import pairwise

import pytest

from flowserve.commands.bench.histogram import PRECISION, Histogram


def test_times_are_as_precise_as_is_said():
    histogram, times = Histogram(), [1, 2, 255, 257, 300, 1000, 12_345, 999_999, 10**9, 3 * 10**12]
    for time in times:
        histogram.add(time)
    assert histogram.count == len(times)
    assert [time for time, _ in histogram] == pytest.approx(times, rel=PRECISION / 2)
    assert histogram.least == pytest.approx(1e-9)
    assert histogram.mean == pytest.approx(sum(times) / len(times) / 1e9, rel=PRECISION)
    for part, time in ((0.1, 1), (0.5, 300), (0.55, 1000), (0.9, 10**9), (1.0, 3 * 10**12)):
        assert histogram.quantile(part) == pytest.approx(time / 1e9, rel=PRECISION)
    histogram.add(1 << 60)
    assert histogram.quantile(1.0) == pytest.approx(2**44 / 1e9, rel=PRECISION), "the longest there is"


def test_no_times():
    histogram = Histogram()
    assert (histogram.count, histogram.least, histogram.mean, histogram.quantile(0.5)) == (0, None, None, None)
    assert histogram.rows() == []


def test_rows_have_no_gaps():
    histogram = Histogram()
    for time in (1, 12_000, 12_500, 60_000):
        histogram.add(time)
    rows = histogram.rows()
    assert [count for *_, count in rows if count] == [1, 2, 1]
    assert all(before[1] == after[0] for before, after in pairwise(rows))
    assert rows[-1][:2] == (5e-5, 7e-5)
