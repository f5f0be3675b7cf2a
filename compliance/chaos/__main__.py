"""The command: each configuration for its part of the time."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from random import SystemRandom

from compliance._servers import CHECKOUT, ServerFailed, flowserve_version
from compliance.chaos import report
from compliance.chaos.configurations import CONFIGURATIONS, Configuration
from compliance.chaos.round import Outcome, run

QUICK_SECONDS = 36.0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.chaos",
        description="Random applications and random clients against the flowserve command. Exit status 1: something "
        "was lost, left behind, or said that nobody asked for.",
    )
    parser.add_argument("--seconds", type=float, help="for all configurations together (default: 600; --quick: 36)")
    parser.add_argument("--seed", help="that of an earlier run, to repeat it (default: a new one)")
    parser.add_argument("--configuration", action="append", default=[], metavar="NAME", help="may be repeated")
    parser.add_argument("--client", action="append", default=[], metavar="ID", help="only this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="for CI: the configurations that cover every option once")
    parser.add_argument("--jobs", type=int, metavar="NUMBER", help="configurations at a time (default: 1; --quick: 2)")
    parser.add_argument("--list", action="store_true", help="show the configurations")
    parser.add_argument("--python", default=sys.executable, help="the interpreter for flowserve (default: this one)")
    parser.add_argument(
        "--sanitized", action="store_true", help="its modules watch each access: more patience, no look at its memory"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="write results.json and results.md there")
    return parser.parse_args()


def certificate(directory: Path) -> tuple[Path, Path]:
    """The server's key and certificate in one file, and the authority that signed it."""
    import trustme

    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    return directory / "server.pem", directory / "ca.pem"


def run_all(wanted: list[Configuration], seconds: float, seed: str, options: argparse.Namespace) -> list[Outcome]:
    """Run the configurations, as many at a time as `options` say, and tell what came of each."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as directory, ProcessPoolExecutor(options.jobs) as pool:
        pair = certificate(Path(directory))
        for outcome in pool.map(partial(run, seconds=seconds, seed=seed, certificate=pair, options=options), wanted):
            print(report.line(outcome), *outcome.violations[:20], sep="\n    ", flush=True)
            outcomes.append(outcome)
    return outcomes


def main() -> int:
    options = parse()
    wanted = [one for one in CONFIGURATIONS if one.quick or not options.quick]
    if options.configuration:
        wanted = [one for one in CONFIGURATIONS if one.name in options.configuration]
    options.jobs = options.jobs or (2 if options.quick else 1)
    if options.list or not wanted:
        print("\n".join(one.name for one in wanted or CONFIGURATIONS))
        return 0 if wanted else 2
    seed = options.seed or f"{SystemRandom().getrandbits(32):08x}"
    seconds = (options.seconds or (QUICK_SECONDS if options.quick else 600.0)) / len(wanted)
    print(f"--seed {seed}", flush=True)
    try:
        version = flowserve_version(options.python, False, CHECKOUT)
        outcomes = run_all(wanted, seconds, seed, options)
    except ServerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    print(report.summary(outcomes))
    if options.output:
        report.write(options.output, outcomes, version, seed, time.strftime("%Y-%m-%d"))
    return 1 if any(one.violations for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
