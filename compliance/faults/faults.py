"""All faults, by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from compliance.faults.rig import Rig


class Fault(NamedTuple):
    """`run(rig)` returns what was seen; raises Broken, with the same, where that is not what was promised."""

    name: str
    promise: str
    run: Callable[[Rig], str]
    both_loops: bool
    quick: bool


FAULTS: list[Fault] = []


def fault(promise: str, both_loops: bool = False, quick: bool = True) -> Callable[[Callable[[Rig], str]], object]:
    """List a function whose docstring's first line says what breaks."""

    def add(run: Callable[[Rig], str]) -> Callable[[Rig], str]:
        assert run.__doc__ is not None
        FAULTS.append(Fault(run.__doc__.splitlines()[0].rstrip("."), promise, run, both_loops, quick))
        return run

    return add
