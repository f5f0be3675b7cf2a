"""One target under atheris: `python -m compliance.fuzz.fuzzer TARGET STATE PACKAGES [libFuzzer's arguments]`.

flowserve runs here as plain Python, instrumented; every input goes to the compiled modules as well. What is found is
written to the folder STATE, and the fuzzer goes on: each kind of finding is reported once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import atheris

from compliance._servers import cpu_seconds
from compliance.fuzz.environment import variables
from compliance.fuzz.findings import Broken, Finding, apart

_REPORT_EVERY = 2.0  # seconds
_CPU_CAP = 3.0
"""Seconds of CPU that one input may take, instrumented and in all of its cuts: some hundred times what is usual."""


def choose_instrumented() -> None:
    """Have flowserve imported as plain Python by atheris.

    flowserve's own choice of speed would put its finder before atheris's; so it is made here, ahead.
    """
    package = importlib.util.find_spec("flowserve")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "compiled.py"
    spec = importlib.util.spec_from_file_location("flowserve_compiled", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.choose()
    del os.environ["FLOWSERVE_PURE"]


class Run:
    """What one process of the fuzzer does, and tells in its folder: counts.json, and a file for each finding."""

    def __init__(self, name: str, state: Path, packages: Path) -> None:
        from compliance.fuzz.speeds import Other, outcome
        from compliance.fuzz.targets import load

        self._target = load(name)
        self._outcome = outcome
        self._state = state
        self._other = Other(variables(packages, pure=False))
        self._kinds: set[str] = set()
        self._executions = self._compared = 0
        self._reported = time.monotonic()

    def one(self, data: bytes) -> None:
        """What atheris calls for each input."""
        self._executions += 1
        try:
            self._check(data)
        except Exception as error:
            self._found(data, Finding.of(error))
        if time.monotonic() - self._reported > _REPORT_EVERY:
            self._report()

    def _check(self, data: bytes) -> None:
        began = time.process_time()
        mine = self._outcome(self._target.observe, data)
        if time.process_time() - began > _CPU_CAP:
            raise Broken("an input takes too long")
        if mine[0] == "found":
            self._found(data, Finding(*mine[1]))
        theirs = self._other.differs(self._target.name, data, mine)
        if theirs is not None and theirs[0] == "found" and mine[0] != "found":
            self._found(data, Finding(f"compiled: {theirs[1][0]}", theirs[1][1]))
        elif theirs is not None and mine[0] != "found":
            raise Broken("the compiled modules see something else than the plain ones", *apart(mine, theirs))
        if self._target.compare is not None and mine[0] == "saw":
            self._compared += bool(self._target.compare(data, mine[1]))

    def _found(self, data: bytes, finding: Finding) -> None:
        if finding.kind in self._kinds:
            return
        self._kinds.add(finding.kind)
        name = hashlib.sha1(finding.kind.encode(errors="replace"), usedforsecurity=False).hexdigest()[:12]
        entry = {"kind": finding.kind, "text": finding.text, "input": data.hex()}
        (self._state / f"finding-{name}.json").write_text(json.dumps(entry, indent=1))

    def _report(self) -> None:
        self._reported = time.monotonic()
        pid = self._other.pid
        cpu = time.process_time() + (cpu_seconds(pid) if pid is not None else 0.0)
        counts: dict[str, Any] = {"executions": self._executions, "cpu": cpu, "compared": self._compared}
        temporary = self._state / "counts.tmp"
        temporary.write_text(json.dumps(counts))
        temporary.replace(self._state / "counts.json")


def main() -> None:
    name, state, packages = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    choose_instrumented()
    with atheris.instrument_imports(include=["flowserve"]):
        import flowserve  # noqa: F401  (with all its modules)

        run = Run(name, state, packages)
    atheris.Setup([sys.argv[0], *sys.argv[4:]], run.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
