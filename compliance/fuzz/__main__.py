"""The command: each target under the fuzzer for its share of the time, and what came of it."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compliance._servers import CHECKOUT, Progress, ServerFailed, cache_dir, flowserve_version
from compliance.fuzz import corpus, report, targets
from compliance.fuzz.environment import packages, variables
from compliance.fuzz.slices import Slice, end_running, run

_LONGEST_SLICE = 300.0
"""Seconds of one process; a longer time is spent in rounds, so that a run that is ended early is an even one."""
_QUICK = 80.0
"""Seconds in all for --quick, beside the start of each process."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.fuzz",
        description="Feeds the parsers of bytes and text with inputs that coverage guides. Exit status 1: something "
        "was found.",
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all of them; see --list")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--minutes", type=float, help="in all, shared by the targets (default: 10)")
    amount.add_argument("--seconds", type=float, help="likewise")
    amount.add_argument("--quick", action="store_true", help="about two minutes, for CI")
    parser.add_argument("--jobs", type=int, default=1, help="targets that run at once (default: 1)")
    parser.add_argument("--list", action="store_true", help="show the targets and what must hold, and do nothing")
    parser.add_argument(
        "--minimize",
        action="store_true",
        help="only add to the repository what the runs before have found to cover more",
    )
    parser.add_argument("--cache", type=Path, help="where the growing corpus is kept (default: in the user's cache)")
    parser.add_argument(
        "--output",
        type=Path,
        help="add to results.json and .md here, and keep inputs that found something",
    )
    return parser.parse_args()


def seconds_of(options: argparse.Namespace) -> float:
    if options.quick:
        return _QUICK
    if options.seconds is not None:
        return float(options.seconds)
    return 60 * (10.0 if options.minutes is None else float(options.minutes))


def plan(names: list[str], seconds: float) -> list[tuple[str, float]]:
    """Who runs for how long, in rounds over all targets."""
    share = seconds / len(names)
    rounds = max(1, round(share / _LONGEST_SLICE + 0.49))
    return [(name, share / rounds) for _ in range(rounds) for name in names]


class Fuzzing:
    """All slices, added up as they end."""

    def __init__(self, options: argparse.Namespace, directory: Path, progress: Progress) -> None:
        self.options = options
        self.directory = directory
        self.progress = progress
        self.packages = packages(directory, progress)
        self.slices: list[Slice] = []

    def run(self, names: list[str]) -> None:
        for name in names:  # here, as threads that import side by side find modules half done
            targets.load(name)
        pool = ThreadPoolExecutor(max(1, self.options.jobs))
        try:
            for found in pool.map(self.slice, *zip(*plan(names, seconds_of(self.options)), strict=True)):
                self.slices.append(found)
                self.tell(found)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            end_running()

    def slice(self, name: str, seconds: float) -> Slice:
        self.progress.show(f"{name}: {seconds:.0f} s", every=10)
        inputs = self.directory / "corpus" / name
        corpus.seed(inputs, corpus.committed(name))
        return run(name, seconds, inputs, self.packages)

    def tell(self, found: Slice) -> None:
        """Show what was found, and keep it where it is wanted."""
        for finding, data in found.findings:
            self.progress.clear()
            print(f"{found.name}: {finding.kind}\n{finding.text}\n  the input: {data!r}\n", flush=True)
            if self.options.output and data:
                corpus.add_failed(found.name, data, finding.kind)
        if self.options.output:
            report.add(self.options.output, found, self.version())

    def version(self) -> str:
        return flowserve_version(sys.executable, False, CHECKOUT)


def minimize(names: list[str], directory: Path, progress: Progress) -> None:
    """Add to what the repository has of each corpus the few inputs that cover more."""
    for name in names:
        progress.show(f"minimizing {name}")
        inputs = directory / "corpus" / name
        corpus.seed(inputs, corpus.committed(name))
        command = [sys.executable, "-m", "compliance.fuzz.minimize", name, str(inputs)]
        subprocess.run(command, env=variables(None, pure=True), check=True)
    progress.clear()


def main() -> int:
    options, progress = parse(), Progress()
    names = options.targets or targets.names()
    if unknown := [name for name in names if name not in targets.names()]:
        print(f"there is no target {unknown[0]}; the targets are {', '.join(targets.names())}", file=sys.stderr)
        return 2
    if options.list:
        print("\n\n".join(f"{name}: {targets.load(name).about}" for name in names))
        return 0
    directory = options.cache.resolve() if options.cache else cache_dir("fuzz")
    directory.mkdir(parents=True, exist_ok=True)
    if options.minimize:
        minimize(names, directory, progress)
        return 0
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that no fuzzer is left behind
    try:
        fuzzing = Fuzzing(options, directory, progress)
        fuzzing.run(names)
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 1
    progress.clear()
    print(report.table(report.added(fuzzing.slices)))
    findings = sum(len(each.findings) for each in fuzzing.slices)
    print(f"{findings} findings in {time.monotonic() - began:.0f} s")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
