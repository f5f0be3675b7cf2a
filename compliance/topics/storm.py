"""The command: all clients of a worker come back within a minute, and want what they have missed.

`python -m compliance.topics.storm` uses flowserve's own hub and backplanes, with 100,000 objects in the place of
WebSockets, which one machine could not hold: what is measured is what the history reads cost, not the handshakes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from compliance._servers import ServerFailed, process_cpu_seconds
from compliance.costs.turns import Turns
from compliance.topics import stores
from compliance.topics.crowd import until
from compliance.topics.run import in_loop
from compliance.topics.storm_client import StormClient
from flowserve.runtime.event_loop import accepts_per_iteration
from flowserve.runtime.memory import tune_memory
from flowserve.topics.backplane import Backplane, Reading
from flowserve.topics.hub.hub import Hub
from flowserve.topics.hub.open import open_backplane
from flowserve.topics.message import Kind
from flowserve.topics.position import Place
from flowserve.topics.settings import Settings

STORES = {"memory": "", "redis": "redis", "cluster": "cluster", "nats": "nats"}
"""By name: the kind of store."""
_SETTINGS = Settings(history=10_000, history_size=4 << 20, history_age=3600.0)
_PAUSE = 0.01
_AT_ONCE = 1000
"""Clients that begin together at first."""


@dataclass
class Storm:
    """What is to happen."""

    clients: int = 100_000
    seconds: float = 60.0
    """In which all come back."""
    topics: int = 100
    """Each client has one of them."""
    missed: int = 20
    """Messages of each topic that were published while clients were away, at most."""
    rate: float = 100.0
    """Messages a second that are published meanwhile, to all topics together."""


@dataclass
class Outcome:
    """What happened, from the first client that came back to the last one."""

    reads: int = 0
    """Of the history."""
    messages: int = 0
    """In them."""
    delivered: int = 0
    """To clients, from the history or as they were published."""
    recovered: int = 0
    """Clients that were told so."""
    cpu: float = 0.0
    """Seconds of this process."""
    store_cpu: float = 0.0
    longest_turn: float = 0.0
    """Of the event loop, in seconds of CPU."""
    latency: float = 0.0
    """Seconds that `subscribe()` took: of 99 % of the clients at most."""
    violations: Sequence[str] = ()

    def line(self, storm: Storm) -> str:
        return (
            f"{storm.clients:,} clients of {storm.topics:,} topics in {storm.seconds:g} s: {self.reads:,} history "
            f"reads of {self.messages:,} messages, {self.delivered:,} delivered; CPU {self.cpu:.1f} s, "
            f"{self.cpu / storm.clients * 1e6:.0f} µs a client; the store's {self.store_cpu:.1f} s; longest iteration "
            f"{self.longest_turn * 1e3:.0f} ms; resumed after {self.latency * 1e3:.0f} ms (99 %); {self.recovered:,} "
            f"recovered, {len(self.violations)} violations"
        )


class _Counted:
    """A backplane whose history reads are counted in an outcome."""

    def __init__(self, backplane: Backplane, outcome: Outcome) -> None:
        self._backplane = backplane
        self._outcome = outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backplane, name)

    async def read(self, topic: str, after: Place) -> Reading:
        reading = await self._backplane.read(topic, after)
        self._outcome.reads += 1
        self._outcome.messages += len(reading.messages)
        return reading


class _Run:
    """One storm."""

    def __init__(self, storm: Storm, url: str) -> None:
        self.storm = storm
        self.outcome = Outcome()
        self._hub = Hub(cast(Backplane, _Counted(open_backplane(url, _SETTINGS), self.outcome)), _SETTINGS)
        self._random = random.Random(0)
        self._names = [f"topic:{number}" for number in range(storm.topics)]
        self._clients = [StormClient(self._names[number % storm.topics]) for number in range(storm.clients)]
        self._published = dict.fromkeys(self._names, 0)
        self._latencies: list[float] = []

    async def run(self, cpu_of_stores: Any) -> Outcome:
        """Return what happened; `cpu_of_stores()` returns their CPU seconds."""
        outcome, turns = self.outcome, Turns(asyncio.get_running_loop())
        try:
            await self._leave()
            outcome.reads = outcome.messages = 0
            before = sum(client.delivered for client in self._clients)
            self._random.shuffle(self._clients)
            times = sorted(self._random.uniform(0, self.storm.seconds) for _ in self._clients)
            tune_memory()  # as a worker does when it begins to serve
            await asyncio.sleep(_PAUSE)  # so that this iteration does not count
            cpu, store_cpu, _ = time.process_time(), cpu_of_stores(), turns.take()
            await self._come_back(times)
            outcome.cpu, outcome.store_cpu = time.process_time() - cpu, cpu_of_stores() - store_cpu
            outcome.longest_turn = turns.take() / 1e9
            await self._finish()
            outcome.delivered = sum(client.delivered for client in self._clients) - before
            outcome.latency = sorted(self._latencies)[int(0.99 * (len(self._latencies) - 1))]
            outcome.violations = [text for client in self._clients for text in client.verdict(self._published)]
        finally:
            turns.close()
            await self._hub.close()
        return outcome

    async def _publish(self, name: str) -> None:
        await self._hub.publish(name, b"x" * 64, Kind.TEXT)
        self._published[name] += 1

    async def _leave(self) -> None:
        """Subscribe all clients, and let them go one after the other, while messages are published."""
        for name in self._names:  # before anybody is there, so that nobody begins at the beginning
            await self._publish(name)
        for first in range(0, len(self._clients), _AT_ONCE):
            await asyncio.gather(*(self._begin(client) for client in self._clients[first : first + _AT_ONCE]))
        rounds: list[list[StormClient]] = [[] for _ in range(self.storm.missed + 1)]
        for client in self._clients:
            rounds[self._random.randrange(len(rounds))].append(client)
        for leaving in rounds[:-1]:
            for client in leaving:
                self._hub.ended(client)
            await asyncio.gather(*(self._publish(name) for name in self._names))
        for client in rounds[-1]:
            self._hub.ended(client)

    async def _begin(self, client: StormClient) -> None:
        positions, _ = await self._hub.subscribe(client, [client.topic], {})
        client.begin(positions[client.topic])

    async def _come_back(self, times: Sequence[float]) -> None:
        """Have all clients subscribe again at these times, while messages are published."""
        loop = asyncio.get_running_loop()
        publishing = asyncio.ensure_future(self._keep_publishing())
        began, tasks = loop.time(), set[asyncio.Task[None]]()
        accepted = accepts_per_iteration(loop)  # of the connections that wait, as a worker does it
        for number, (when, client) in enumerate(zip(times, self._clients, strict=True)):
            if (left := began + when - loop.time()) > 0 or not number % accepted:
                await asyncio.sleep(max(0.0, left))
            task = loop.create_task(self._resume(client))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.gather(*tasks)
        publishing.cancel()
        await asyncio.wait([publishing])

    async def _finish(self) -> None:
        """Publish a last message to each topic, and wait until all have it, but not for ever."""
        for name in self._names:
            await self._publish(name)
        await until(lambda: not any(client.lacks(self._published) for client in self._clients))

    async def _resume(self, client: StormClient) -> None:
        began = time.perf_counter()
        _, recovered = await self._hub.subscribe(client, [client.topic], {client.topic: client.position})
        self._latencies.append(time.perf_counter() - began)
        self.outcome.recovered += recovered[client.topic]

    async def _keep_publishing(self) -> None:
        while True:
            await asyncio.sleep(1 / self.storm.rate)
            await asyncio.shield(self._publish(self._random.choice(self._names)))


def run(storm: Storm, kind: str, url: str = "") -> Outcome:
    """Run a storm on a store of that kind, "" for memory, or on the one that the URL names. Raises ServerFailed."""

    def cpu() -> float:
        return sum(process_cpu_seconds(store.process.pid) for store in started)

    def work(url: str) -> Coroutine[Any, Any, Outcome]:
        async def storming() -> Outcome:
            return await _Run(storm, url or "memory:").run(cpu)

        return storming()

    started: list[stores.Store] = []
    if url or not kind:
        return in_loop(work(url))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        started, url = stores.start(kind, Path(folder))
        try:
            return in_loop(work(url))
        finally:
            for store in started:
                store.end()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.topics.storm",
        description="Has all clients of a worker come back in a short time, and measures what the history reads cost. "
        "Exit status 1: one did not get all that it had missed, once and in order.",
    )
    parser.add_argument("--quick", action="store_true", help="for CI: 5,000 clients of 20 topics in 2 seconds")
    parser.add_argument("--clients", type=int, metavar="N", help="(default: 100000; --quick: 5000)")
    parser.add_argument("--seconds", type=float, metavar="S", help="in which all come back (default: 60; --quick: 2)")
    parser.add_argument("--topics", type=int, metavar="N", help="(default: 100; --quick: 20)")
    parser.add_argument("--missed", type=int, metavar="N", default=20, help="messages of a topic (default: 20)")
    parser.add_argument("--rate", type=float, metavar="N", default=100.0, help="messages a second (default: 100)")
    parser.add_argument("--store", action="append", default=[], choices=STORES, help="(default: memory and redis)")
    parser.add_argument("--url", default="", help="a backplane that is there, as for --topics-url")
    return parser.parse_args()


def main() -> int:
    options = parse()
    full = (5_000, 2.0, 20) if options.quick else (100_000, 60.0, 100)
    clients, seconds, topics = options.clients or full[0], options.seconds or full[1], options.topics or full[2]
    storm = Storm(clients, seconds, topics, options.missed, options.rate)
    failed = False
    for name in [options.url] if options.url else options.store or ["memory", "redis"]:
        kind = STORES.get(name, "")
        if why := stores.missing(kind):
            print(f"{name} is left out: {why}", flush=True)
            continue
        try:
            outcome = run(storm, kind, options.url)
        except ServerFailed as failure:
            print(failure, file=sys.stderr)
            return 1
        print(f"{name}: {outcome.line(storm)}", *outcome.violations[:20], sep="\n    ", flush=True)
        failed = failed or bool(outcome.violations) or outcome.recovered < storm.clients
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
