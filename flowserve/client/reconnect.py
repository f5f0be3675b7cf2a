"""When to connect again, and after how long (RFC 6455 section 7.2.3)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from flowserve.errors import HandshakeError

HELD = 10.0
"""Seconds; a connection that stood for so long has held: after it the delays begin anew."""
LONGEST_RETRY_AFTER = 300.0
"""Seconds; what a server asks for by Retry-After is not followed beyond this."""

_TRANSIENT = (429, 500, 502, 503, 504)

Delays = Callable[[], Iterable[float]]


def process_exception(error: Exception) -> Exception | None:
    """Tell whether to try again after `error`, which `connect()` raised: None if so, or the error to raise.

    Worth another try are OSError (the network, names, TLS: certificates are renewed, too), timeouts, a server that
    closes the connection without an answer, and answers with 429, 500, 502, 503 or 504, a proxy's too.
    """
    if isinstance(error, (OSError, asyncio.TimeoutError)):
        return None
    if isinstance(error, HandshakeError) and error.status in _TRANSIENT:
        return None
    unanswered = isinstance(error, HandshakeError) and isinstance(error.__cause__, EOFError)
    return None if unanswered else error


def backoff(
    initial_delay: float = 5.0, min_delay: float = 3.0, max_delay: float = 90.0, factor: float = 2.0
) -> Iterator[float]:
    """Give the delays between attempts, in seconds: the first at random up to `initial_delay`, so that the clients of
    a server that was restarted don't come all at once; then from `min_delay` on each `factor` times the one before, up
    to `max_delay`, of which half is at random."""
    yield random.random() * initial_delay
    delay = min_delay
    while True:
        yield delay * (0.5 + 0.5 * random.random())
        delay = min(delay * factor, max_delay)


def retry_after(error: Exception) -> float:
    """Return the seconds that an answer asks to wait for (RFC 9110 section 10.2.3), at most LONGEST_RETRY_AFTER; 0 if
    it does not."""
    if not isinstance(error, HandshakeError):
        return 0.0
    value = next((value for name, value in error.headers if name == b"retry-after"), b"").decode("latin-1")
    if value.isascii() and value.isdigit():
        seconds = float(value[:10])
    else:
        try:
            date = parsedate_to_datetime(value)
        except (TypeError, ValueError, IndexError, OverflowError):
            return 0.0
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        seconds = (date - datetime.now(timezone.utc)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


class Schedule:
    """The delays of one client: `delays()` gives a series of them, from its begin after each success."""

    def __init__(self, delays: Delays) -> None:
        self._delays = delays
        self._series: Iterator[float] | None = None

    def next(self) -> float | None:
        """The next delay, in seconds; None if the series has come to its end."""
        if self._series is None:
            self._series = iter(self._delays())
        return next(self._series, None)

    def reset(self) -> None:
        """A connection has held."""
        self._series = None
