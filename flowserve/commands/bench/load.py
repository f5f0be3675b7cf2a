"""Load: many connections, from their opening to their end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns, process_time

from flowserve.commands.bench.histogram import Histogram
from flowserve.commands.bench.lane import Lane, Tally, message_maker
from flowserve.commands.endpoint import Endpoint
from flowserve.errors import FlowserveError

_OPENING = 32
"""Connections that are being opened at a time."""
_TICK = 0.001
"""Seconds between looks at which messages are due, at a rate."""
_LOOK = 0.02
"""Seconds between looks at whether all is done."""
_ENDLESS = 1 << 60


@dataclass(frozen=True)
class Plan:
    """What is to be done: `messages` in all, or for `duration` seconds; `size` is in bytes, `rate` messages a second
    in all, None for as many as come back. The wait is over when no echo has come for `patience` seconds."""

    connections: int
    size: int
    in_flight: int
    binary: bool = False
    duration: float | None = None
    messages: int | None = None
    rate: float | None = None
    patience: float = 10.0


@dataclass
class Result:
    """What came of it. Times in histograms are nanoseconds."""

    tally: Tally = field(default_factory=Tally)
    handshakes: Histogram = field(default_factory=Histogram)
    failures: Counter[str] = field(default_factory=Counter)
    """Why connections could not be opened, and how often."""
    opened: int = 0
    missing: int = 0
    """Echoes that did not come."""
    unsent: int = 0
    """Messages that the rate asked for, and for which there was no room."""
    seconds: float = 0.0
    """From the first message to the last echo."""
    cpu: float = 0.0
    """Seconds of CPU time of this program meanwhile."""

    @property
    def good(self) -> bool:
        tally = self.tally
        return not (self.failures or tally.ends or tally.wrong or tally.unasked or self.missing) and tally.echoed > 0


class Load:
    """`await open()`, `await run()`, `await close()`; `result` can be looked at meanwhile."""

    def __init__(self, target: Endpoint, plan: Plan) -> None:
        self.result = Result()
        self._target = target
        self._plan = plan
        self._make = message_maker(plan.size, plan.binary)
        self._lanes: list[Lane] = []
        self._enough = False
        self._begin = 0
        self._pacer: asyncio.Future[None] | None = None

    # Opening

    async def open(self) -> None:
        """Open the connections. Raises FlowserveError if already the first one can't be; later ones are counted."""
        await self._open_one()
        left = iter(range(self._plan.connections - 1))

        async def work() -> None:
            for _ in left:
                try:
                    await self._open_one()
                except FlowserveError as error:
                    self.result.failures[str(error)] += 1

        tasks = [asyncio.ensure_future(work()) for _ in range(min(_OPENING, self._plan.connections - 1))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _open_one(self) -> None:
        begin = perf_counter_ns()
        ws = await self._target.open()
        self.result.handshakes.add(perf_counter_ns() - begin)
        lane = Lane(ws, self.result.opened, self._plan.in_flight, self._make, self.result.tally)
        lane.start()
        self._lanes.append(lane)
        self.result.opened += 1

    # Running

    async def run(self) -> None:
        """Send, until it is enough or `stop()` is called, and wait for the echoes that are still to come."""
        plan, result, lanes = self._plan, self.result, self._lanes
        cpu, self._begin = process_time(), perf_counter_ns()
        self._pacer = None if plan.rate is None else asyncio.ensure_future(self._give_by_rate(plan.rate))
        if self._pacer is None:
            self._give_all()
        try:
            await self._wait(lambda: self._enough or self.elapsed >= (plan.duration or _ENDLESS))
        finally:
            if self._pacer is not None:
                self._pacer.cancel()
                await asyncio.gather(self._pacer, return_exceptions=True)
                result.unsent = sum(lane.due - lane.sent for lane in lanes)
        for lane in lanes:
            lane.due = lane.sent
        await self._wait(lambda: False)
        result.missing = sum(lane.missing for lane in lanes)
        result.seconds = max(result.tally.last - self._begin, 1) / 1e9
        result.cpu = process_time() - cpu

    def stop(self) -> None:
        """Let it be enough."""
        self._enough = True

    @property
    def elapsed(self) -> float:
        """Seconds since the first message; 0.0 before."""
        return (perf_counter_ns() - self._begin) / 1e9 if self._begin else 0.0

    def _give_all(self) -> None:
        each, more = divmod(self._plan.messages or _ENDLESS, len(self._lanes))
        for number, lane in enumerate(self._lanes):
            lane.due = each + (number < more)
            lane.pump()

    async def _give_by_rate(self, rate: float) -> None:
        """One message after the other, each to the next connection, when its time has come."""
        lanes, begin, given, last = self._lanes, self._begin, 0, self._plan.messages or _ENDLESS
        for number, lane in enumerate(lanes):
            lane.pace(begin + int(number * 1e9 / rate), len(lanes) * 1e9 / rate)
        while given < last:
            due = min(int((perf_counter_ns() - begin) * rate / 1e9) + 1, last)
            for number in range(given, due):
                lane = lanes[number % len(lanes)]
                lane.due += 1
                lane.pump()
            given = due
            await asyncio.sleep(_TICK)

    async def _wait(self, enough: Callable[[], bool]) -> None:
        """Wait until `enough()`, or nothing is left to do, or an echo is overdue."""
        clock = asyncio.get_running_loop().time
        heard, at = -1, clock()
        while not enough():
            pacing = self._pacer is not None and not self._pacer.done()
            if not pacing and all(lane.idle for lane in self._lanes):
                return
            if self.result.tally.echoed != heard or not any(lane.missing for lane in self._lanes):
                heard, at = self.result.tally.echoed, clock()
            elif clock() - at > self._plan.patience:
                return
            await asyncio.sleep(_LOOK)

    # The end

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    def abort(self) -> None:
        """End them at once."""
        for lane in self._lanes:
            lane.ws.abort()
