"""Who may know whom: every import inside flowserve runs downward, those under TYPE_CHECKING too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "flowserve"

LEAVES = {
    "app_errors",
    "application",
    "config",
    "compression",
    "context",
    "errors",
    "exits",
    "flow",
    "landing",
    "logs",
    "loops",
    "metrics",
    "options",
    "places",
    "redaction",
    "sealed",
    "stream",
    "timers",
    "timeslice",
    "version",
    "waiters",
    "loader",
}

MAY_KNOW: dict[str, set[str]] = {
    # Build time, and the two ends of the tree.
    "_build": set(),
    "__init__": {
        "config",
        "context",
        "errors",
        "http",
        "server",
        "library",
        "serving",
        "compiled",
        "supervisor",
        "version",
        "topics",
        "websocket",
    },
    "__main__": {"cli"},
    # The leaves: each with the few others that it may stand on.
    "errors": set(),
    "failures": {"errors"},
    "stream": set(),
    "outbox": set(),
    "waiters": set(),
    "flow": {"landing", "stream", "errors", "waiters"},
    "landing": {"stream"},
    "timers": set(),
    "timeslice": {"websocket"},
    "version": set(),
    "sealed": set(),
    "redaction": set(),
    "compact": set(),
    "metrics": {"version"},
    "accesslog": set(),
    "config": {"errors", "options", "places", "redaction", "sealed"},
    "options": {"accesslog", "errors"},
    "compression": {"config", "websocket"},
    "places": {"options"},
    "slowsends": {"errors"},
    "log_pipe": set(),
    "logs": {"accesslog", "config", "errors", "log_pipe", "redaction"},
    "loops": {"app_errors", "errors", "logs"},
    "exits": {"logs"},
    "configfile": {"config", "errors", "options"},
    "exposure": {"config", "configfile", "places"},
    "loader": {"asgi", "config", "errors"},
    "app_errors": {"errors", "logs"},
    "application": {"app_errors", "errors"},
    "context": {"application", "config", "logs", "metrics", "redaction", "timers", "timeslice"},
    # The wire: values and state machines, no asyncio and not each other.
    "websocket": {"errors"},
    "http": {"errors"},
    # Upward from there.
    "writer": {"outbox", "stream", "websocket"},
    "patience": {"config", "stream", "websocket", "writer"},
    "receiving": {"context", "stream", "waiters", "websocket", "writer"},
    "sending": {"context", "errors", "patience", "receiving", "slowsends", "stream", "websocket"},
    "session": {"config", "context", "logs", "metrics", "patience", "sending", "stream", "timers", "websocket"},
    "metered": {"context", "metrics", "session", "stream", "websocket"},
    "asgi": {
        *("compact", "config", "context", "errors", "http", "logs", "metrics", "outbox", "session", "stream", "timers"),
        *("app_errors", "application", "waiters", "websocket"),
    },
    "server": {"asgi", "http", "metered", "outbox", "session", "websocket", *LEAVES},
    "library": {"http", "outbox", "session", "websocket", *LEAVES} - {"loader"},
    "serving": {"asgi", "http", "library", "server", "websocket", *LEAVES},
    "topics": {"session", *LEAVES} - {"loader"},
    "supervisor": {"failures", "server", *LEAVES},
    "gunicorn": {"configfile", "failures", "server", *LEAVES},
    # Chooses between compiled and pure before anything is imported, and asks the hot modules later which they are.
    "compiled": {"asgi", "library", "session", "websocket"},
    "top": {"errors", "metrics"},
    "cli": {"configfile", "exposure", "failures", "server", "compiled", "supervisor", *LEAVES},
    "target": {"library", *LEAVES},
    "talk": {"library", "target", "websocket", *LEAVES},
    "bench": {"library", "target", *LEAVES},
}

FOREIGN: dict[str, set[str]] = {
    "websocket": {"asyncio", "httptools", "h11", "h2", "asgiref", "uvloop", "click", "socket", "ssl", "logging"},
    "http": {"asyncio", "asgiref", "uvloop", "click", "socket", "ssl", "logging"},
    "session": {"httptools", "asgiref", "uvloop", "click", "socket", "ssl", "signal"},
    "asgi": {"httptools", "uvloop", "click", "socket", "ssl", "signal"},
    "server": {"click"},
    "errors": {"asyncio", "httptools", "asgiref", "uvloop", "click"},
}
"""What a room must not import from elsewhere."""


ENDS = {"print", "exit", "quit", "sys.exit", "os._exit"}


def modules() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pxd")])


def test_the_package_is_seen() -> None:
    assert len(modules()) > 20


def room(path: Path) -> str:
    """The room that a module stands in: its folder, or its own name at the top level."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that `path` imports, wherever the import stands, with its line."""
    if path.suffix == ".pxd":
        for line, text in enumerate(path.read_text("utf-8").splitlines(), 1):
            if cimport := re.match(r"\s*(?:from\s+([\w.]+)\s+)?cimport\s+([\w.]+)", text):
                yield cimport[1] or cimport[2], line
        return
    package = ("flowserve", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield module, node.lineno
            for name in node.names:
                inner = PACKAGE.parent.joinpath(*module.split("."), name.name)
                if inner.is_dir() or inner.with_suffix(".py").exists():
                    yield f"{module}.{name.name}", node.lineno


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward(path: Path) -> None:
    here = room(path)
    assert here in MAY_KNOW, f"a new room {here!r}: say here whom it may know"
    for module, line in imports(path):
        names = module.split(".")
        if names[0] != "flowserve":
            assert names[0] not in FOREIGN.get(here, ()), f"{path}:{line}: {here} knows no {names[0]}"
        elif len(names) > 1:
            assert names[1] == here or names[1] in MAY_KNOW[here], f"{path}:{line}: {here} must not know {names[1]}"
        elif here not in ("cli", "__main__"):
            assert path.name == "__init__.py" or names == ["flowserve"], f"{path}:{line}: {module}"


def test_only_the_command_prints_and_exits() -> None:
    for path in PACKAGE.rglob("*.py"):
        if room(path) in ("cli", "__main__", "_build"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                allowed = called == "os._exit" and room(path) == "exits"  # where nothing else ends the process
                assert allowed or called not in ENDS, f"{path}:{node.lineno}: {called}"


def test_the_rule_has_no_circles() -> None:
    """What the table allows is a tree of layers, whatever the code makes of it."""
    below: dict[str, set[str]] = {}

    def reach(name: str, path: tuple[str, ...]) -> set[str]:
        assert name not in path, " -> ".join((*path, name))
        if name not in below:
            known = MAY_KNOW.get(name, set())
            below[name] = known.union(*(reach(each, (*path, name)) for each in known))
        return below[name]

    for name in MAY_KNOW:
        reach(name, ())
    assert not below["websocket"] & {"http", "session", "asgi", "server"}
    assert not below["http"] & {"websocket", "session", "asgi", "server"}
    for name in ("session", "library", "topics"):
        assert not below[name] & {"asgi", "server"}
