"""A client of the protocol by which programs elsewhere subscribe and publish by themselves; PROTOCOL.md specifies it.

Theory of operation. A task keeps a WebSocket open, and opens another one whenever it is lost. Each subscription knows
the position of the last item that it was given, from which it goes on. Requests have numbers; those to publish are kept
until they are answered (`publishing.py`), and sent again with the same key, so that they are done once. A subscription
whose queue is full unsubscribes, and goes on from the history once the queue is empty: it holds up no other one, and
takes no more memory.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import itertools
import json as json_module
import random
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, cast

from flowserve.client.connect import connect as connect_websocket
from flowserve.client.reconnect import backoff
from flowserve.errors import ConnectionClosed, RequestRefused, TopicsError
from flowserve.library.websocket import WebSocket
from flowserve.logs.loggers import logger
from flowserve.topics.client.publishing import Done, Publishing
from flowserve.topics.client.subscription import Gap, Message, Subscription
from flowserve.topics.message import Kind
from flowserve.topics.payload import UNSET, check_key, json_of, payload_of
from flowserve.topics.position import Position
from flowserve.topics.serving.protocol import SUBPROTOCOL
from flowserve.websocket.constants import CloseCode

Grant = Callable[[], "str | Awaitable[str]"]

_RETRY_DELAY = 0.5
"""Seconds after which it is tried again what a server can't do now; twice as many at most."""


def _delays() -> Iterable[float]:
    return backoff(initial_delay=0.5, min_delay=1.0, max_delay=30.0)


@asynccontextmanager
async def connect(
    uri: str, *, grant: Grant | None = None, max_queue: int = 1000, **options: Any
) -> AsyncIterator[Client]:
    """Be a client of `topics.serve()` at `uri`, ws:// or wss://; the connection is opened, and opened again whenever it
    is lost, in the background.

    `grant` returns a grant (`topics.grant()`), with or without `async`: it is called for each connection, and when a
    grant has expired. If it raises, that is logged, and it is called again later. `max_queue` is how many items wait
    for the program in each subscription. Other parameters are those of `flowserve.connect()`; those for reconnecting
    say after which delays, by default random ones of half a second at most at first and 30 at last, and after which
    errors it gives up: then all calls raise that error.

    Raises InvalidURI, ConfigError or TypeError for wrong arguments.
    """
    connecting = connect_websocket(uri, subprotocols=[SUBPROTOCOL], **{"reconnect_delays": _delays, **options})
    client = Client(connecting, grant, max_queue)
    running = asyncio.ensure_future(client._run())
    try:
        yield client
    finally:
        running.cancel()
        try:
            await asyncio.wait([running])
        finally:
            client._end(None)


