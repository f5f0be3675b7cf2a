"""The command: every fault, on the real server."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from compliance._servers import CHECKOUT, Progress, ServerFailed, flowserve_version
from compliance.faults import files, peers, processes, resources  # noqa: F401  (they list their faults)
from compliance.faults.faults import FAULTS, Fault
from compliance.faults.rig import Broken, Missing, rig

LOOPS = ("uvloop", "asyncio")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.faults",
        description="What flowserve does when something breaks beside it. Exit status 1: a promise is broken.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only faults with one of these words in their names")
    parser.add_argument("--quick", action="store_true", help="those that take a few seconds, on uvloop, for CI")
    parser.add_argument("--jobs", type=int, default=4, help="how many at once: most of them wait (default: 4)")
    parser.add_argument("--pure", action="store_true", default=bool(os.environ.get("FLOWSERVE_PURE")))
    parser.add_argument("--output", type=Path, help="write results.json and results.md into this directory")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[tuple[Fault, str]]:
    faults = [each for each in FAULTS if each.quick or not options.quick]
    if options.names:
        faults = [each for each in faults if any(name.lower() in each.name.lower() for name in options.names)]
    return [
        (each, loop) for each in faults for loop in LOOPS if loop == LOOPS[0] or (each.both_loops and not options.quick)
    ]


def observe(fault: Fault, loop: str, pure: bool) -> dict[str, Any]:
    began = time.monotonic()
    with rig(loop, pure) as made:
        try:
            kept, seen = True, fault.run(made)
        except Missing as missing:
            kept, seen = None, f"not run: {missing} is missing here"
        except Broken as broken:
            kept, seen = False, str(broken)
        except Exception as error:  # a client's, whatever it is, is something that was not promised
            kept, seen = False, f"{type(error).__name__}: {error}"
        seen = seen.replace(str(made.folder), "FOLDER")
    seconds = round(time.monotonic() - began, 1)
    return {"fault": fault.name, "loop": loop, "promise": fault.promise, "seen": seen, "kept": kept, "seconds": seconds}


def markdown(rows: list[dict[str, Any]]) -> str:
    words = {True: "yes", False: "**NO**", None: "-"}
    lines = ["| fault | loop | promised | seen | kept |", "|---|---|---|---|---|"]
    for row in rows:
        seen = " ".join(row["seen"].split()).replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| {row['fault']} | {row['loop']} | {row['promise']} | {seen} | {words[row['kept']]} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    options, progress = parse(), Progress()
    try:
        version = flowserve_version(sys.executable, options.pure, CHECKOUT)
    except ServerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    with ThreadPoolExecutor(options.jobs) as pool:
        pending = [pool.submit(observe, fault, loop, options.pure) for fault, loop in chosen(options)]
        for each in as_completed(pending):
            row = each.result()
            progress.show(f"{row['fault']} ({row['loop']}): {row['seconds']} s")
    rows = [each.result() for each in pending]
    progress.clear()
    print(markdown(rows))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        about = f"Written by `python -m compliance.faults` on {time.strftime('%Y-%m-%d')}, with {version}.\n"
        document = {"flowserve": version, "faults": rows}
        (options.output / "results.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        (options.output / "results.md").write_text(f"# Faults\n\n{about}\n{markdown(rows)}")
    broken = [row for row in rows if row["kept"] is False]
    for row in broken:
        print(f"broken: {row['fault']} ({row['loop']}): {row['seen']}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
