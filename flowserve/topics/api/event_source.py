"""Topics as server-sent events (HTML Living Standard, section 9.2), which browsers resume by themselves."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from functools import cache
from typing import Any, Literal

from flowserve.topics.api.functions import Since, by_topic, distinct, membership_by
from flowserve.topics.api.listener import Listener
from flowserve.topics.envelopes import JSON
from flowserve.topics.hub.current import current_source
from flowserve.topics.message import Gap, Kind, Message
from flowserve.topics.position import Position
from flowserve.topics.presence.membership import Membership

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would hold events back
}


def event_source(
    request: Any,
    *topics: str,
    since: Since = None,
    envelope: Literal["json"] | None = None,
    retry: float = 3.0,
    heartbeat: float = 15.0,
    member: str | None = None,
    info: Any = None,
    presence: bool = False,
) -> Any:
    """Return a response that is a stream of server-sent events, one for each message of topics.

    `request` is a request of Starlette, FastAPI or Django, and the response one of the same framework; or it is an ASGI
    scope, and the response an ASGI application. A client that comes back with Last-Event-ID gets what it has missed;
    `since`, as for `subscribe()`, is for one that comes without. `retry` is the time in seconds after which it should
    come back when the connection is lost, `heartbeat` the time without a message after which a comment is sent.

    The id of an event is a position. Binary messages are sent in base64. Where messages are missing, an event of the
    type "gap" says so, with the topic as data. When all topics are streams that have ended, an event of the type "end"
    closes the stream: the page has to close its EventSource then, which would come back otherwise. Its data is empty,
    or says why a stream is not complete. `member`, `info` and `presence` as for `subscribe()`; presence comes as events
    of the type "presence".

    With the `envelope` "json" the data of each event, but for the last one, is what a WebSocket would get: messages,
    gaps, presence and ends of streams, with their topics. First comes an event of the type "positions" then, whose data
    is an object with those positions, by topic, from which on all is delivered for a client that came without.

    Raises TypeError for what is no request, or another envelope.
    """
    headers = getattr(request, "headers", None)
    if headers is None and (not isinstance(request, Mapping) or request.get("type") != "http"):
        raise TypeError(f"event_source() takes a request or its ASGI scope, not {type(request).__name__}")
    last_id = _last_event_id(request["headers"]) if headers is None else headers.get("last-event-id")
    if envelope not in (None, "json"):
        raise TypeError(f"envelope is None or 'json', not {envelope!r}")
    topics = distinct(topics)
    sinces = _resumed(last_id, topics) or by_topic(since, topics)
    joining = membership_by(member, info), presence
    events = EventStream(topics, sinces, retry, heartbeat, envelope is not None, joining)
    framework = {each.__module__.partition(".")[0] for each in type(request).__mro__}
    if "starlette" in framework:
        return _starlette_response()(events)
    if "django" in framework:
        from django.http import StreamingHttpResponse

        return StreamingHttpResponse(events, headers=HEADERS)
    return events


@cache
def _starlette_response() -> Callable[[EventStream], Any]:
    """Return the class of responses for Starlette."""
    from starlette.responses import StreamingResponse

    class EventSourceResponse(StreamingResponse):
        """Ends its subscription when it ends: Starlette doesn't close what it iterates over."""

        def __init__(self, events: EventStream) -> None:
            super().__init__(aiter(events), headers=HEADERS)
            self._events = events

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await super().__call__(scope, receive, send)
            finally:
                self._events.close()

    return EventSourceResponse


def _last_event_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    return next((value.decode("latin-1") for name, value in headers if name == b"last-event-id"), None)


def _resumed(last_id: str | None, topics: tuple[str, ...]) -> Mapping[str, str]:
    """Return the positions that the id of an event says, which is one position, or for several topics all in JSON."""
    if not last_id:
        return {}
    if len(topics) == 1:
        return {topics[0]: last_id}
    with suppress(ValueError, RecursionError):  # a client may send what it likes
        found = json.loads(last_id)
        if isinstance(found, dict):
            return {name: found[name] for name in topics if isinstance(found.get(name), str)}
    return dict.fromkeys(topics, "")


class EventStream:
    """The events, as an asynchronous iterable of bytes and as an ASGI application."""

    def __init__(
        self,
        topics: tuple[str, ...],
        since: Mapping[str, str],
        retry: float,
        heartbeat: float,
        wrapped: bool,
        joining: tuple[Membership | None, bool],
    ) -> None:
        self._joining = joining
        self._topics = topics
        self._since = since
        self._retry = retry
        self._heartbeat = heartbeat
        self._wrapped = wrapped  # in the envelope "json"
        self._positions: dict[str, str] = dict(since)
        self._failure = ""  # why one of the topics is not complete
        self._listener: Listener | None = None  # once it is subscribed

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        yield b"retry: %d\n\n" % round(self._retry * 1000)
        ended: set[str] = set()
        async with Listener(current_source(), self._topics, self._since, *self._joining) as listener:
            self._listener, self._loop = listener, asyncio.get_running_loop()
            if listener.positions:  # one that is lost before the first message shall miss none either
                self._positions.update(listener.positions)
                told = f"event: positions\ndata: {json.dumps(listener.positions)}\n" if self._wrapped else ""
                yield f"{told}id: {self._id()}\n\n".encode()
            while len(ended) < len(self._topics):
                try:
                    item = await listener.get(self._heartbeat)
                except TimeoutError:
                    yield b":\n\n"
                    continue
                if item is None:
                    return
                if isinstance(item, Message) and item.kind == Kind.END:
                    ended.add(item.topic)
                    self._failure = self._failure or item.text
                    if not self._wrapped:
                        continue
                yield self._form(item)
        yield self._event("", Position(), self._failure, "end")

    def close(self) -> None:
        """End the subscription, where nobody closes what was iterated over. Django calls this, in another thread."""
        if self._listener is not None:
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._listener.close)

    def _form(self, item: Message | Gap) -> bytes:
        """Return the event for a message or a gap."""
        if isinstance(item, Gap):
            if self._wrapped:
                return self._event(item.topic, item.position, JSON.gap(item.topic, item.position))
            return self._event(item.topic, item.position, item.topic, "gap")
        if item.kind == Kind.PRESENCE:
            return self._event(item.topic, Position(), JSON(item), "" if self._wrapped else "presence")
        position = Position() if item.kind == Kind.END else item.position  # one that comes back gets the end again
        return self._event(item.topic, position, JSON(item) if self._wrapped else _data(item))

    def _event(self, topic: str, position: Position, data: str, type: str = "") -> bytes:
        lines = [f"event: {type}"] if type else []
        if position:
            self._positions[topic] = position
            lines.append(f"id: {self._id()}")
        lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
        return ("\n".join(lines) + "\n\n").encode()

    def _id(self) -> str:
        return self._positions[self._topics[0]] if len(self._topics) == 1 else json.dumps(self._positions)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve as an ASGI application."""
        headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        leaving = asyncio.ensure_future(_left(receive))
        sending = asyncio.ensure_future(self._send(send))
        try:
            await asyncio.wait({leaving, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        finally:
            leaving.cancel()
            sending.cancel()
            await asyncio.gather(leaving, sending, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        async with aclosing(aiter(self)) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body"})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _data(message: Message) -> str:
    return base64.b64encode(message.data).decode() if message.kind == Kind.BINARY else message.text
