"""Files and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "flowserve"

MOST_OF_FILE = 400
MOST_OF_FUNCTION = 40
"""Lines, from `def` to the last one, without the docstring."""


def functions(tree: ast.Module) -> Iterator[tuple[str, int, int]]:
    """The name of every function, the line where it begins, and its number of lines."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, lines(node) - (0 if ast.get_docstring(node) is None else lines(node.body[0]))


def lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_file_is_too_long() -> None:
    sizes = {path: len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert len(sizes) > 100
    assert {str(path): size for path, size in sizes.items() if size > MOST_OF_FILE} == {}


def test_no_function_is_too_long() -> None:
    sizes = {
        f"{path}:{line}: {name}": size
        for path in PACKAGE.rglob("*.py")
        for name, line, size in functions(ast.parse(path.read_text("utf-8")))
    }
    assert len(sizes) > 1000
    assert {name: size for name, size in sizes.items() if size > MOST_OF_FUNCTION} == {}
