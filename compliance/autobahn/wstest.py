"""Finding and running wstest, the command of autobahntestsuite: under a Python 2.7 or in Docker's image."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compliance._servers import cache_dir

SUITE = "autobahntestsuite==0.8.2"
IMAGE = "crossbario/autobahn-testsuite:0.8.2"
# PYTHONPATH would not read the .pth file that makes zope.interface importable; addsitedir does.
START = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite.wstest import run; run()"


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


def wstest_command(python27: str | None, target: Path | None) -> Callable[[Path], list[str]]:
    """How to run wstest in a directory that holds its spec.json. Installs what is missing; raises NoWstest."""
    reason = "there is no Python 2.7 (--python27, FLOWSERVE_PYTHON27, PATH or pyenv)"
    found = find_python27(python27)
    if found:
        target = target or cache_dir("autobahn") / "site-packages"
        problem = install(found, target)
        if not problem:
            command = [found, "-c", START, str(target), "-m", "fuzzingclient", "-s", "spec.json"]
            return lambda directory: command
        reason = f"{SUITE} could not be installed with {found}: {problem}"
    if docker_works():
        user = f"{os.getuid()}:{os.getgid()}"
        docker = ["docker", "run", "--rm", "--network", "host", "--user", user]
        inside = ["-w", "/suite", IMAGE, "wstest", "-m", "fuzzingclient", "-s", "spec.json"]
        return lambda directory: [*docker, "-v", f"{directory}:/suite", *inside]
    raise NoWstest(f"wstest can't be run: {reason}, and no Docker that works")


def run_wstest(
    command: Callable[[Path], list[str]],
    directory: Path,
    agent: str,
    url: str,
    cases: Sequence[str],
    on_case: Callable[[int], None],
) -> dict[str, dict[str, Any]]:
    """Run the cases against `url`; `on_case` hears how many have begun. What index.json says, by case.

    `directory` gets spec.json and, under reports/, the pages that wstest writes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(directory / "reports", ignore_errors=True)
    spec = {"outdir": "./reports", "servers": [{"agent": agent, "url": url}], "cases": list(cases), "exclude-cases": []}
    (directory / "spec.json").write_text(json.dumps(spec, indent=1))
    begun = 0
    said: list[str] = []
    process = subprocess.Popen(
        command(directory), cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            said = [*said[-14:], line.rstrip()]
            if "Running test case" in line:
                begun += 1
                on_case(begun)
    status, index = process.wait(), directory / "reports" / "index.json"
    if status or not index.exists():
        raise NoWstest("\n    ".join([f"wstest failed with status {status}", *said]))
    results: dict[str, dict[str, Any]] = json.loads(index.read_text())[agent]
    return results
