"""What fuzzing runs in: the interpreter that runs the command, with the packages of requirements.txt before its own."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from compliance._servers import CHECKOUT, Progress, ServerFailed
from compliance.performance.environment import run

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def packages(directory: Path, progress: Progress) -> Path:
    """A folder with the packages, made once for an interpreter. Raises ServerFailed."""
    wanted = REQUIREMENTS.read_text() + sys.version
    place = directory / f"packages-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    marker = place / "installed.txt"
    if not marker.exists():
        progress.show("installing the fuzzer and the oracles")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--upgrade"]
        problem = run([*pip, "--target", str(place), "-r", str(REQUIREMENTS)], directory)
        if problem:
            raise ServerFailed(f"{REQUIREMENTS.name} could not be installed: {problem}")
        marker.write_text(wanted)
    return place


def variables(place: Path | None, pure: bool) -> dict[str, str]:
    """The environment of a process that has the packages at `place`, if any, and runs flowserve at one speed."""
    paths = [str(CHECKOUT)] if place is None else [str(CHECKOUT), str(place)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWSERVE_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "FLOWSERVE_PURE": "1" if pure else ""}
