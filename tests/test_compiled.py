"""The compiled modules: which there are, and that their .pxd files say what their Python files have."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import pytest

from flowserve.compiled import hot_modules

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

ROOT = Path(__file__).parent.parent
HOT = hot_modules()


class Declared(NamedTuple):
    """A function as a .pxd file has it."""

    name: str
    """With its class, as Session.close."""
    typed: list[str]
    """The names that @cython.locals gives types to."""


def declarations(pxd: str) -> Iterator[Declared]:
    owner, typed = "", []
    for line in pxd.splitlines():
        if found := re.match(r"(?:cdef|cpdef) class (\w+)", line):
            owner = found[1] + "."
        elif re.match(r"\S", line) and not line.startswith("@"):
            owner = ""
        if found := re.match(r"\s*@cython\.locals\((.*)\)", line):
            typed = re.findall(r"(\w+)=", found[1])
        elif found := re.match(r"\s*(?:cdef|cpdef)\s(?!class )[^()=]*?(\w+)\(", line):
            yield Declared(owner + found[1], typed)
            typed = []


def functions(code: CodeType, owner: str = "") -> Iterator[tuple[str, set[str]]]:
    """The functions of a module, methods with their class, and the names of their locals."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield owner + each.co_name, {*each.co_varnames, *each.co_cellvars}
            yield from functions(each, each.co_name + ".")


def python_functions(module: str) -> dict[str, set[str]]:
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    found: dict[str, set[str]] = {}
    for name, names in functions(compile(path.read_text("utf-8"), str(path), "exec")):
        found.setdefault(name, set()).update(names)
    return found


def test_what_is_compiled_is_what_has_a_pxd() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        extensions = tomllib.load(file)["tool"]["setuptools"]["ext-modules"]
    [shared] = [each for each in extensions if each["name"] == "flowserve._cyutility"]
    assert "optional" not in shared  # no other one can be imported without it
    extensions.remove(shared)
    assert sorted(each["name"] for each in extensions) == HOT
    for each in extensions:
        assert each["sources"] == [each["name"].replace(".", "/") + ".py"]
        assert each["optional"] is True


def test_levels_are_of_modules_that_are_there() -> None:
    levels = re.findall(r'^ {4,}"(flowserve\.[a-z0-9_.]+)"', (ROOT / "flowserve" / "_build.py").read_text(), re.M)
    assert "flowserve.websocket.payload" in levels
    assert len(set(levels)) == len(levels)
    assert set(levels) <= set(HOT)


@pytest.mark.parametrize("module", HOT)
def test_declarations_are_of_functions_that_are_there(module: str) -> None:
    """A name that has lost its function or its local silently costs what its type was to save."""
    pxd = ROOT.joinpath(*module.split(".")).with_suffix(".pxd").read_text("utf-8")
    there = python_functions(module)
    for declared in declarations(re.sub(r'cdef extern from \*:\n    """.*?"""\n(?:    .*\n|\n)*', "", pxd, flags=re.S)):
        assert declared.name in there, f"no function {declared.name}"
        missing = set(declared.typed) - there[declared.name]
        assert not missing, f"{declared.name} has no local {', '.join(sorted(missing))}"


def test_a_lost_local_would_be_found() -> None:
    pxd = 'cdef class A:\n    @cython.locals(a=int, b="long long")\n    cpdef bint f(self, double now) except -1\n'
    assert list(declarations(pxd)) == [Declared("A.f", ["a", "b"])]
    code = compile("class A:\n    def f(self, now):\n        a = [b for b in now]\n", "", "exec")
    assert dict(functions(code))["A.f"] >= {"self", "now", "a"}


def test_who_asks_for_the_speed_imports_no_clients_of_stores() -> None:
    program = (
        "import sys; from flowserve.compiled import is_compiled; is_compiled();"
        "print(sorted({'hiredis', 'redis', 'nats'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
