"""What a client publishes: each message waits in its place until it is answered.

Theory of operation. A server with a limit says in its answers how many messages more it would take (`remaining`). No
more than that are sent without an answer, and the first one of a connection alone: so the server refuses none while
others are on their way behind it, which it might take. One that is refused with `rate_limited` keeps its place, and is
sent again after `retry_after`; those behind it wait. What was sent and not answered when the connection was lost is
sent again first on the next one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from flowserve.errors import TopicsError

Done = Callable[[dict[str, Any]], None]
"""Takes the answer to a request."""

_MAX_WAITING = 1000
"""Messages that may wait for the answer that they were published."""
_LONGEST_PAUSE = 60.0
"""Seconds after which a message is sent again at the latest, whatever the server says."""


class _Publish:
    """A message that was not answered."""

    __slots__ = ("answered", "is_sent", "request")

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.is_sent = False  # on this connection


class Publishing:
    """The messages of one client that wait."""

    def __init__(self, send: Callable[[dict[str, Any], Done], None]) -> None:
        """`send` sends a request; what it is given besides is called with the answer."""
        self._send = send
        self._waiting: dict[_Publish, None] = {}  # in the order in which they are sent
        self._unanswered = 0  # sent
        self._credit: float = 0  # how many more the server would take
        self._is_open = False
        self._pause: asyncio.TimerHandle | None = None

    async def publish(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request, as soon as there is one. Raises TopicsError if too many wait."""
        if len(self._waiting) >= _MAX_WAITING:
            raise TopicsError(f"{_MAX_WAITING} messages wait for their answers already")
        one = _Publish(request)
        self._waiting[one] = None
        self._flow()
        try:
            return await one.answered
        finally:
            if not one.is_sent:  # it was cancelled
                self._waiting.pop(one, None)

    def begin(self) -> None:
        """Send all that waits, on a new connection."""
        self._is_open = True
        self._flow()

    def stop(self) -> None:
        """Send nothing: the connection is lost."""
        self._is_open = False
        self._unanswered = self._credit = 0
        self._end_pause()
        for each in [*self._waiting]:
            each.is_sent = False
            if each.answered.done():  # it was cancelled
                del self._waiting[each]

    def refuse(self, code: str, message: str, *, sent: bool = False) -> None:
        """Answer all, or those that were `sent` on this connection, with an error."""
        for each in [each for each in self._waiting if each.is_sent or not sent]:
            self._answer(each, {"error": {"code": code, "message": message}})

    def _flow(self) -> None:
        """Send what the server takes."""
        if not self._is_open or self._pause is not None:
            return
        for each in self._waiting:
            if each.is_sent:
                continue
            if self._unanswered and self._credit < 1:
                return
            each.is_sent = True
            self._unanswered += 1
            self._credit -= 1
            self._send(each.request, partial(self._take, each))

    def _take(self, one: _Publish, answer: dict[str, Any]) -> None:
        self._unanswered -= 1
        error = answer.get("error")
        if error is None:
            self._credit = answer.get("remaining", math.inf) - self._unanswered
        if error is not None and error.get("code") == "rate_limited" and not one.answered.done():
            one.is_sent = False
            self._credit = 0
            self._end_pause()
            self._pause = asyncio.get_running_loop().call_later(_seconds(error.get("retry_after")), self._resume)
        else:
            self._answer(one, answer)
        self._flow()

    def _answer(self, one: _Publish, answer: dict[str, Any]) -> None:
        self._waiting.pop(one, None)
        if not one.answered.done():
            one.answered.set_result(answer)

    def _resume(self) -> None:
        self._end_pause()
        self._flow()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None


def _seconds(said: Any) -> float:
    """Return how long to wait, as a server says."""
    return said if type(said) in (int, float) and 0 <= said <= _LONGEST_PAUSE else _LONGEST_PAUSE
