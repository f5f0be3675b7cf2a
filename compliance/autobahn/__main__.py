"""The command: start flowserve, run the cases, compare with golden.json."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from compliance._servers import (
    HOST,
    Progress,
    ServerFailed,
    cache_dir,
    flowserve_command,
    flowserve_env,
    flowserve_version,
    free_port,
    serving,
)
from compliance.autobahn.wstest import NoWstest, run_wstest, wstest_command

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden.json"
PLAIN = tuple(f"{group}.*" for group in range(1, 12))
QUICK = tuple(f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10, 11))
Outcomes = dict[str, list[str]]  # case -> [behavior, behaviorClose]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.autobahn",
        description="Autobahn's fuzzing client against flowserve. Exits with 1 on any difference from golden.json.",
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="all groups but 9 (limits), 12 and 13 (compression)")
    group.add_argument("--full", action="store_true", help="all 517 cases (default: groups 1 to 11)")
    group.add_argument("--cases", metavar="PATTERN", help="cases by pattern, separated by commas: '1.*,7.1.6'")
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument("--pure", action="store_true", help="the pure Python modules")
    speed.add_argument("--both", action="store_true", help="the compiled modules, then the pure ones")
    speed.add_argument("--url", help="test a server that runs already, whatever it is")
    parser.add_argument("--update", action="store_true", help="write what was seen into golden.json")
    parser.add_argument("--python", default=sys.executable, help="the interpreter for flowserve (default: this one)")
    parser.add_argument("--python27", help="a Python 2.7 for wstest (default: FLOWSERVE_PYTHON27, PATH, pyenv)")
    parser.add_argument("--wstest", type=Path, metavar="DIR", help="where autobahntestsuite is, or is to be, installed")
    parser.add_argument("--report", type=Path, metavar="DIR", help="where the report goes (default: the user's cache)")
    return parser.parse_args()


def select(cases: list[str], options: argparse.Namespace) -> list[str]:
    """The cases to run. They go to wstest by name: its own patterns are not anchored at the end."""
    patterns = options.cases.split(",") if options.cases else QUICK if options.quick else PLAIN
    return [case for case in cases if options.full or any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns)]


def differences(golden: Outcomes, seen: Outcomes, cases: list[str]) -> list[str]:
    """A line for each case that did not end as the golden file says."""
    lines = []
    for case in cases:
        expected, got = golden[case], seen.get(case, ["NOT RUN", "NOT RUN"])
        if got != expected:
            lines.append(f"  {case:<9} expected {' / '.join(expected)}, got {' / '.join(got)}")
    return lines


@contextlib.contextmanager
def target(options: argparse.Namespace, pure: bool) -> Iterator[str]:
    """The address of the server under test, which is started here unless --url names one."""
    if options.url:
        yield options.url
        return
    port = free_port()
    # In 6.4.3 and 6.4.4 the client's close comes inside an unfinished frame and can't be seen: the timeout ends them.
    settings = ["--log-level", "warning", "--ws-close-timeout", "3s"]
    command = flowserve_command(options.python, "echo:app", HERE, port, *settings)
    with serving(command, port=port, env=flowserve_env(pure), cwd=HERE) as server:
        yield f"ws://{HOST}:{port}"
        if server.process.poll() is not None:
            raise server.failed("flowserve ended during the run")


def check(options: argparse.Namespace, command: Callable[[Path], list[str]], pure: bool, golden: Outcomes) -> bool:
    """Run the cases at one speed, print the outcome. Whether all was as expected."""
    cases = select(list(golden), options)
    agent = "server" if options.url else "flowserve pure" if pure else "flowserve"
    report = (options.report or cache_dir("autobahn") / "reports").resolve() / agent.replace(" ", "-")
    progress, began = Progress(), time.monotonic()

    def on_case(begun: int) -> None:
        progress.show(f"{agent}: case {begun} of {len(cases)}, {time.monotonic() - began:.0f} s", every=10)

    with target(options, pure) as url:
        results = run_wstest(command, report, agent, url, cases, on_case)
    progress.clear()
    seen = {case: [one["behavior"], one["behaviorClose"]] for case, one in results.items()}
    changed = differences(golden, seen, cases)
    outcomes = Counter(" / ".join(pair) for pair in seen.values())
    counts = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
    print(f"{agent}: {len(seen)} cases in {time.monotonic() - began:.0f} s: {counts}")
    print(f"  {report / 'reports' / 'index.html'}")
    if changed:
        print(f"  {len(changed)} not as in golden.json:")
        print("\n".join(changed), flush=True)
    if options.update:
        golden.update(seen)
        rows = ",\n".join(f"{json.dumps(case)}: {json.dumps(pair)}" for case, pair in golden.items())
        GOLDEN.write_text("{\n" + rows + "\n}\n")
    return not changed or options.update


def main() -> int:
    options = parse()
    golden: Outcomes = json.loads(GOLDEN.read_text())
    if not select(list(golden), options):
        print("no case has such a name", file=sys.stderr)
        return 2
    good = True
    try:
        command = wstest_command(options.python27, options.wstest)
        for pure in (False, True) if options.both else (options.pure,):
            if not options.url:
                print(flowserve_version(options.python, pure, HERE))
            good = check(options, command, pure, golden) and good
    except (NoWstest, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
