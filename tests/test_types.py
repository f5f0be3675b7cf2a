"""Type checkers know the options: mypy --strict and pyright accept what is right, in the programs of the pages too, and
refuse what is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.documents import ROOT, blocks, pages, read

SAMPLES = Path(__file__).parent / "types"
CHECKERS = ("mypy", "basedpyright")

Complaints = Mapping[str, list[tuple[int, str]]]
"""Line and message of each complaint, by the names of files."""


def programs() -> dict[str, str]:
    """The code blocks of all pages that are programs, by names for their files; the others are parts of one."""
    found = {}
    for page in pages():
        for number, block in enumerate(blocks(read(page), "python")):
            if re.search(r"^(import|from) flowserve", block, re.MULTILINE):
                found[re.sub(r"\W", "_", f"{page}_{number}") + ".py"] = block
    return found


@pytest.fixture(scope="module", params=CHECKERS)
def complaints(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Complaints:
    """What the checker says about all programs and samples, checked at once."""
    folder = tmp_path_factory.mktemp("types")
    for name, program in programs().items():
        (folder / name).write_text(program, "utf-8")
    for sample in SAMPLES.glob("*.py"):
        shutil.copy(sample, folder)
    if request.param == "mypy":
        return run_mypy(folder, request.config.cache.mkdir("mypy"))  # what it knows of the package from the run before
    return run_pyright(folder)


def run_mypy(folder: Path, cache: Path) -> Complaints:
    options = ["--strict", "--output=json", "--follow-imports=silent", f"--cache-dir={cache}"]
    command = [sys.executable, "-m", "mypy", *options, "."]
    said = subprocess.run(
        command, cwd=folder, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert not said.stderr
    found: dict[str, list[tuple[int, str]]] = {}
    for line in map(json.loads, said.stdout.splitlines()):
        found.setdefault(Path(line["file"]).name, []).append((line["line"], line["message"]))
    return found


def run_pyright(folder: Path) -> Complaints:
    options = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(options))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    found: dict[str, list[tuple[int, str]]] = {}
    for each in json.loads(said.stdout)["generalDiagnostics"]:
        found.setdefault(Path(each["file"]).name, []).append((each["range"]["start"]["line"] + 1, each["message"]))
    return found


def test_there_are_programs():
    assert len(programs()) > 5


@pytest.mark.parametrize("name", programs())
def test_programs_of_the_pages(name: str, complaints: Complaints) -> None:
    assert complaints.get(name, []) == []


def test_right_uses(complaints: Complaints) -> None:
    assert complaints.get("right.py", []) == []


def test_wrong_uses(complaints: Complaints) -> None:
    lines = (SAMPLES / "wrong.py").read_text("utf-8").splitlines()
    wrong = {number: line.split("  # ")[1] for number, line in enumerate(lines, 1) if "  # " in line}
    assert len(wrong) > 20
    said: dict[int, str] = {}
    for line, message in complaints["wrong.py"]:
        said[line] = said.get(line, "") + message
    assert set(said) == set(wrong)
    assert {line: word for line, word in wrong.items() if word not in said[line]} == {}
