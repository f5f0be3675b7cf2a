"""The load of a benchmark: many connections, from opening to closing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter_ns, process_time

from flowserve.commands.bench.connection import LoadConnection, Totals, message_maker
from flowserve.commands.bench.histogram import Histogram
from flowserve.commands.endpoint import Endpoint
from flowserve.errors import FlowserveError

_CONCURRENT_HANDSHAKES = 32
_SEND_INTERVAL = 0.001
"""Seconds between checks for messages that are due at a given rate."""
_POLL_INTERVAL = 0.02
"""Seconds between checks whether all is done."""
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class Plan:
    """What to do in a benchmark."""

    connections: int
    """How many connections to open."""
    size: int
    """The size of a message in bytes."""
    in_flight: int
    """How many messages a connection sends before it waits for an echo."""
    binary: bool = False
    """Whether to send binary messages."""
    duration: float | None = None
    """Seconds to send for; None for no limit."""
    messages: int | None = None
    """How many messages to send in all; None for no limit."""
    rate: float | None = None
    """Messages a second to send in all; None to send the next message when an echo is received."""
    timeout: float = 10.0
    """Seconds without any echo after which the remaining ones count as missing."""


@dataclass
class ConnectionsResult:
    """What every benchmark knows of its connections, and of the time that it took."""

    handshakes: Histogram = field(default_factory=Histogram)
    """The times of opening a connection."""
    failures: Counter[str] = field(default_factory=Counter)
    """How often connections could not be opened, by reason."""
    opened: int = 0
    """How many connections were opened."""
    seconds: float = 0.0
    """Seconds from the first message to the last one that came, or until no more were waited for."""
    cpu: float = 0.0
    """Seconds of CPU time that this process used in this time."""

    def end(self, begin: int, end: int, cpu: float) -> None:
        """Note that it ran from `begin` to `end`, by `perf_counter_ns()`; `cpu` is the CPU time used until then."""
        self.seconds = max(end - begin, 1) / 1e9
        self.cpu = process_time() - cpu


@dataclass
class Result(ConnectionsResult):
    """The results of a benchmark."""

    totals: Totals = field(default_factory=Totals)
    """The counters of all connections."""
    sent: int = 0
    """How many messages were sent."""
    missing: int = 0
    """How many echoes were not received."""
    timed_out: bool = False
    """Whether it was given up to wait for the missing ones (`Plan.timeout`)."""
    unsent: int = 0
    """Messages that the rate required but the limit of messages in flight did not allow."""

    @property
    def good(self) -> bool:
        """Whether all connections were opened and stayed open, and every echo was received and correct."""
        totals = self.totals
        return (
            not (self.failures or totals.ends or totals.wrong or totals.unasked or self.missing) and totals.echoed > 0
        )


async def open_all(count: int, open_one: Callable[[], Awaitable[None]], failures: Counter[str]) -> None:
    """Open so many connections. Raises FlowserveError if the first one fails; `failures` counts those of others."""
    await open_one()
    left = iter(range(count - 1))

    async def work() -> None:
        for _ in left:
            try:
                await open_one()
            except FlowserveError as error:
                failures[str(error)] += 1

    tasks = [asyncio.ensure_future(work()) for _ in range(min(_CONCURRENT_HANDSHAKES, count - 1))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Load:
    """Runs a benchmark: `await open()`, `await run()`, `await close()`. `result` may be read at any time."""

    def __init__(self, endpoint: Endpoint, plan: Plan) -> None:
        self.result = Result()
        self._endpoint = endpoint
        self._plan = plan
        self._make_message = message_maker(plan.size, plan.binary)
        self._connections: list[LoadConnection] = []
        self._stopped = False
        self._started_at = 0
        self._pacer: asyncio.Future[None] | None = None

    # Opening

    async def open(self) -> None:
        """Open the connections. Raises FlowserveError if the first one fails; failures of others are counted."""
        await open_all(self._plan.connections, self._open_one, self.result.failures)

    async def _open_one(self) -> None:
        begin = perf_counter_ns()
        ws = await self._endpoint.open()
        self.result.handshakes.add(perf_counter_ns() - begin)
        connection = LoadConnection(
            ws, self.result.opened, self._plan.in_flight, self._make_message, self.result.totals
        )
        connection.start()
        self._connections.append(connection)
        self.result.opened += 1

    # Running

    async def run(self) -> None:
        """Send until the plan is done or `stop()` is called, then wait for the remaining echoes."""
        plan, result, connections = self._plan, self.result, self._connections
        cpu, self._started_at = process_time(), perf_counter_ns()
        self._pacer = None if plan.rate is None else asyncio.ensure_future(self._send_at_rate(plan.rate))
        if self._pacer is None:
            self._send_at_once()
        try:
            await self._wait_until(lambda: self._stopped or self.elapsed >= (plan.duration or _NO_LIMIT))
        finally:
            if self._pacer is not None:
                self._pacer.cancel()
                await asyncio.gather(self._pacer, return_exceptions=True)
                result.unsent = sum(connection.due - connection.sent for connection in connections)
        for connection in connections:
            connection.due = connection.sent
        if not result.timed_out:
            await self._wait_until(lambda: False)
        result.sent = self.sent
        result.missing = sum(connection.missing for connection in connections)
        end = perf_counter_ns() if result.timed_out else result.totals.last or perf_counter_ns()
        result.end(self._started_at, end, cpu)

    def stop(self) -> None:
        """Make `run()` stop sending."""
        self._stopped = True

    @property
    def elapsed(self) -> float:
        """Seconds since the first message; 0.0 before it."""
        return (perf_counter_ns() - self._started_at) / 1e9 if self._started_at else 0.0

    @property
    def sent(self) -> int:
        """How many messages have been sent until now."""
        return sum(connection.sent for connection in self._connections)

    @property
    def received(self) -> int:
        """How many messages have come until now."""
        return self.result.totals.received

    @property
    def progress(self) -> float:
        """The part of the plan that is done, from 0 to 1."""
        plan, answered = self._plan, self.result.totals.answered
        return answered / plan.messages if plan.messages else self.elapsed / (plan.duration or 1)

    @property
    def problems(self) -> dict[str, int]:
        """What has gone wrong until now."""
        totals = self.result.totals
        return {"wrong": totals.wrong, "closed": sum(totals.ends.values())}

    def _send_at_once(self) -> None:
        each, more = divmod(self._plan.messages or _NO_LIMIT, len(self._connections))
        for number, connection in enumerate(self._connections):
            connection.due = each + (number < more)
            connection.send_due()

    async def _send_at_rate(self, rate: float) -> None:
        """Make messages due at `rate` a second, over all connections in turn."""
        connections, begin, released, last = self._connections, self._started_at, 0, self._plan.messages or _NO_LIMIT
        for number, connection in enumerate(connections):
            connection.set_schedule(begin + int(number * 1e9 / rate), len(connections) * 1e9 / rate)
        while released < last:
            due = min(int((perf_counter_ns() - begin) * rate / 1e9) + 1, last)
            for number in range(released, due):
                connection = connections[number % len(connections)]
                connection.due += 1
                connection.send_due()
            released = due
            await asyncio.sleep(_SEND_INTERVAL)

    async def _wait_until(self, done: Callable[[], bool]) -> None:
        """Wait until `done()` is true, all connections are idle, or nothing was answered for the plan's
        timeout."""
        clock = asyncio.get_running_loop().time
        answered, since = -1, clock()
        while not done():
            pacing = self._pacer is not None and not self._pacer.done()
            if not pacing and all(connection.idle for connection in self._connections):
                return
            waiting = any(connection.waiting for connection in self._connections)
            if self.result.totals.answered != answered or not waiting:
                answered, since = self.result.totals.answered, clock()
            elif clock() - since > self._plan.timeout:
                self.result.timed_out = True
                return
            await asyncio.sleep(_POLL_INTERVAL)

    # Closing

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(connection.close() for connection in self._connections))

    def abort(self) -> None:
        """Abort all connections."""
        for connection in self._connections:
            connection.ws.abort()
