"""A slice: one process of the fuzzer for some seconds, and what it tells of itself when it has ended."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from compliance._servers import ServerFailed
from compliance.fuzz.environment import variables
from compliance.fuzz.findings import Finding
from compliance.fuzz.targets import load

_LONGEST_INPUT = 300  # seconds, before the fuzzer calls it a hang: of the wall clock, on a machine that may be busy
_MEMORY = 2048  # MiB
_GRACE = 600.0  # seconds for start and end, on a machine that has other things to do
_STUCK = 1000
"""Stands for the exit status of a fuzzer that had none."""
_STATUS = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


@dataclass
class Slice:
    """`cpu` in seconds, of the fuzzer and the process at the other speed; `edges`, `features` and `inputs` as libFuzzer
    counts them; `compared` are the executions that other implementations had something to say about."""

    name: str
    executions: int = 0
    cpu: float = 0.0
    compared: int = 0
    edges: int = 0
    features: int = 0
    inputs: int = 0
    findings: list[tuple[Finding, bytes]] = field(default_factory=list)


_running: set[subprocess.Popen[bytes]] = set()


def end_running() -> None:
    """End the slices that run in other threads."""
    for process in list(_running):
        process.kill()


def run(name: str, seconds: float, inputs: Path, packages: Path) -> Slice:
    """Fuzz a target; `inputs` is the folder of its growing corpus. Raises ServerFailed if the fuzzer does not run."""
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as folder:
        state, log = Path(folder), Path(folder) / "log"
        command = [
            *(sys.executable, "-m", "compliance.fuzz.fuzzer", name, str(state), str(packages), str(inputs)),
            *(f"-max_total_time={max(1, round(seconds))}", f"-max_len={load(name).max_len}"),
            *(f"-timeout={_LONGEST_INPUT}", f"-rss_limit_mb={_MEMORY}", f"-artifact_prefix={state}/"),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=variables(packages, pure=True)
            )
            _running.add(process)
            try:
                status = process.wait(seconds + _GRACE)
            except subprocess.TimeoutExpired:
                status = _STUCK
            finally:
                process.kill()
                process.wait()
                _running.discard(process)
        return _told(name, state, log.read_text(errors="replace"), status)


def _told(name: str, state: Path, log: str, status: int) -> Slice:
    found = Slice(name)
    counts = state / "counts.json"
    if counts.exists():
        told = json.loads(counts.read_text())
        found.executions, found.cpu, found.compared = told["executions"], told["cpu"], told["compared"]
    if seen := _STATUS.findall(log):
        found.edges, found.features, found.inputs = map(int, seen[-1])
    for path in sorted(state.glob("finding-*.json")):
        entry = json.loads(path.read_text())
        found.findings.append((Finding(entry["kind"], entry["text"]), bytes.fromhex(entry["input"])))
    for path in sorted(each for kind in ("crash", "timeout", "oom", "leak") for each in state.glob(f"{kind}-*")):
        tail = "\n".join(log.splitlines()[-30:])
        found.findings.append((Finding(f"{path.name.partition('-')[0]} of the plain code", tail), path.read_bytes()))
    if status == _STUCK:
        found.findings.append((Finding("the fuzzer does not come to its end", "\n".join(log.splitlines()[-5:])), b""))
    if status and not found.findings:
        tail = "\n".join(log.splitlines()[-15:])
        raise ServerFailed(f"{name}: the fuzzer ended with status {status}\n{tail}")
    return found
