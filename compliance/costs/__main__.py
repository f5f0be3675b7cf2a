"""The command: every pattern against the real server, and what it cost."""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from compliance._servers import CHECKOUT, Progress, ServerFailed, flowserve_version
from compliance.costs import report
from compliance.costs.http_patterns import HTTP
from compliance.costs.measure import Cost, Servers, Setting, measure, speed
from compliance.costs.pattern import Pattern
from compliance.costs.websocket_patterns import WEBSOCKET

PATTERNS = {"websocket": WEBSOCKET, "http": HTTP}
_LESS = 4
"""With --quick: so many times fewer units of everything."""
_TRIES = 3
"""Of a pattern that is over its limits: what else a machine does can only add."""
_SLACK = 3
"""With --quick, on machines that have other things to do: caches are shared even where CPU time is counted."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.costs",
        description="What hostile peers can make the server spend. Exit status 1: a pattern is over its limits.",
    )
    parser.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help="only those with this in their name, as 'http:' or 'chunks*byte'"
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of everything, with uvloop only, for CI")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), help="default: both")
    parser.add_argument("--pure", action="store_true", help="the pure Python modules, for information: nothing fails")
    parser.add_argument("--python", default=sys.executable, help="the interpreter for flowserve (default: this one)")
    parser.add_argument("--output", type=Path, help="write results.json and results.md into this directory")
    return parser.parse_args()


def chosen(wanted: Sequence[str]) -> list[Pattern]:
    """Those with one of these in their names, which begin with their protocol here: 'http: chunks of 1 byte'."""
    named = {f"{protocol}: {one.name}": one for protocol, patterns in PATTERNS.items() for one in patterns}
    globs = [f"*{want}*" for want in wanted or [""]]
    return [one for name, one in named.items() if any(fnmatch.fnmatch(name, glob) for glob in globs)]


def row_of(pattern: Pattern, servers: Servers, slower: float) -> report.Row:
    """The best of some tries, if the first is over its limits."""
    rows = []
    for _ in range(1 if servers.setting.pure else _TRIES):
        cost = measured(pattern, servers)
        rows.append(report.Row(pattern, cost, cost.faults(pattern, slower)))
        if not rows[-1].faults:
            break
    return min(rows, key=lambda row: (len(row.faults), row.cost.hold_ms))


def measured(pattern: Pattern, servers: Servers) -> Cost:
    """Its cost; once more if the server failed, as ports are free only until somebody takes them."""
    try:
        return measure(pattern, servers)
    except ServerFailed:
        servers.forget(pattern)
        return measure(pattern, servers)


def main() -> int:
    options, progress = parse(), Progress()
    loops = [options.loop] if options.loop else ["uvloop"] if options.quick else ["uvloop", "asyncio"]
    slower = speed() * (_SLACK if options.quick else 1)
    tables: dict[str, list[report.Row]] = {loop: [] for loop in loops}
    with tempfile.TemporaryDirectory() as certificates:
        make_certificate(certificates)
        try:
            version = flowserve_version(options.python, options.pure, CHECKOUT)
            print(f"{version}; limits for a machine {slower:.2f} times as slow as the reference")
            for loop in loops:
                print(f"\n{loop}\n\n{report.HEAD}", flush=True)
                setting = Setting(options.python, loop, options.pure, Path(certificates), _LESS if options.quick else 1)
                with Servers(setting, shared=options.quick) as servers:
                    for pattern in chosen(options.patterns):
                        progress.show(f"{loop}: {pattern.name}", every=10)
                        row = row_of(pattern, servers, slower)
                        tables[loop].append(row)
                        progress.clear()
                        print(report.line(row), flush=True)
        except ServerFailed as failure:
            print(failure, file=sys.stderr)
            return 1
    progress.clear()
    return finish(options, tables, version, slower)


def make_certificate(directory: str) -> None:
    """A self-signed certificate for localhost, by trustme."""
    command = [sys.executable, "-m", "trustme", "--quiet", "--dir", directory, "--identities", "localhost"]
    subprocess.run(command, check=True)


def finish(options: argparse.Namespace, tables: dict[str, list[report.Row]], version: str, slower: float) -> int:
    text = "\n".join(f"## {loop}\n\n{report.markdown(rows)}" for loop, rows in tables.items())
    over = [(loop, row) for loop in tables for row in tables[loop] if row.faults]
    faults = [f"{loop}: {row.pattern.name}: {', '.join(row.faults)}" for loop, row in over]
    if options.output:
        about = f"Written by `python -m compliance.costs` on {time.strftime('%Y-%m-%d')}, with {version}.\n"
        document = {"flowserve": version, "slower": round(slower, 2)}
        loops = {loop: [report.entry(row) for row in rows] for loop, rows in tables.items()}
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "results.json").write_text(json.dumps({**document, "loops": loops}, indent=1) + "\n")
        limits = report.limits_table(row.pattern for rows in tables.values() for row in rows)
        (options.output / "results.md").write_text(f"# Costs\n\n{about}\n{text}\n## Limits\n\n{limits}")
    for fault in faults:
        print(fault)
    return 1 if faults and not options.pure else 0


if __name__ == "__main__":
    sys.exit(main())
