"""The benchmark of topics: what is published once comes on all connections."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter_ns, process_time

from flowserve.commands.bench.deliveries import Deliveries, DeliveryConnection, Marker
from flowserve.commands.bench.load import ConnectionsResult, open_all
from flowserve.commands.bench.publishers import Publisher, PublisherClosed, subscribe_request
from flowserve.commands.endpoint import Endpoint, Unreachable, one_line
from flowserve.errors import FlowserveError
from flowserve.library.properties import session_of
from flowserve.topics import SUBPROTOCOL

_PUBLISH_INTERVAL = 0.001
"""Seconds between checks for messages that are due."""
_POLL_INTERVAL = 0.02
"""Seconds between checks whether all is done."""
_PROBE_INTERVAL = 0.2
"""Seconds between messages that find out who is subscribed."""
_MOST_WAITING = 1000
"""Messages whose publishing is not confirmed."""
_NO_LIMIT = 1 << 60
_MAX_SHOWN = 200
"""Characters of a message that is shown."""


@dataclass(frozen=True)
class FanOutPlan:
    """What to do in a benchmark of topics. Times are in seconds."""

    topic: str
    connections: int
    size: int
    """Bytes of a message, if that is enough for its mark."""
    rate: float
    """Messages to publish a second."""
    duration: float | None
    """How long to publish; None for no limit."""
    messages: int | None
    """How many messages to publish; None for no limit."""
    timeout: float
    """Without any delivery, after which those that are missing count as lost."""
    late: float
    """What takes longer is late."""
    template: str = "{}"
    """What is published, with {} for the message."""

    @property
    def planned(self) -> int | None:
        """How many messages are to be published, if that is known."""
        return self.messages if self.duration is None else int(self.duration * self.rate)


@dataclass(frozen=True)
class Stop:
    """An early end of publishing."""

    at: float
    """Seconds after the first message."""
    why: str


@dataclass
class FanOutResult(ConnectionsResult):
    """The results of a benchmark of topics."""

    totals: Deliveries = field(kw_only=True)
    """What came on all connections."""
    unsubscribed: int = 0
    """Connections on which nothing that was published has come before it began."""
    unpublished: Counter[str] = field(default_factory=Counter)
    """How often publishing failed, by reason."""
    published: int = 0
    """Messages that were published."""
    unsent: int = 0
    """Messages that were due, and not published in time."""
    stop: Stop | None = None
    """That publishing ended before the plan did, as nothing more could be published."""
    lost: int = 0
    """Messages that did not come, each once a connection."""

    @property
    def good(self) -> bool:
        """Whether every message came on every connection, once and in order."""
        totals = self.totals
        wrong = self.failures or self.unpublished or totals.ends or self.unsubscribed
        return not (wrong or self.lost or totals.doubled or totals.swapped) and totals.delivered > 0


class FanOut:
    """Runs a benchmark of topics: `await open()`, `await run()`, `await close()`."""

    def __init__(self, endpoint: Endpoint, plan: FanOutPlan, publisher: Publisher) -> None:
        self.result = FanOutResult(totals=Deliveries(int(plan.late * 1e9)))
        self._endpoint = endpoint
        self._plan = plan
        self._publisher = publisher
        self._marker = Marker(secrets.token_hex(4), plan.size)
        self._connections: list[DeliveryConnection] = []
        self._failed: set[int] = set()  # numbers of messages that may not have been published
        self._publishing: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._started_at = 0

    # Opening

    async def open(self) -> None:
        """Open the connections, and wait until all are subscribed. Raises FlowserveError if the first one, or
        publishing, fails; failures of others are counted."""
        await open_all(self._plan.connections, self._open_one, self.result.failures)
        await self._publisher.open()
        await self._until_subscribed()

    async def _open_one(self) -> None:
        begin = perf_counter_ns()
        ws = await self._endpoint.open()
        self.result.handshakes.add(perf_counter_ns() - begin)
        connection = DeliveryConnection(ws, self._marker, self.result.totals)
        connection.start()
        if ws.subprotocol == SUBPROTOCOL:
            session_of(ws).send(subscribe_request(self._plan.topic))
        self._connections.append(connection)
        self.result.opened += 1

    async def _until_subscribed(self) -> None:
        """Publish until something has come on each connection: a handshake says nothing of a subscription."""
        deadline = asyncio.get_running_loop().time() + self._plan.timeout
        while asyncio.get_running_loop().time() < deadline:
            await self._publish_text(-1)
            pause = asyncio.get_running_loop().time() + _PROBE_INTERVAL
            while asyncio.get_running_loop().time() < pause:
                if all(each.subscribed or each.ws.closed for each in self._connections):
                    return
                await asyncio.sleep(_POLL_INTERVAL)
        self.result.unsubscribed = sum(not each.subscribed for each in self._connections)
        if self.result.unsubscribed == len(self._connections):
            example = one_line(self.result.totals.example)[:_MAX_SHOWN]
            said = f"; the server has said {example}" if example else ""
            raise Unreachable(
                f"{self._endpoint.uri}: nothing comes of what is published to {self._plan.topic!r}: the connections"
                f" are not subscribed to it, or what they send is not published (--topics-url){said}"
            )

    async def _publish_text(self, number: int) -> None:
        text = self._plan.template.replace("{}", self._marker.text(number))
        publishing = self._publisher.publish(text)
        try:
            await asyncio.wait_for(publishing, self._plan.timeout)
        except asyncio.TimeoutError:
            raise FlowserveError(f"publishing has not been answered for {self._plan.timeout:g} s") from None

    # Running

    async def run(self) -> None:
        """Publish until the plan is done or `stop()` is called, then wait for what has not come."""
        result, totals = self.result, self.result.totals
        cpu, self._started_at = process_time(), perf_counter_ns()
        await self._publish_all()
        if self._publishing:
            await asyncio.wait(self._publishing)
        await self._until_delivered()
        totals.over = True
        result.published = len(totals.published_at) - len(self._failed)
        result.lost = sum(each.lost(self._failed) for each in self._connections)
        end = perf_counter_ns() if result.lost else totals.last or perf_counter_ns()
        result.end(self._started_at, end, cpu)

    async def _publish_all(self) -> None:
        """Publish at the plan's rate."""
        plan, published_at, interval = self._plan, self.result.totals.published_at, 1e9 / self._plan.rate
        most = plan.messages or _NO_LIMIT
        while True:
            ended = self._stopped or self.elapsed >= (plan.duration or _NO_LIMIT)
            due = min(int(min(self.elapsed, plan.duration or _NO_LIMIT) * plan.rate + 1e-6) + (not ended), most)
            while len(published_at) < due and len(self._publishing) < _MOST_WAITING and not self._stopped:
                number = len(published_at)
                published_at.append(self._started_at + int(number * interval))
                task = asyncio.ensure_future(self._publish(number))
                self._publishing.add(task)
                task.add_done_callback(self._publishing.discard)
            if ended or len(published_at) >= most:
                if self.result.stop is None:
                    self.result.unsent = max(due - len(published_at), 0)
                return
            await asyncio.sleep(_PUBLISH_INTERVAL)

    async def _publish(self, number: int) -> None:
        try:
            await self._publish_text(number)
        except FlowserveError as error:
            self.result.unpublished[str(error)] += 1
            self._failed.add(number)
            if isinstance(error, PublisherClosed) and self.result.stop is None:
                self.result.stop = Stop(self.elapsed, str(error))
                self.stop()

    async def _until_delivered(self) -> None:
        """Wait until all has come on connections that are open, or nothing has for the plan's timeout."""
        clock = asyncio.get_running_loop().time
        received, since = -1, clock()
        while any(not each.ws.closed and each.lost(self._failed) > 0 for each in self._connections):
            if self.result.totals.received != received:
                received, since = self.result.totals.received, clock()
            elif clock() - since > self._plan.timeout:
                return
            await asyncio.sleep(_POLL_INTERVAL)

    def stop(self) -> None:
        """Make `run()` stop publishing."""
        self._stopped = True

    @property
    def elapsed(self) -> float:
        """Seconds since the first message; 0.0 before it."""
        return (perf_counter_ns() - self._started_at) / 1e9 if self._started_at else 0.0

    @property
    def sent(self) -> int:
        """How many messages have been published until now."""
        return len(self.result.totals.published_at)

    @property
    def received(self) -> int:
        """How many messages have come until now."""
        return self.result.totals.received

    @property
    def progress(self) -> float:
        """The part of the plan that is done, from 0 to 1."""
        plan = self._plan
        return self.sent / plan.messages if plan.messages else self.elapsed / (plan.duration or 1)

    @property
    def problems(self) -> dict[str, int]:
        """What has gone wrong until now."""
        totals = self.result.totals
        return {
            "doubled": totals.doubled,
            "swapped": totals.swapped,
            "late": totals.late,
            "closed": sum(totals.ends.values()),
        }

    # Closing

    async def close(self) -> None:
        """Close all connections."""
        await self._publisher.close()
        await asyncio.gather(*(each.close() for each in self._connections))

    def abort(self) -> None:
        """Abort all connections."""
        self._publisher.abort()
        for each in self._connections:
            each.ws.abort()
