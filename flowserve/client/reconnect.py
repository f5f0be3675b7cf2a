"""Whether to reconnect after an error, and after which delay (RFC 6455 section 7.2.3)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from flowserve.errors import HandshakeError

STABLE_SECONDS = 10.0
"""Seconds; after a connection that was open for so long the delays start from the first one again."""
LONGEST_RETRY_AFTER = 300.0
"""Seconds; a longer delay in a Retry-After field is cut to this."""

_TRANSIENT = (429, 500, 502, 503, 504)

Delays = Callable[[], Iterable[float]]


def process_exception(error: Exception) -> Exception | None:
    """Decide whether `connect()` retries after `error`, which it raised: return None to retry, or the error to raise.

    It retries after OSError (network, name resolution, and TLS, as certificates get renewed), after a timeout, if the
    server closes the connection without a response, if a server or proxy responds with 429, 500, 502, 503 or 504, and
    if a SOCKS proxy can't reach the server.
    """
    if isinstance(error, (OSError, asyncio.TimeoutError)):
        return None
    if isinstance(error, HandshakeError) and error.status in _TRANSIENT:
        return None
    may_pass = isinstance(error, HandshakeError) and isinstance(error.__cause__, (EOFError, ConnectionError))
    return None if may_pass else error


def backoff(
    initial_delay: float = 5.0, min_delay: float = 3.0, max_delay: float = 90.0, factor: float = 2.0
) -> Iterator[float]:
    """Yield the delays between attempts, in seconds.

    The first is random between 0 and `initial_delay`, so that the clients of a restarted server do not reconnect all at
    once. The following ones grow from `min_delay` by `factor` up to `max_delay`; each is reduced at random by up to one
    half.
    """
    yield random.random() * initial_delay
    delay = min_delay
    while True:
        yield delay * (0.5 + 0.5 * random.random())
        delay = min(delay * factor, max_delay)


def retry_after(error: Exception) -> float:
    """Return the delay in seconds that the Retry-After field of a HandshakeError asks for (RFC 9110 section 10.2.3), at
    most LONGEST_RETRY_AFTER; 0 for another error or without a valid field."""
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
    """The delays of one client. `delays()` returns an iterable of seconds; it is called again after each `reset()`."""

    def __init__(self, delays: Delays) -> None:
        self._delays = delays
        self._series: Iterator[float] | None = None

    def next(self) -> float | None:
        """Return the next delay in seconds, None if there are no more."""
        if self._series is None:
            self._series = iter(self._delays())
        return next(self._series, None)

    def reset(self) -> None:
        """Start from the first delay again: a connection was open for STABLE_SECONDS."""
        self._series = None
