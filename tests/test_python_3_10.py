"""What the oldest Python that is supported would show, for those who test with a later one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "flowserve"


def caught(node: ast.Try | ast.With | ast.AsyncWith) -> list[ast.expr]:
    """What a statement catches."""
    if isinstance(node, ast.Try):
        return [handler.type for handler in node.handlers if handler.type is not None]
    calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
    return [each for call in calls if ast.unparse(call.func) == "suppress" for each in call.args]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_timeouts_of_asyncio_are_caught_by_its_name(path: Path) -> None:
    """Up to Python 3.10, what `wait_for()` raises is no TimeoutError."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.Try, ast.With, ast.AsyncWith)):
            waits = any("asyncio.wait_for(" in ast.unparse(each) for each in node.body)
            names = {ast.unparse(name) for each in caught(node) for name in getattr(each, "elts", [each])}
            assert not waits or "TimeoutError" not in names, f"{path}:{node.lineno}"
