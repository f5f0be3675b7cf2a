"""The command: every scenario, one after the other."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from compliance._servers import CHECKOUT, Progress, ServerFailed, flowserve_version
from compliance.topics import (
    cluster_scenarios,  # noqa: F401  (this and the next two list scenarios)
    nats_scenarios,  # noqa: F401
    redis_scenarios,  # noqa: F401
    report,
    stores,
)
from compliance.topics.run import Outcome, descriptors_suffice, run
from compliance.topics.scenarios import SCENARIOS, Scenario

QUICK = ("killed", "stopped", "reconnecting", "short-history")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.topics",
        description="Counts every message of topics while processes, connections and stores fail. Exit status 1: one "
        "was lost, doubled or swapped, and no gap was told.",
    )
    parser.add_argument("--quick", action="store_true", help="for CI: four scenarios, each with fewer of everything")
    parser.add_argument("--subscribers", type=int, metavar="N", help="WebSockets (default: 2000; --quick: 200)")
    parser.add_argument("--publishers", type=int, metavar="N", default=10, help="over HTTP and WebSocket (default: 10)")
    parser.add_argument("--rate", type=float, metavar="N", default=2.0, help="messages a second of each (default: 2)")
    parser.add_argument("--seconds", type=float, metavar="S", help="of each scenario (default: 60; --quick: 5)")
    names = [one.name for one in SCENARIOS]
    parser.add_argument(
        "--scenario", action="append", default=[], choices=names, metavar="NAME", help="may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="show the scenarios")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write results.json and results.md there")
    options = parser.parse_args()
    options.subscribers = options.subscribers or (200 if options.quick else 2000)
    options.seconds = options.seconds or (5.0 if options.quick else 60.0)
    if not descriptors_suffice(options.subscribers):
        parser.error(f"{options.subscribers} subscribers need more open files than this user may have (ulimit -n)")
    return options


def chosen(options: argparse.Namespace) -> list[Scenario]:
    """The scenarios that are wanted."""
    names = options.scenario or (QUICK if options.quick else [one.name for one in SCENARIOS])
    return [one for one in SCENARIOS if one.name in names]


def main() -> int:
    options, progress = parse(), Progress()
    wanted = chosen(options)
    if options.list:
        print("\n".join(f"{one.name}: {one.about}" for one in SCENARIOS))
        return 0
    outcomes: list[Outcome] = []
    left_out: list[str] = []
    try:
        version = flowserve_version(sys.executable, False, CHECKOUT)
        for one in wanted:
            why = stores.missing(one.store)
            if why:
                left_out.append(f"{one.name} ({why})")
                print(f"{one.name} is left out: {why}", flush=True)
                continue
            outcome = run(one, options, progress)
            progress.clear()
            print(report.line(outcome), *outcome.violations[:20], sep="\n    ", flush=True)
            outcomes.append(outcome)
    except ServerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    if options.output:
        report.write(options.output, outcomes, left_out, version, time.strftime("%Y-%m-%d"))
    return 1 if any(one.count for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
