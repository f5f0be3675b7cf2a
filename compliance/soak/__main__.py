"""The command: one process and workers side by side, under an even load, until the time is over."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from compliance._servers import (
    CHECKOUT,
    Progress,
    Server,
    ServerFailed,
    flowserve_command,
    flowserve_version,
    free_port,
    serving,
)
from compliance.chaos.peers import Site
from compliance.soak.chart import chart
from compliance.soak.samples import METRICS, Sampler, Series, errors_of, verdicts
from compliance.soak.traffic import Crowd

SAMPLES = 240
SETUPS = {"one process": 1, "two workers": 2}
STOP_SECONDS = 15.0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.soak",
        description="Mixed traffic for an hour. Exit status 1: memory, descriptors, tasks, latency or CPU a message "
        "grow, or an answer was wrong.",
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="default: 60")
    parser.add_argument("--quick", action="store_true", help="ten minutes")
    parser.add_argument("--load", type=float, default=1.0, help="a factor; 1 takes about a quarter of a core in all")
    parser.add_argument("--python", default=sys.executable, help="the interpreter for flowserve (default: this one)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write results.json and soak.svg there")
    return parser.parse_args()


async def soak(servers: dict[str, Server], seconds: float, load: float, progress: Progress) -> list[Series]:
    """All servers at once."""
    until = time.monotonic() + seconds
    watching = asyncio.ensure_future(tell(until, progress))
    try:
        return list(await asyncio.gather(*(one(name, server, until, load) for name, server in servers.items())))
    finally:
        watching.cancel()


async def one(name: str, server: Server, until: float, load: float) -> Series:
    workers = SETUPS[name]
    series = Series(name, workers if workers == 1 else workers + 1)  # and the supervisor
    site = Site(server.port, None, name.replace(" ", "-"), "wait")
    crowd = Crowd(site, until, load)
    sampler = Sampler(series, site, server, crowd)
    interval = max(2.0, (until - time.monotonic()) / SAMPLES)
    await asyncio.gather(crowd.run(), sampler.run(interval))
    series.messages, series.clients, series.failures = crowd.messages, crowd.clients, crowd.failures
    return series


async def tell(until: float, progress: Progress) -> None:
    while True:
        progress.show(f"{(until - time.monotonic()) / 60:.1f} minutes left", every=60)
        await asyncio.sleep(5)


def stop(server: Server) -> list[str]:
    """SIGTERM; what is wrong with the end, and with the log."""
    server.process.terminate()
    with contextlib.suppress(Exception):
        server.process.wait(STOP_SECONDS)
    status = server.process.poll()
    return [*([] if status == 0 else [f"exit status {status}"]), *errors_of(server.log)[:20]]


def run(options: argparse.Namespace, progress: Progress) -> list[Series]:
    with contextlib.ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name, workers in SETUPS.items():
            port = free_port()
            flags = ["--workers", str(workers), "--ws-deflate-context", "takeover"]
            command = flowserve_command(options.python, "compliance.chaos.application:app", CHECKOUT, port, *flags)
            servers[name] = stack.enter_context(serving(command, port=port))
        found = asyncio.run(soak(servers, options.minutes * 60, options.load, progress))
        for series in found:
            series.failures += stop(servers[series.name])
    return found


def show(found: list[Series]) -> bool:
    """Print the table. Returns whether all is flat and nothing failed."""
    good = True
    for series in found:
        print(f"\n{series.name}: {series.messages:,} messages, {series.clients:,} clients")
        for one in verdicts(series):
            metric, sign = METRICS[one.metric], "flat" if one.flat else "GROWS"
            numbers = f"{one.median:>10.2f}{one.growth:>+10.2f}{one.allowed:>10.2f}"
            print(f"  {metric.title:<20}{metric.unit:>4}{numbers}  {sign}")
            good = good and one.flat
        for failure in series.failures[:20]:
            print(f"  FAILED {failure}")
        good = good and not series.failures
    return good


def judged(series: Series) -> list[dict[str, object]]:
    return [{**asdict(one), "flat": one.flat} for one in verdicts(series)]


def write(directory: Path, found: list[Series], minutes: float, version: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    date = time.strftime("%Y-%m-%d")
    servers = [{**asdict(one), "verdicts": judged(one)} for one in found]
    document = {"flowserve": version, "date": date, "minutes": minutes, "servers": servers}
    (directory / "results.json").write_text(json.dumps(document) + "\n")
    (directory / "soak.svg").write_text(chart(found, minutes))


def main() -> int:
    options, progress = parse(), Progress()
    if options.quick:
        options.minutes = 10.0
    try:
        version = flowserve_version(options.python, False, CHECKOUT)
        found = run(options, progress)
    except ServerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    progress.clear()
    good = show(found)
    if options.output:
        write(options.output, found, options.minutes, version)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
