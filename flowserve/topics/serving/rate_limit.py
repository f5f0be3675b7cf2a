"""A rate limit, as a token bucket."""

from __future__ import annotations

from time import monotonic


class RateLimit:
    """Allows `rate` events a second over time, and `burst` of them at once."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        """Raises ValueError for values that allow nothing."""
        if not (rate > 0 and burst >= 1):
            raise ValueError("a rate limit is above 0 a second, with a burst of 1 at least")
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = monotonic()

    def take(self) -> float:
        """Take part in it: return 0 if that is allowed, or else the seconds after which it will be."""
        now = monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0

    @property
    def remaining(self) -> int:
        """How many more are allowed at once, at least."""
        return int(self._tokens)
