"""The command: what topics cost the workers of a server, the supervisor and the store, on each backplane.

`python -m compliance.topics.costs` publishes through one worker, as case Y of the benchmark does, with and without a
subscriber in the other one, and has 10,000 members in both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from compliance._servers import CHECKOUT, ServerFailed, flowserve_version, process_cpu_seconds
from compliance.topics import stores
from compliance.topics.costs_presence import MEMBERS, Presence, presence
from compliance.topics.costs_rig import Rig, Talk, running
from compliance.topics.run import descriptors_suffice, in_loop

BACKPLANES = {"siblings": "", "redis": "redis", "cluster": "cluster", "nats": "nats"}
"""By name: the kind of store."""
_AT_ONCE = 100
_WARMUP = 0.5
"""Seconds."""
MOST = 20.0
"""Microseconds of the publishing worker's CPU a message, with 100 topics."""


@dataclass
class Cost:
    """Microseconds of CPU a message, of 64 bytes, published 100 at a time: the least of all rounds, as what else the
    machine does can only add to it."""

    backplane: str
    topics: int
    subscribed: bool
    """The other worker has a WebSocket that is subscribed to all topics."""
    publish: float
    """In the worker that publishes."""
    take_in: float
    """In the other one, with its delivery to that WebSocket."""
    supervisor: float
    store: float
    per_second: float
    """Messages, with everything on this machine."""

    @property
    def line(self) -> str:
        kind = f"{self.topics} topic{'s' if self.topics > 1 else ''}, {'a' if self.subscribed else 'no'} subscriber"
        return (
            f"{self.backplane}, {kind}: publish {self.publish:.1f} µs, take in {self.take_in:.1f}, supervisor "
            f"{self.supervisor:.1f}, store {self.store:.1f}; {self.per_second:,.0f} a second"
        )


async def _traffic(publisher: Talk, subscriber: Talk | None, topics: int, done: list[int]) -> None:
    """Publish, and have all delivered, again and again; count the messages in `done`."""
    while True:
        await publisher.ask("publish", _AT_ONCE, topics)
        if subscriber is not None:
            for _ in range(_AT_ONCE):
                await subscriber.websocket.recv()
        done[0] += _AT_ONCE


async def _measured(rig: Rig, talks: tuple[Talk, Talk], topics: int, subscribed: bool, seconds: float) -> list[float]:
    """Return the microseconds of one round, as `Cost` has them."""
    publisher, other = talks
    done = [0]
    running = asyncio.ensure_future(_traffic(publisher, other if subscribed else None, topics, done))

    def now() -> list[float]:
        workers = [process_cpu_seconds(each.worker) for each in talks]
        return [*workers, rig.cpu_of_supervisor(), rig.cpu_of_stores(), time.perf_counter(), float(done[0])]

    await asyncio.wait([running], timeout=_WARMUP)
    before = now()
    await asyncio.wait([running], timeout=seconds)
    *cpu, elapsed, messages = (after - earlier for after, earlier in zip(now(), before, strict=True))
    if running.done() or not messages:
        running.cancel()
        raise rig.server.failed("the traffic came to a halt")
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return [*(each / messages * 1e6 for each in cpu), messages / elapsed]


async def _costs(name: str, rig: Rig, options: argparse.Namespace) -> list[Cost]:
    """Measure all traffic on one backplane."""
    found = []
    for topics in (_AT_ONCE, 1):
        for subscribed in (False, True):
            rounds = []
            for _ in range(options.rounds):
                talks = await rig.both()
                if subscribed:
                    await talks[1].ask("subscribe", topics)
                rounds.append(await _measured(rig, talks, topics, subscribed, options.seconds))
                for each in talks:
                    await each.websocket.close()
            publish, take_in, supervisor, store, rate = zip(*rounds, strict=True)
            least = (min(publish), min(take_in), min(supervisor), min(store), max(rate))
            found.append(Cost(name, topics, subscribed, *least))
            print(found[-1].line, flush=True)
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.topics.costs",
        description="Measures the CPU time that a published message takes in workers, supervisor and store, and what "
        f"{MEMBERS:,} members take. Exit status 1: publishing takes more than {MOST:g} µs in a worker, or presence "
        "more than it may.",
    )
    parser.add_argument("--backplane", action="append", default=[], choices=BACKPLANES, help="may be repeated")
    parser.add_argument("--seconds", type=float, metavar="S", default=1.0, help="of each measurement (default: 1)")
    parser.add_argument("--rounds", type=int, metavar="N", default=8, help="of which the least counts (default: 8)")
    parser.add_argument("--members", type=int, metavar="N", default=MEMBERS, help=f"(default: {MEMBERS})")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write costs.json and costs.md there")
    options = parser.parse_args()
    if not descriptors_suffice(options.members):
        parser.error(f"{options.members} members need more open files than this user may have (ulimit -n)")
    return options


def main() -> int:
    options = parse()
    costs: list[Cost] = []
    present: list[Presence] = []
    try:
        version = flowserve_version(sys.executable, False, CHECKOUT)
        for name in options.backplane or BACKPLANES:
            if why := stores.missing(BACKPLANES[name]):
                print(f"{name} is left out: {why}", flush=True)
                continue
            with running(BACKPLANES[name]) as rig:
                costs += in_loop(_costs(name, rig, options))
            with running(BACKPLANES[name]) as rig:
                present.append(in_loop(presence(name, rig, options.members)))
                print(present[-1].line, flush=True)
    except ServerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    if options.output:
        _write(options.output, costs, present, version)
    too_much = [each for each in costs if each.topics == _AT_ONCE and each.publish > MOST]
    return 1 if too_much or not all(each.holds for each in present) else 0


def _write(directory: Path, costs: list[Cost], present: list[Presence], version: str) -> None:
    date = time.strftime("%Y-%m-%d")
    document = {"flowserve": version, "date": date, "costs": [*map(asdict, costs)], "presence": [*map(asdict, present)]}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "costs.json").write_text(json.dumps(document, indent=1) + "\n")
    lines = [
        "# What topics cost",
        "",
        f"Written by `python -m compliance.topics.costs` on {date}, with {version}.",
        "",
        "Microseconds of CPU a message of 64 bytes, published 100 at a time by one of two workers.",
        "",
        "| backplane | topics | subscriber in the other worker | publish | take in | supervisor | store | a second |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    for each in costs:
        figures = f"{each.publish:.1f} | {each.take_in:.1f} | {each.supervisor:.1f} | {each.store:.1f}"
        subscriber = "yes" if each.subscribed else "no"
        lines.append(f"| {each.backplane} | {each.topics} | {subscriber} | {figures} | {each.per_second:,.0f} |")
    lines += ["", *(f"- {each.line}" for each in present)]
    (directory / "costs.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
