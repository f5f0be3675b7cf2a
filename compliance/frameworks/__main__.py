"""The command: every row's application on flowserve and on uvicorn."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compliance._servers import Progress, ServerFailed, cache_dir, flowserve_version
from compliance.frameworks import report
from compliance.frameworks.checks.ending import quiet_log
from compliance.frameworks.environment import Environments, chromium
from compliance.frameworks.launch import APPS, SERVERS, started
from compliance.frameworks.rows import ROWS, Check, Row
from compliance.frameworks.site import Failed, Site
from compliance.frameworks.talk import talk

HERE = Path(__file__).resolve().parent
QUICK = "light"
"""The environment of the quick rows."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.frameworks",
        description="Real applications on flowserve and on uvicorn, used by real clients. Exit status 1: flowserve "
        "fails what uvicorn passes.",
    )
    parser.add_argument("--quick", action="store_true", help="only rows that need a few light packages, for CI")
    parser.add_argument("--rows", default="", help="only these, by how their names begin, as django,fastmcp")
    parser.add_argument("--servers", default=",".join(SERVERS), help="default: flowserve,uvicorn")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="uvloop", help="default: uvloop")
    parser.add_argument(
        "--pure",
        action="store_true",
        default=bool(os.environ.get("FLOWSERVE_PURE")),
        help="without the compiled modules, as FLOWSERVE_PURE=1",
    )
    parser.add_argument("--cache", type=Path, help="where environments are kept (default: in the user's cache)")
    parser.add_argument("--output", type=Path, help="write results.json and results.md into this directory")
    return parser.parse_args()


def chosen(names: str, quick: bool) -> list[Row]:
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    rows = [row for row in ROWS if row.environment == QUICK or not quick]
    return [row for row in rows if not wanted or any(row.name.lower().startswith(name) for name in wanted)]


class Runner:
    def __init__(self, options: argparse.Namespace, environments: Environments, progress: Progress) -> None:
        self.options = options
        self.environments = environments
        self.progress = progress

    def run(self, row: Row) -> dict[str, Any]:
        python = self.environments.python(row.environment)
        outcomes = {server: self.on(server, row, python) for server in self.options.servers.split(",")}
        versions = self.environments.versions(python)
        return report.entry(row.name, {name: versions[name] for name in row.packages}, outcomes)

    def on(self, server: str, row: Row, python: str) -> report.Outcome:
        """The row on one server: its checks, its clients, then those that end it, each with a server of its own."""
        outcome: report.Outcome = {}
        try:
            with self.site(server, row, python) as site:
                listen("starts", site, outcome)
                for check in row.checks:
                    self.check(check, site, outcome, f"{row.name} on {server}")
                    listen(check.__name__, site, outcome)
                for client in row.clients:
                    self.progress.show(f"{row.name} on {server}: {client}", every=10)
                    outcome.update(talk(client, site))
                    listen(f"{client} ends", site, outcome)
                for check in row.errors:
                    self.check(check, site, outcome, f"{row.name} on {server}")
            for check in row.endings:
                with self.site(server, row, python) as site:
                    self.check(check, site, outcome, f"{row.name} on {server}")
        except ServerFailed as failure:
            outcome["starts"] = one_line(str(failure))
        else:
            outcome["starts"] = "ok"
        return outcome

    @contextlib.contextmanager
    def site(self, server: str, row: Row, python: str) -> Iterator[Site]:
        with started(server, row, python, self.options.loop, self.options.pure) as running:
            yield Site(running, python, self.environments.npm() if row.clients else "", browser(row))

    def check(self, check: Check, site: Site, outcome: report.Outcome, where: str) -> None:
        name = spelled(check.__name__)
        self.progress.show(f"{where}: {name}", every=10)
        try:
            check(site)
        except Exception as problem:  # whatever a client raises is what this server did not do
            outcome[name] = one_line(f"{type(problem).__name__}: {problem}".removeprefix("Failed: "))
        else:
            outcome[name] = "ok"


def listen(name: str, site: Site, outcome: report.Outcome) -> None:
    """Note what a check that passed has put into the log at ERROR; the application has not raised it."""
    try:
        quiet_log(site)
    except Failed as noise:
        if outcome.get(spelled(name), "ok") == "ok":
            outcome[report.QUIET + spelled(name)] = str(noise)


def spelled(name: str) -> str:
    return name.replace("_", " ")


def browser(row: Row) -> str:
    return chromium() if row.browser else ""


def one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return (lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1]}")[:200]


def main() -> int:
    options, progress = parse(), Progress()
    directory = options.cache.resolve() if options.cache else cache_dir("frameworks")
    directory.mkdir(parents=True, exist_ok=True)
    environments = Environments(directory, progress)
    runner = Runner(options, environments, progress)
    rows = chosen(options.rows, options.quick)
    try:
        entries = [runner.run(row) for row in rows]
        version = flowserve_version(environments.python(rows[0].environment), options.pure, APPS)
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 1
    progress.clear()
    return show(options, entries, version)


def show(options: argparse.Namespace, entries: list[dict[str, Any]], version: str) -> int:
    text, faults = report.markdown(entries), report.behind(entries)
    print(text)
    if options.output:
        about = f"Written by `python -m compliance.frameworks` on {time.strftime('%Y-%m-%d')}, with {version}, "
        about += f"on {options.loop}.\n"
        document = {"flowserve": version, "loop": options.loop, "rows": entries}
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "results.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        (options.output / "results.md").write_text(f"# Frameworks\n\n{about}\n{text}")
    for fault in faults:
        print(f"uvicorn passes, flowserve fails: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