class Client:
    """Subscribes and publishes; `connect()` makes it."""

    def __init__(self, connecting: connect_websocket, grant: Grant | None, max_queue: int) -> None:
        self._connecting = connecting
        self._grant = grant
        self._max_queue = max_queue
        self._numbers = itertools.count(1)
        self._keys = secrets.token_hex(8)
        self._subscriptions: dict[str, Subscription] = {}
        self._leaving: dict[str, int] = {}  # unsubscribes without an answer, until which all that comes is ignored
        self._requests: dict[int, Done] = {}  # without an answer
        self._publishing = Publishing(self._request)
        self._outgoing: asyncio.Queue[str] | None = None  # of the connection, while there is one
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False
        self._error: Exception | None = None

    def subscribe(self, topic: str, *, since: str | None = None, presence: bool = False) -> Subscription:
        """Return an asynchronous iterator over the messages of a topic, from now on, or after the position `since`;
        `topics.START` and `topics.OLDEST` are such, too. With `presence`, its attribute `present` says who is there, if
        the server allows that. Raises ValueError if the topic is subscribed to already."""
        if topic in self._subscriptions:
            raise ValueError(f"{topic!r} is subscribed to already; a topic has one subscription of a client")
        subscription = Subscription(self, topic, since, self._max_queue, presence)
        if self._ended:
            subscription._end(self._error)
        else:
            self._subscriptions[topic] = subscription
            self._begin(subscription)
        return subscription

    async def publish(
        self, topic: str, text: str | None = None, *, data: Any = None, json: Any = UNSET, key: str | None = None
    ) -> Position:
        """Publish a message; `text`, `data` and `json` are as for `topics.publish()`. Return its position, which is
        empty if it reached only the server's machine.

        A message that was not answered when the connection was lost is sent again, with its `key`, which is made if
        none is given, so that it is published once. One that the server takes only later, as its limit is reached, is
        sent again then, and those behind it wait.

        Raises TopicsError if a thousand messages wait already, or the client has ended; RequestRefused if the server
        refuses the message, or the client ends before there is an answer; and what `topics.publish()` raises. A message
        that was refused as `unavailable` or `closed` may have been published: the `key` of RequestRefused, given here,
        repeats it safely.
        """
        payload, kind = payload_of(text, data, json)
        check_key(key)
        message: dict[str, Any] = {
            "type": "publish",
            "topic": topic,
            "key": key or f"{self._keys}.{next(self._numbers)}",
        }
        if kind == Kind.BINARY:
            message.update(data=base64.b64encode(payload).decode(), encoding="base64")
        else:
            message["data"] = payload.decode() if kind == Kind.TEXT else json
        if self._ended:
            raise self._error or TopicsError("the client has ended")
        answer = await self._publishing.publish(message)
        if "error" in answer:
            raise _refused(answer["error"], message["key"])
        return _position(answer.get("position"))

    # The connection

    async def _run(self) -> None:
        """Be connected until it is cancelled, or an error does not pass."""
        error: Exception = TopicsError("the connection is lost, and the delays for reconnecting are exhausted")
        try:
            async with aclosing(cast(AsyncGenerator[WebSocket], aiter(self._connecting))) as connections:
                async for ws in connections:
                    with suppress(ConnectionClosed):
                        await self._converse(ws)
        except Exception as raised:
            error = raised
        self._end(error)

    async def _converse(self, ws: WebSocket) -> None:
        if ws.subprotocol != SUBPROTOCOL:
            raise TopicsError(f"the server does not speak {SUBPROTOCOL}")
        granted = await self._granted()
        outgoing = self._outgoing = asyncio.Queue()
        writing = asyncio.ensure_future(_write(ws, outgoing))
        try:
            self._resume(granted)
            while True:
                self._take(json_module.loads(await ws.receive()))
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code == CloseCode.MESSAGE_TOO_BIG:  # it would be so again
                self._publishing.refuse("too_big", "the message is too big for the server", sent=True)
            raise
        finally:
            self._outgoing = None
            self._publishing.stop()
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    def _resume(self, granted: str | None) -> None:
        """Ask again for all that the connection before has not."""
        self._requests.clear()
        self._leaving.clear()
        if granted is not None:
            self._request({"type": "authorize", "grant": granted})
        for subscription in self._subscriptions.values():
            if not subscription._paused:
                self._begin(subscription)
        self._publishing.begin()

    def _request(self, message: dict[str, Any], done: Done = lambda answer: None) -> None:
        if self._outgoing is not None:
            number = next(self._numbers)
            self._requests[number] = done
            self._outgoing.put_nowait(json_of({"id": number, **message}))

    async def _granted(self) -> str | None:
        """Return a grant, as soon as there is one."""
        if self._grant is None:
            return None
        for delay in _delays():
            try:
                found = self._grant()
                return await found if inspect.isawaitable(found) else found
            except Exception as error:  # whoever gives grants may be away, too
                logger.warning("Topics: there is no grant, and it is asked for again: %r", error)
            await asyncio.sleep(delay)
        raise AssertionError("the delays have no end")

    def _end(self, error: Exception | None) -> None:
        """End all that waits."""
        if self._ended:
            return
        self._ended, self._error = True, error
        for task in self._tasks:
            task.cancel()
        for subscription in self._subscriptions.values():
            subscription._end(error)
        self._publishing.refuse("closed", str(error or "the client has ended"))

    # Subscriptions

    def _begin(self, subscription: Subscription) -> None:
        if self._outgoing is None:
            return
        message: dict[str, Any] = {"type": "subscribe", "topic": subscription.topic}
        if subscription._since is not None:
            message["since"] = subscription._since
        if subscription._presence:
            message["presence"] = True

        def done(answer: dict[str, Any]) -> None:
            if self._subscriptions.get(subscription.topic) is not subscription:
                return
            if "error" in answer:
                self._on_refused(subscription, answer["error"])
            elif subscription._since is None and isinstance(answer.get("position"), str):
                subscription._since = subscription.position = answer["position"]

        self._request(message, done)

    def _pause(self, subscription: Subscription) -> None:
        """Unsubscribe; it begins again from its last position."""
        topic = subscription.topic
        if self._outgoing is None:
            return
        self._leaving[topic] = self._leaving.get(topic, 0) + 1
        leaving = self._leaving

        def done(answer: dict[str, Any]) -> None:
            leaving[topic] -= 1
            if not leaving[topic]:
                del leaving[topic]

        self._request({"type": "unsubscribe", "topic": topic}, done)

    def _leave(self, subscription: Subscription) -> None:
        if self._subscriptions.get(subscription.topic) is subscription:
            del self._subscriptions[subscription.topic]
            if not subscription._paused:
                self._pause(subscription)

    def _take(self, message: dict[str, Any]) -> None:
        """Deal with what the server has sent."""
        if "id" in message:
            number = message["id"]
            if number is None and self._requests:
                number = next(iter(self._requests))  # answers come in order
            done = self._requests.pop(number, None)
            if done is not None:
                done(message)
            return
        topic = message.get("topic", "")
        subscription = self._subscriptions.get(topic)
        if subscription is None or topic in self._leaving:
            return
        position = _position(message.get("position"))
        if "error" in message:
            self._on_refused(subscription, message["error"])
        elif message.get("end"):
            self._leave(subscription)
            failure = message.get("failure")
            subscription._end(failure and TopicsError(f"the stream {topic!r} is not complete: {failure}"))
        elif message.get("gap"):
            subscription._put(Gap(topic, position))
        elif "members" in message or "joins" in message:
            subscription._meet(message)
        elif "data" in message:
            data = message["data"]
            subscription._put(
                Message(topic, position, base64.b64decode(data) if message.get("encoding") == "base64" else data)
            )

    def _on_refused(self, subscription: Subscription, error: dict[str, Any]) -> None:
        code = error.get("code")
        old = code == "expired" or (code == "forbidden" and not subscription._renewed)
        if code == "unavailable" or (old and self._grant is not None):
            task = asyncio.ensure_future(self._begin_later(subscription, renew=code != "unavailable"))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._subscriptions.pop(subscription.topic, None)
            subscription._end(_refused(error))

    async def _begin_later(self, subscription: Subscription, renew: bool) -> None:
        """Subscribe again: with another grant, or when the server may be able to."""
        outgoing = self._outgoing
        if renew:
            subscription._renewed = True  # until something comes
            granted = await self._granted()
        else:
            await asyncio.sleep(random.uniform(_RETRY_DELAY, 2 * _RETRY_DELAY))
        if outgoing is self._outgoing and self._subscriptions.get(subscription.topic) is subscription:
            if renew:
                self._request({"type": "authorize", "grant": granted})
            self._begin(subscription)


async def _write(ws: WebSocket, outgoing: asyncio.Queue[str]) -> None:
    while True:
        await ws.send(await outgoing.get())


def _position(found: Any) -> Position:
    return Position(found if isinstance(found, str) else "")


def _refused(error: dict[str, Any], key: str | None = None) -> RequestRefused:
    return RequestRefused(str(error.get("code")), str(error.get("message")), error.get("retry_after"), key)
