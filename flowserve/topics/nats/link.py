"""A connection to NATS: requests, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
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


class Link:
    """A connection, from `start()` on."""

    def __init__(self, client: Client, address: str, timeout: float) -> None:
        """`timeout` is how many seconds an answer may take."""
        self._client = client
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._inbox = client.new_inbox()
        self._numbers = count(1)
        self._answers: dict[str, asyncio.Future[Msg]] = {}
        self._subscriptions: set[Subscription] = set()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._closing: asyncio.Task[None] | None = None
        self.address = address
        self.reason = ""
        self.denied = ""
        """What NATS does not permit, as it says itself."""

    async def start(self) -> None:
        """Have answers come in."""
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
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LinkLost(reason))
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
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(Answered(0, self.denied))
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

    async def _answered(self, message: Msg) -> None:
        answer = self._answers.get(message.subject)
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def request(self, subject: str, data: bytes = b"", headers: dict[str, str] | None = None) -> Msg:
        """Return the answer. Raises LinkLost, Unavailable."""
        if self._lost.done():
            raise LinkLost(self.reason)
        inbox = f"{self._inbox}.{next(self._numbers)}"
        answer: asyncio.Future[Msg] = self._loop.create_future()
        self._answers[inbox] = answer
        timer = self._loop.call_later(self._timeout, self._expire, answer)
        try:
            await self._client.publish(subject, data, inbox, headers)
            message = await answer
        except nats.errors.MaxPayloadError:
            raise Answered(0, f"a message may have {self.max_payload} bytes at most") from None
        except (nats.errors.Error, OSError) as error:
            raise self._failed(error) from None
        finally:
            timer.cancel()
            del self._answers[inbox]
        if message.headers and not message.data and message.headers.get("Status") == _NO_RESPONDERS:
            raise Unavailable("JetStream is not there")
        return message

    def _expire(self, answer: asyncio.Future[Msg]) -> None:
        if not answer.done():
            answer.set_exception(LinkLost(f"JetStream has not answered for {self._timeout:g} s"))

    async def call(self, subject: str, data: bytes = b"", headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Return what JetStream answers, as JSON. Raises LinkLost, Unavailable, Answered."""
        message = await self.request(subject, data, headers)
        try:
            answer: dict[str, Any] = json.loads(message.data)
            error = answer.get("error")
        except (ValueError, AttributeError):
            raise Answered(0, f"something that is not JSON: {message.data[:100]!r}") from None
        if error is None:
            return answer
        text = str(error.get("description", error))
        if error.get("code") == 503:
            raise Unavailable(f"NATS answers: {text}")
        raise Answered(int(error.get("err_code", 0)), text)

    # Subscriptions

    async def subscribe(self, subject: str, take: Callable[[Msg], Awaitable[None]]) -> Subscription:
        """Have messages passed to `take`. Raises LinkLost."""
        try:
            subscription = await self._client.subscribe(subject, cb=take)
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
