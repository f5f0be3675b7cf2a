"""What is run on the sanitized modules."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compliance.sanitize.build import Sanitized

PYTEST = ("-m", "pytest", "-v", "-p", "no:cacheprovider", "--numprocesses=2")
"""The log names each test as it ends, as a run that is broken off has no summary."""
UNFIT = (
    "tests/server/test_deflate_live.py::test_a_bomb",
    "tests/server/test_recycling.py::test_memory_is_what_is_taken_now",
)
"""Left out, as they look at the memory of a process: AddressSanitizer keeps what is freed, to see who still uses it."""
PATIENT = {"FLOWSERVE_LONGEST_TEST": "900"}
"""Everything takes several times as long."""
LONGEST = 3600.0
"""Seconds for one step."""


@dataclass(frozen=True)
class Step:
    """A command for the sanitized interpreter; `tests` are pytest's. `loop` is what tests run on that ask for none."""

    name: str
    tests: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    loop: str = "asyncio"
    quick: bool = True


@dataclass
class Outcome:
    """What came of a step: how many tests or turns there were, seconds by the clock and of CPU, what failed, and what
    the sanitizers have said."""

    name: str
    ran: str
    seconds: int
    cpu: int
    failed: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.failed and not self.findings


MESSAGES = (
    "tests/server/test_websocket.py",
    *(
        f"tests/server/test_http{part}.py"
        for part in ("", "_connections", "_bodies", "_disconnect", "_limits", "_application_errors")
    ),
)
STEPS = (
    Step("misuse", ("tests/test_misuse.py", "--dist=load")),  # it is one file for two processes
    Step("wire", ("tests/websocket", "tests/http")),
    Step("session", ("tests/session", "tests/transport")),
    Step("server, the way of a message", MESSAGES, loop="uvloop"),
    Step("leaks", command=("compliance/sanitize/leaks.py",)),
    Step("server on asyncio", ("tests/server", "tests/asgi", "tests/wsgi"), quick=False),
    Step("server on uvloop", ("tests/server", "tests/asgi", "tests/wsgi"), loop="uvloop", quick=False),
    Step("library on asyncio", ("tests/library", "tests/client", "tests/hosting"), quick=False),
    Step("library on uvloop", ("tests/library", "tests/client", "tests/hosting"), loop="uvloop", quick=False),
)


def run(step: Step, copy: Sanitized, log: Path) -> Outcome:
    """Run one step; what it prints goes to `log`."""
    began, cpu = time.monotonic(), cpu_seconds()
    command = [*PYTEST, *(f"--deselect={test}" for test in UNFIT), *step.tests] if step.tests else list(step.command)
    status = call([str(copy.python), *command], copy.root, log, FLOWSERVE_TEST_LOOP=step.loop, **PATIENT)
    said = log.read_text(errors="replace")
    ran, failed = counted(said) if step.tests else leaks(said)
    if status and not failed:
        failed = [f"ended with status {status}: {(said.strip().splitlines() or ['no word'])[-1][:200]}"]
    return Outcome(step.name, ran, round(time.monotonic() - began), round(cpu_seconds() - cpu), failed, copy.findings())


def cpu_seconds() -> float:
    """Of all processes that have been started from here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def call(command: Sequence[str], cwd: Path, log: Path, **settings: str) -> int:
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command,
                cwd=cwd,
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LONGEST,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -1
    return done.returncode


def counted(said: str) -> tuple[str, list[str]]:
    """How many tests pytest has run, and those that failed."""
    lines = re.findall(r"^(?:=+ )?((?:\d+ \w+,? ?)+) in [\d.]+s", said, re.MULTILINE)
    failed = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE)
    return (lines[-1] if lines else "nothing"), failed


def leaks(said: str) -> tuple[str, list[str]]:
    """What leaks.py has measured, and what of it is too much."""
    from compliance.sanitize.leaks import LIMIT

    lines = [line for line in said.splitlines() if line.startswith("{")]
    kept = json.loads(lines[-1]) if lines else {}
    return f"{len(kept)} scenarios", [
        f"{name} keeps {size} bytes a turn" for name, size in kept.items() if size > LIMIT
    ]


CHAOS = (
    "uvloop-tls-close-takeover",
    "asyncio-plain-drop-takeover",
    "uvloop-plain-wait-shared",
    "asyncio-tls-wait-none",
)
"""Configurations: each event loop, compression and policy, with TLS and without; those of --quick first."""
CHAOS_QUICK = 2
CHAOS_SECONDS = 8
"""For each."""


def chaos(copy: Sanitized, log: Path, quick: bool) -> Outcome:
    """A short run of compliance/chaos against servers of the sanitized interpreter."""
    names = CHAOS[:CHAOS_QUICK] if quick else CHAOS
    began, cpu = time.monotonic(), cpu_seconds()
    command = [sys.executable, "-m", "compliance.chaos", "--sanitized", "--python", str(copy.python), "--jobs=2"]
    command += [f"--seconds={CHAOS_SECONDS * len(names)}", *(f"--configuration={name}" for name in names)]
    status = call(command, copy.root, log, FLOWSERVE_PURE="1")  # its own clients; the servers are told otherwise
    last = (log.read_text(errors="replace").strip().splitlines() or ["no word"])[-1][:200]
    failed = [f"ended with status {status}: {last}"] if status else []
    return Outcome("chaos", last, round(time.monotonic() - began), round(cpu_seconds() - cpu), failed, copy.findings())
