"""A connection to NATS: requests, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, TypeVar

import nats.errors
from nats.aio.subscription import Subscription

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.nats.client import Received, ShortClient, Take
from flowserve.topics.remote.errors import LinkLost

_NO_RESPONDERS = "503"
_DENIED = "permissions violation"


class Unavailable(TopicsError):
    """JetStream can't work now, and has not done what was asked for."""


class Answered(TopicsError):
    """JetStream answers with an error. `code` is its number."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"NATS answers: {description}")
        self.code = code


_ACKNOWLEDGEMENT = rb'\{"stream": ?"[^"\\]*", ?"seq": ?(\d{1,20})\}'
"""What JetStream answers to a message that is stored, in general."""

T = TypeVar("T")
Answer = Callable[[T | TopicsError | int], None]
"""Takes what the answer to a request means, or what went wrong; an acknowledgement mostly as the sequence number in
it."""
Read = Callable[[Received], T]
"""Returns what an answer means."""


def _ignore(answer: Any) -> None:
    pass


def as_it_is(answer: Received) -> Received:
    """See `Read`."""
    return answer


_NOBODY = (0.0, _ignore, as_it_is)
"""Takes an answer for which nobody waits any more."""


def _settle(result: asyncio.Future[Received], answer: Received | TopicsError | int) -> None:
    if result.done():
        return
    if isinstance(answer, Received):
        result.set_result(answer)
    else:
        result.set_exception(Answered(0, "an acknowledgement of a message") if isinstance(answer, int) else answer)


def decode(message: Received) -> dict[str, Any]:
    """Return an answer of JetStream, which is JSON. Raises Unavailable, Answered."""
    try:
        answer: dict[str, Any] = json.loads(message.data.decode())
        error = answer.get("error")
    except (ValueError, AttributeError):
        raise Answered(0, f"something that is not JSON: {message.data[:100]!r}") from None
    if error is None:
        return answer
    text = str(error.get("description", error))
    if error.get("code") == 503:
        raise Unavailable(f"NATS answers: {text}")
    raise Answered(int(error.get("err_code", 0)), text)


class Link:
    """A connection, from `start()` on."""

    def __init__(self, client: ShortClient, address: str, timeout: float) -> None:
        """`timeout` is how many seconds an answer may take."""
        self._client = client
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._inbox = client.new_inbox()
        self._numbers = count(1)
        # who waits, and until when, by the end of the inbox: in that order, as all wait for the same time
        self._answers: dict[str, tuple[float, Answer[Any], Read[Any]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._subscriptions: set[Subscription] = set()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._closing: asyncio.Task[None] | None = None
        self.address = address
        self.reason = ""
        self.denied = ""
        """What NATS does not permit, as it says itself."""

    async def start(self) -> None:
        """Have answers come in."""
        self._client.expect(self._inbox, _ACKNOWLEDGEMENT, self._acknowledged)
        await self.subscribe(f"{self._inbox}.*", self._answered)

    @property
    def max_payload(self) -> int:
        """The most bytes of a message."""
        return self._client.max_payload

    @property
    def is_lost(self) -> bool:
        return self._lost.done()

    # The end

    def abort(self, reason: str) -> None:
        """End it at once."""
        if self._lost.done():
            return
        self.reason = reason
        self._lost.set_result(None)
        self._fail_all(LinkLost(reason))
        if self._timer is not None:
            self._timer.cancel()
        self._closing = self._loop.create_task(self._close())

    async def _close(self) -> None:
        with suppress(Exception):
            await asyncio.wait_for(self._client.close(), self._timeout)
        for subscription in self._subscriptions:
            subscription._stop_processing()  # as an error while it closes leaves their tasks behind

    def _failed(self, error: Exception) -> LinkLost:
        """Take an error of the client, with which no connection goes on; return what to raise."""
        self.abort(_text(error))
        return LinkLost(_text(error))

    async def ended(self) -> None:
        """Return when it is lost, and closed."""
        await asyncio.wait([self._lost])
        if self._closing is not None:
            await asyncio.wait([self._closing])

    def on_error(self, error: Exception) -> None:
        """Take what the client reports."""
        if _DENIED in str(error).lower():
            if not self.denied:
                logger.error("Topics: NATS at %s: %s", self.address, _text(error))
            self.denied = _text(error)
            self._fail_all(Answered(0, self.denied))
        elif isinstance(error, nats.errors.SlowConsumerError):
            self.abort("messages came faster than they could be taken")
        elif isinstance(error, (nats.errors.UnexpectedEOF, OSError)):
            self.abort(_text(error))
        else:
            logger.debug("Topics: NATS at %s: %s", self.address, error)

    async def ping(self) -> None:
        """End it unless there is an answer in time."""
        try:
            await self._client.flush(self._timeout)  # type: ignore[arg-type]  # any number does
        except (nats.errors.Error, OSError) as error:
            slow = isinstance(error, nats.errors.TimeoutError)
            self.abort(f"it has not answered for {self._timeout:g} s" if slow else _text(error))

    # Requests

    def _acknowledged(self, match: re.Match[bytes]) -> None:
        _, answer, _ = self._answers.pop(match[1].decode(), _NOBODY)
        answer(int(match[4]))

    def _answered(self, message: Received) -> None:
        _, answer, read = self._answers.pop(message.subject.rpartition(".")[2], _NOBODY)
        if not message.data and message.headers.get("Status") == _NO_RESPONDERS:
            answer(Unavailable("JetStream is not there"))
        else:
            answer(read(message))

    def ask(self, subject: str, data: bytes, headers: str, answer: Answer[T], read: Read[T]) -> None:
        """Send a request; `headers` as for `ShortClient.send()`. `answer` is called with what `read` makes of the
        answer, LinkLost or Unavailable, or with Answered if it is too large; at once, or later."""
        if self._lost.done():
            answer(LinkLost(self.reason))
            return
        number = str(next(self._numbers))
        try:
            self._client.send(subject, f"{self._inbox}.{number}", data, headers)
        except nats.errors.MaxPayloadError:
            answer(Answered(0, f"a message may have {self.max_payload} bytes at most"))
        except (nats.errors.Error, OSError) as error:
            answer(self._failed(error))
        else:
            self._answers[number] = self._loop.time() + self._timeout, answer, read
            if self._timer is None:
                self._timer = self._loop.call_later(self._timeout, self._expire)

    def _expire(self) -> None:
        """Have nobody wait any longer whose time is over; one timer does for all."""
        self._timer, now = None, self._loop.time()
        while self._answers:
            number, (due, answer, _) = next(iter(self._answers.items()))
            if due > now:
                self._timer = self._loop.call_at(due, self._expire)
                break
            del self._answers[number]
            answer(LinkLost(f"JetStream has not answered for {self._timeout:g} s"))

    def _fail_all(self, error: TopicsError) -> None:
        """Answer all requests with an error."""
        answers, self._answers = self._answers, {}
        for _, answer, _ in answers.values():
            answer(error)

    async def request(self, subject: str, data: bytes = b"") -> Received:
        """Return the answer. Raises LinkLost, Unavailable, Answered."""
        result: asyncio.Future[Received] = self._loop.create_future()
        self.ask(subject, data, "", partial(_settle, result), as_it_is)
        return await result

    async def call(self, subject: str, data: bytes = b"") -> dict[str, Any]:
        """Return what JetStream answers, as JSON. Raises LinkLost, Unavailable, Answered."""
        result: asyncio.Future[Received] = self._loop.create_future()
        self.ask(subject, data, "", partial(_settle, result), as_it_is)
        return decode(await result)

    # Subscriptions

    async def subscribe(self, subject: str, take: Take) -> Subscription:
        """Have messages passed to `take`. Raises LinkLost."""
        try:
            subscription = await self._client.listen(subject, take)
        except (nats.errors.Error, OSError) as error:
            raise self._failed(error) from None
        self._subscriptions.add(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        self._subscriptions.discard(subscription)
        with suppress(nats.errors.Error, OSError):
            await subscription.unsubscribe()


def _text(error: Exception) -> str:
    return str(error).removeprefix("nats: ")
