"""The command: once with a history that keeps all, once with one that is too short."""

from __future__ import annotations

import argparse
import sys

from compliance._servers import Progress, ServerFailed
from compliance.topics.pages.engines import ENGINES, installed
from compliance.topics.pages.run import run
from compliance.topics.scenarios import DEEP

_RUNS = (("all is kept", DEEP, False), ("5 messages are kept", ("--topics-history", "5"), True))
"""Names, options of the server, and whether gaps have to be told."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.topics.pages",
        description="Pages in Chromium, Firefox and Node get numbered messages while their workers are killed. Exit "
        "status 1: one was lost, doubled or swapped, and no gap was told.",
    )
    parser.add_argument("--quick", action="store_true", help="for CI: fewer messages and kills")
    parser.add_argument("--messages", type=int, metavar="N", help="(default: 10000; --quick: 1000)")
    parser.add_argument("--kills", type=int, metavar="N", help="of workers (default: 10; --quick: 3)")
    parser.add_argument("--seconds", type=float, metavar="S", help="of a run (default: 40; --quick: 10)")
    parser.add_argument("--pages", type=int, metavar="N", default=4, help="of each engine (default: 4)")
    options = parser.parse_args()
    options.messages = options.messages or (1000 if options.quick else 10_000)
    options.kills = options.kills or (3 if options.quick else 10)
    options.seconds = options.seconds or (10.0 if options.quick else 40.0)
    return options


def main() -> int:
    options, progress, engines = parse(), Progress(), installed()
    for engine in ENGINES.keys() - engines:
        print(f"{engine} is left out: not installed", flush=True)
    failed = False
    try:
        for history, arguments, gaps in _RUNS:
            outcome = run(engines, options, history, arguments, progress)
            if not gaps and outcome.gaps:
                outcome.violations.append(f"{outcome.gaps} gaps were told, though all is kept")
            if gaps and not outcome.gaps:
                outcome.violations.append("no gap was told, so that it has shown nothing")
            progress.clear()
            print(
                f"{history}: {outcome.pages} pages on {', '.join(engines)}, {outcome.connections} connections, "
                f"{outcome.kills} workers killed, {outcome.published} published, {outcome.received} received, "
                f"{outcome.gaps} gaps told: {len(outcome.violations)} violations",
                *outcome.violations[:20],
                sep="\n    ",
                flush=True,
            )
            failed = failed or bool(outcome.violations)
    except ServerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
