"""Inputs that are kept: a text file a target, a Python bytes literal a line, so that a person can read and review them.

`corpus/` has the few that cover a target (`--minimize` adds to them), `failed/` every input that ever found something.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS, FAILED = HERE / "corpus", HERE / "failed"


def read(path: Path) -> list[bytes]:
    """The inputs of a file, none if it is not there; lines that begin with # are for people."""
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return [ast.literal_eval(line) for line in lines if line and not line.startswith("#")]


def committed(name: str) -> list[bytes]:
    """All inputs of a target that are in the repository."""
    return list(dict.fromkeys([*read(FAILED / f"{name}.txt"), *read(CORPUS / f"{name}.txt")]))


def write(path: Path, inputs: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{each!r}\n" for each in sorted(inputs, key=lambda each: (len(each), each))))


def add_failed(name: str, data: bytes, kind: str) -> bool:
    """Keep an input that found something; False if it is there already."""
    path = FAILED / f"{name}.txt"
    if data in read(path):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"# {kind.encode('ascii', 'backslashreplace').decode()}\n{data!r}\n")
    return True


def seed(directory: Path, inputs: Iterable[bytes]) -> None:
    """Put inputs, each a file, where the fuzzer keeps its own."""
    directory.mkdir(parents=True, exist_ok=True)
    for each in inputs:
        path = directory / hashlib.sha1(each, usedforsecurity=False).hexdigest()
        if not path.exists():
            path.write_bytes(each)
