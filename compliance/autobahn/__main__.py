"""The command: run the cases against flowserve, as a server or as a client, and compare with the golden file."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
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
from compliance.autobahn.wstest import (
    Client,
    Job,
    NoWstest,
    Results,
    WstestCommand,
    fuzz_client,
    fuzz_server,
    wstest_command,
)

HERE = Path(__file__).resolve().parent
GOLDEN = {"server": HERE / "golden.json", "client": HERE / "golden-client.json"}
PLAIN = tuple(f"{group}.*" for group in range(1, 12))
QUICK = tuple(f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10, 11))
Outcomes = dict[str, list[str]]  # case -> [behavior, behaviorClose]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.autobahn",
        description="Autobahn's fuzzing client against flowserve's server, or its fuzzing server against flowserve's "
        "client. Exits with 1 on any difference from golden.json or golden-client.json.",
    )
    parser.add_argument("--client", action="store_true", help="test flowserve's client (default: its server)")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="all groups but 9 (limits), 12 and 13 (compression)")
    group.add_argument("--full", action="store_true", help="all 517 cases (default: groups 1 to 11)")
    group.add_argument("--cases", metavar="PATTERN", help="cases by pattern, separated by commas: '1.*,7.1.6'")
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument("--pure", action="store_true", help="the pure Python modules")
    speed.add_argument("--both", action="store_true", help="the compiled modules, then the pure ones")
    speed.add_argument("--url", help="test a server that runs already, whatever it is")
    parser.add_argument("--update", action="store_true", help="write what was seen into the golden file")
    parser.add_argument("--python", default=sys.executable, help="the interpreter for flowserve (default: this one)")
    parser.add_argument("--python27", help="a Python 2.7 for wstest (default: FLOWSERVE_PYTHON27, PATH, pyenv)")
    parser.add_argument("--wstest", type=Path, metavar="DIR", help="where autobahntestsuite is, or is to be, installed")
    parser.add_argument("--report", type=Path, metavar="DIR", help="where the report goes (default: the user's cache)")
    options = parser.parse_args()
    if options.client and options.url:
        parser.error("--url names a server, and --client tests a client")
    return options


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


def run(options: argparse.Namespace, job: Job, pure: bool) -> Results:
    """Run the cases against flowserve in the role that is asked for."""

    def client(url: str) -> Client:
        return [options.python, "client.py", url, job.agent], flowserve_env(pure), HERE

    if options.client:
        return fuzz_client(job, client)
    with target(options, pure) as url:
        return fuzz_server(job, url)


def check(options: argparse.Namespace, command: WstestCommand, pure: bool, file: Path) -> bool:
    """Run the cases at one speed, print the outcome, compare it with the golden file. Whether all was as expected."""
    golden: Outcomes = json.loads(file.read_text())
    cases = select(list(golden), options)
    agent = "server" if options.url else "flowserve" + " client" * options.client + " pure" * pure
    report = (options.report or cache_dir("autobahn") / "reports").resolve() / agent.replace(" ", "-")
    progress, began = Progress(), time.monotonic()

    def on_case(begun: int) -> None:
        progress.show(f"{agent}: case {begun} of {len(cases)}, {time.monotonic() - began:.0f} s", every=10)

    results = run(options, Job(command, report, agent, cases, on_case), pure)
    progress.clear()
    seen = {case: [one["behavior"], one["behaviorClose"]] for case, one in results.items()}
    changed = differences(golden, seen, cases)
    outcomes = Counter(" / ".join(pair) for pair in seen.values())
    counts = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
    print(f"{agent}: {len(seen)} cases in {time.monotonic() - began:.0f} s: {counts}")
    print(f"  {report / 'reports' / 'index.html'}")
    if changed:
        print(f"  {len(changed)} not as in {file.name}:")
        print("\n".join(changed), flush=True)
    if options.update:
        golden.update(seen)
        rows = ",\n".join(f"{json.dumps(case)}: {json.dumps(pair)}" for case, pair in golden.items())
        file.write_text("{\n" + rows + "\n}\n")
    return not changed or options.update


def main() -> int:
    options = parse()
    file = GOLDEN["client" if options.client else "server"]
    if not select(list(json.loads(file.read_text())), options):
        print("no case has such a name", file=sys.stderr)
        return 2
    good = True
    try:
        command = wstest_command(options.python27, options.wstest)
        for pure in (False, True) if options.both else (options.pure,):
            if not options.url:
                print(flowserve_version(options.python, pure, HERE))
            good = check(options, command, pure, file) and good
    except (NoWstest, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
