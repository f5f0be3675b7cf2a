"""Finding and running wstest, the command of autobahntestsuite: under a Python 2.7 or in Docker's image."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance._servers import HOST, cache_dir, free_port, serving

SUITE = "autobahntestsuite==0.8.2"
IMAGE = "crossbario/autobahn-testsuite:0.8.2"
# PYTHONPATH would not read the .pth file that makes zope.interface importable; addsitedir does.
START = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite.wstest import run; run()"


WstestCommand = Callable[[str, Path], list[str]]
"""wstest's mode, and a directory that holds its spec.json -> the command."""

Client = tuple[list[str], dict[str, str], Path]
"""A client's command, which prints a line that begins with "case" before each one; what its environment has more, and
where it runs."""

Results = dict[str, dict[str, Any]]
"""Case -> what wstest's index.json says of it."""


@dataclass(frozen=True)
class Job:
    """What is to be run: `directory` gets spec.json and, under reports/, the pages that wstest writes of `agent`;
    `on_case` hears how many cases have begun."""

    command: WstestCommand
    directory: Path
    agent: str
    cases: Sequence[str]
    on_case: Callable[[int], None]


class NoWstest(Exception):
    """There is no way to run wstest here; the message says what to do."""


def succeeds(command: list[str]) -> bool:
    """Whether the command can be run and returns 0. What it says is of no interest."""
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


def find_python27(given: str | None) -> str | None:
    """A Python 2.7: the one that is given, FLOWSERVE_PYTHON27, on the PATH, or one of pyenv's."""
    given = given or os.environ.get("FLOWSERVE_PYTHON27")
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob("2.7*/bin/python2.7"))
    # What is on the PATH may be no more than pyenv's pointer to a version that isn't chosen.
    for candidate in [given] if given else [shutil.which("python2.7"), *pyenv]:
        if candidate and succeeds([str(candidate), "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"]):
            return str(candidate)
    return None


def install(python27: str, target: Path) -> str:
    """Install the suite into `target` unless it is there. '' or the reason why that failed."""
    if (target / "autobahntestsuite").is_dir():
        return ""
    command = [python27, "-m", "pip", "install", "--disable-pip-version-check", "--target", str(target), SUITE]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode == 0:
        return ""
    shutil.rmtree(target, ignore_errors=True)
    return (done.stdout.strip().splitlines() or ["pip failed"])[-1]


def docker_works() -> bool:
    """Whether there is a Docker whose daemon answers."""
    docker = shutil.which("docker")
    return docker is not None and succeeds([docker, "info"])


def wstest_command(python27: str | None, target: Path | None) -> WstestCommand:
    """How to run wstest in a directory that holds its spec.json. Installs what is missing; raises NoWstest."""

    def run(mode: str) -> list[str]:
        return ["-m", mode, "-s", "spec.json", "--webport", "0"]  # no pages over HTTP

    reason = "there is no Python 2.7 (--python27, FLOWSERVE_PYTHON27, PATH or pyenv)"
    found = find_python27(python27)
    if found:
        target = target or cache_dir("autobahn") / "site-packages"
        problem = install(found, target)
        if not problem:
            command = [found, "-c", START, str(target)]
            return lambda mode, directory: [*command, *run(mode)]
        reason = f"{SUITE} could not be installed with {found}: {problem}"
    if docker_works():
        user = f"{os.getuid()}:{os.getgid()}"
        docker = ["docker", "run", "--rm", "--network", "host", "--user", user]
        inside = ["-w", "/suite", IMAGE, "wstest"]
        return lambda mode, directory: [*docker, "-v", f"{directory}:/suite", *inside, *run(mode)]
    raise NoWstest(f"wstest can't be run: {reason}, and no Docker that works")


def fuzz_server(job: Job, url: str) -> Results:
    """Run the cases against the server at `url`."""
    prepare(job, servers=[{"agent": job.agent, "url": url}])
    command = job.command("fuzzingclient", job.directory)
    return results(job, "wstest", *follow(command, job.directory, {}, "Running test case", job.on_case))


def fuzz_client(job: Job, client: Callable[[str], Client]) -> Results:
    """Run the cases with the client that `client` names for the address of wstest."""
    port = free_port()
    url = f"ws://{HOST}:{port}"
    prepare(job, url=url)
    with serving(job.command("fuzzingserver", job.directory), port=port, cwd=job.directory) as server:
        command, env, cwd = client(url)
        status, said = follow(command, cwd, env, "case ", job.on_case)
        if status and server.process.poll():
            raise server.failed("wstest failed")
    return results(job, "the client", status, said)


def prepare(job: Job, **more: Any) -> None:
    """Write spec.json, and remove what an earlier run has left."""
    job.directory.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(job.directory / "reports", ignore_errors=True)
    spec = {"outdir": "./reports", "cases": list(job.cases), "exclude-cases": [], **more}
    (job.directory / "spec.json").write_text(json.dumps(spec, indent=1))


def follow(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], sign: str, on_case: Callable[[int], None]
) -> tuple[int, list[str]]:
    """Run a command to its end: its status, and the last lines that it printed without `sign`, the sign of a case."""
    begun = 0
    said: list[str] = []
    process = subprocess.Popen(
        list(command),
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if sign in line:
                begun += 1
                on_case(begun)
            else:
                said = [*said[-14:], line.rstrip()]
    return process.wait(), said


def results(job: Job, who: str, status: int, said: list[str]) -> Results:
    """What index.json says. Raises NoWstest, with what was `said`, when there is none or `who` has failed."""
    index = job.directory / "reports" / "index.json"
    if status or not index.exists():
        raise NoWstest("\n    ".join([f"{who} failed with status {status}", *said]))
    found: Results = json.loads(index.read_text())[job.agent]
    return found
