"""The command: the tests of the wire, sessions and the server, on modules that watch each access to memory."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from compliance._servers import Progress, ServerFailed, cache_dir
from compliance.sanitize.build import Sanitized
from compliance.sanitize.steps import STEPS, Outcome, chaos, run


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.sanitize",
        description="Builds the extension modules with AddressSanitizer, UndefinedBehaviorSanitizer and Cython's "
        "checks of bounds and overflows, and runs the tests on them. Exits with 1 unless all is clean.",
    )
    parser.add_argument("--quick", action="store_true", help="for CI: wire, sessions and the way of a message")
    parser.add_argument(
        "--steps", default="", metavar="NAMES", help="only these, by how their names begin, as wire,leaks"
    )
    parser.add_argument("--cache", type=Path, help="where the copy is kept (default: in the user's cache)")
    parser.add_argument("--output", type=Path, help="write results.json and results.md there, or add to them")
    return parser.parse_args()


def outcomes(options: argparse.Namespace, copy: Sanitized, logs: Path, progress: Progress) -> Iterator[Outcome]:
    wanted = tuple(name.strip() for name in options.steps.split(",") if name.strip())
    for step in STEPS:
        if step.name.startswith(wanted) if wanted else step.quick or not options.quick:
            progress.show(step.name)
            yield run(step, copy, logs / f"{step.name.replace(' ', '-')}.log")
    if not wanted or "chaos".startswith(wanted):
        progress.show("chaos")
        yield chaos(copy, logs / "chaos.log", options.quick)


def markdown(found: list[Outcome]) -> str:
    lines = ["| step | ran | seconds | of CPU | failed | findings |", "|---|---|--:|--:|--:|--:|"]
    for one in found:
        counts = f"{one.seconds} | {one.cpu} | {len(one.failed)} | {len(one.findings)}"
        lines.append(f"| {one.name} | {one.ran} | {counts} |")
    for one in found:
        lines += [f"\n{one.name}: {each}" for each in one.failed]
        lines += [f"\n{one.name}:\n\n```\n{each[:4000]}\n```" for each in one.findings]
    return "\n".join(lines) + "\n"


def record(directory: Path, made_of: dict[str, str], found: list[Outcome]) -> None:
    """Write results.json and results.md, each step as it was last seen."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "results.json"
    before = json.loads(path.read_text())["steps"] if path.exists() else []
    steps = {one["name"]: one for one in (*before, *map(asdict, found))}
    order = [name for name in (*(step.name for step in STEPS), "chaos") if name in steps]
    document = {**made_of, "steps": [steps[name] for name in order]}
    path.write_text(json.dumps(document, indent=1) + "\n")
    about = f"Written by `python -m compliance.sanitize` on {made_of['date']}, with {made_of['flowserve']}"
    text = markdown([Outcome(**steps[name]) for name in order])
    (directory / "results.md").write_text(f"# Sanitizers\n\n{about}, {made_of['compiler']}.\n\n{text}")


def main() -> int:
    options, progress = parse(), Progress()
    directory = options.cache.resolve() if options.cache else cache_dir("sanitize")
    copy, logs = Sanitized(directory), directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    try:
        progress.show("building with the sanitizers")
        version = copy.make()
    except ServerFailed as failure:
        progress.clear()
        print(failure, file=sys.stderr)
        return 1
    compiler = subprocess.check_output(["gcc", "--version"], text=True).splitlines()[0]
    made_of = {
        "date": time.strftime("%Y-%m-%d"),
        "flowserve": version,
        "compiler": compiler,
        "system": platform.platform(),
    }
    found = []
    for outcome in outcomes(options, copy, logs, progress):
        found.append(outcome)
        if options.output:
            record(options.output, made_of, found)
    progress.clear()
    print(f"{version}\n{compiler}\n\n{markdown(found)}\nWhat was printed is in {logs}")
    return 0 if found and all(one.good for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
