"""flowserve/README.md names files, classes and functions that are there, and the imports that test_layers.py allows."""

from __future__ import annotations

import ast
import re

import pytest
import test_layers
from support.documents import ROOT, read

PAGE = read("flowserve/README.md")
PACKAGE = ROOT / "flowserve"


def names_of(text: str) -> set[str]:
    """The classes and functions of a module, methods and attributes with their class."""
    found = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            for each in node.body:
                if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    found |= {f"{node.name}.{each.name}", each.name}
                elif isinstance(each, ast.Assign):
                    found |= {f"{node.name}.{ast.unparse(target)}" for target in each.targets}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
    return found


NAMES = set[str]().union(*(names_of(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")))
METHODS = {"Session.take", "Session.wait", "H1Connection.start_response", "Connection.get_buffer"}
"""What a class has of one below it."""


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.py)`", PAGE))))
def test_its_files_are_there(path: str) -> None:
    assert (PACKAGE / path).exists() or (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(?:[a-z_]+\.)*([A-Za-z_0-9]+(?:\.[a-z_]+)?)\(", PAGE))))
def test_its_functions_are_there(name: str) -> None:
    assert name in NAMES or name in METHODS


def test_its_rooms_are_all() -> None:
    (table,) = re.findall(r"\| room \| what it holds \|\n(.*?)\n\n", PAGE, re.S)
    rooms = {name.rstrip("/") for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert rooms == {name for name in test_layers.MAY_KNOW if not name.endswith(("__init__", "__main__"))}
