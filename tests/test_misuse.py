"""Nothing that Python can reach in the compiled modules ends the process, however misused: an exception at most."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.misuse import JOURNAL_SIZE

from flowserve.compiled import hot_modules, is_compiled

TESTS = Path(__file__).parent
STILL = 30.0
"""Seconds that one step may take: many times the longest, which is memory to be filled."""
PARTS = 6
ENOUGH = 20
"""Faults that are looked for: one at the root of all has many faces."""


def take_steps(journal: Path, first: int, modules: Iterable[str]) -> tuple[int | None, str, str]:
    """Have a process take the steps from `first` on. Returns its status, None for one that stood still, the last step
    that it has taken and what it has said."""
    journal.write_bytes(bytes(JOURNAL_SIZE))
    process = subprocess.Popen(
        [sys.executable, "-m", "support.misuse", str(journal), str(first), *modules],
        cwd=TESTS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    written, since, said = b"", time.monotonic(), ""
    try:
        while process.returncode is None:
            try:
                said = process.communicate(timeout=0.2)[1]
            except subprocess.TimeoutExpired:
                if (now := journal.read_bytes()) != written:
                    written, since = now, time.monotonic()
                elif time.monotonic() - since > STILL:
                    break
        return process.returncode, journal.read_bytes().rstrip(b"\0").decode(), said
    finally:
        process.kill()
        process.communicate()


def faults(journal: Path, modules: Iterable[str]) -> list[str]:
    """The steps that have ended the process, or that took too long."""
    found: list[str] = []
    first = 0
    while len(found) < ENOUGH:
        status, last, said = take_steps(journal, first, modules)
        if status == 0:
            break
        assert status is None or status < 0, f"{last}\n{said}"  # else it is the program that is at fault
        found.append(f"{'stands still' if status is None else f'signal {-status}'}: {last[16:]}\n{said[-2000:]}")
        first = int(last[:16]) + 1
    return found


@pytest.mark.skipif(not is_compiled(), reason="plain Python can't be made to crash like that")
@pytest.mark.parametrize("part", range(PARTS))
def test_misuse_ends_in_exceptions(part: int, tmp_path: Path) -> None:
    assert faults(tmp_path / "journal", hot_modules()[part::PARTS]) == []


def test_a_fault_would_be_found(tmp_path: Path) -> None:
    """A module that ends the process in one of its functions, and goes on behind it."""
    (tmp_path / "faulty.py").write_text(
        "import os, signal\n"
        "def harmless(it: int) -> None: ...\n"
        "def zealous(it: int) -> None:\n"
        "    if it == 126: os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        patch.setenv("ASAN_OPTIONS", "handle_segv=0", prepend=":")  # in compliance/sanitize it would be a finding
        found = faults(tmp_path / "journal", ["faulty"])
    assert [re.sub(r"\n.*", "", each, flags=re.DOTALL) for each in found] == ["signal 11: faulty: zealous(126)"]
