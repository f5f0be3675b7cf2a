"""The few inputs of a growing corpus that cover more than those in the repository do.

`python -m compliance.fuzz.minimize TARGET FOLDER` adds them. The measure are steps from line to line in flowserve's
files, and what a target sees.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from compliance.fuzz import corpus
from compliance.fuzz.speeds import outcome
from compliance.fuzz.targets import load

_MOST_TEXT = 20_000
"""Characters of one file in the repository."""
_LONGEST = 1500
"""Bytes of an input that is kept."""

Arc = tuple[CodeType | str, int, int]


def covered(observe: Callable[[bytes], Any], data: bytes) -> set[Arc]:
    """The steps from line to line of flowserve's code that an input takes."""
    arcs: set[Arc] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event == "call" and "/flowserve/" in frame.f_code.co_filename:
            return local(frame)
        return None

    def local(frame: FrameType) -> Any:
        code, before = frame.f_code, 0

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            if event == "line":
                arcs.add((code, before, frame.f_lineno))
                before = frame.f_lineno
            return line

        return line

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        seen = outcome(observe, data)
    finally:
        sys.settrace(before)
    return arcs | {(_shape(seen), 0, 0)}


def _shape(seen: Any) -> str:
    """What a target saw, without the values: its errors, and how many there are of what."""
    if isinstance(seen, str):
        return seen if len(seen) < 60 and " " in seen and seen.isascii() else "text"  # an error, or a value
    if isinstance(seen, (list, tuple)):
        return f"[{min(len(seen), 4)}" + ",".join(map(_shape, seen[:4])) + "]"
    if isinstance(seen, dict):
        return ",".join(f"{key}:{_shape(value)}" for key, value in seen.items())
    return type(seen).__name__ if not isinstance(seen, bool) else str(seen)


def added(observe: Callable[[bytes], Any], kept: list[bytes], inputs: list[bytes]) -> list[bytes]:
    """Of `inputs`, the short ones first, those that cover what neither the ones before nor `kept` do, as far as there
    is room."""
    known: set[Arc] = set()
    for data in kept:
        known |= covered(observe, data)
    found, room = [], _MOST_TEXT - sum(len(repr(data)) + 1 for data in kept)
    for data in sorted(inputs, key=lambda each: (len(each), each)):
        if len(data) > _LONGEST or len(repr(data)) >= room:
            continue
        new = covered(observe, data) - known
        if not new or (room < _MOST_TEXT // 3 and all(isinstance(arc[0], str) for arc in new)):
            continue  # the last third of the room is for code that was not run yet
        known |= new
        found.append(data)
        room -= len(repr(data)) + 1
    return found


def main() -> None:
    target, folder = load(sys.argv[1]), Path(sys.argv[2])
    path = corpus.CORPUS / f"{target.name}.txt"
    kept = corpus.read(path)
    inputs = [each.read_bytes() for each in folder.iterdir()]
    found = added(target.observe, kept, inputs)
    corpus.write(path, {*kept, *found})
    print(f"{target.name}: {len(kept)} inputs, and {len(found)} of {len(inputs)}", flush=True)


if __name__ == "__main__":
    main()
