"""Who may know whom: every import inside flowserve runs downward, those under TYPE_CHECKING and in .pxd files too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "flowserve"

ALL = {"errors", "grammar", "version"}
"""What everyone may know."""

WIRE = {"websocket", "http"}
BELOW_SERVER = {*WIRE, "transport", "session", "asgi", "config", "logs", "metrics", "runtime"}
BELOW_LIBRARY = {*WIRE, "transport", "session", "config", "logs"}
PROCESSES = {"server", "topics", "topics/hub", "runtime", "config", "logs", "metrics"}
BELOW_TOPICS = {"session", "websocket", "transport", "config", "logs", "metrics"}
BACKPLANE = {"topics", "topics/remote", "transport", "logs"}

MAY_KNOW: dict[str, set[str]] = {
    # Ground: values and machines, none of which knows another.
    "errors": set(),
    "grammar": set(),
    "version": set(),
    "websocket": set(),
    "http": set(),
    "transport": set(),
    "logs": set(),
    "metrics": set(),
    # Upward from there.
    "runtime": {"compiled", "logs"},
    "config": {"logs"},
    "wsgi": {"http", "logs"},
    "session": {"websocket", "transport", "config", "metrics"},
    "topics": BELOW_TOPICS,
    "topics/delivery": {"topics", *BELOW_TOPICS},
    "topics/presence": {"topics", "topics/delivery", "logs"},
    "topics/local": {"topics", "transport", "logs"},
    "topics/remote": {"topics", "transport", "logs"},
    "topics/redis": BACKPLANE,
    "topics/nats": BACKPLANE,
    "topics/hub": {
        *("topics", "topics/delivery", "topics/presence", "topics/local", "topics/remote", "topics/redis"),
        *("topics/nats", "config", "logs", "metrics"),
    },
    "topics/subscribers": {"topics", "topics/delivery", "topics/hub", *BELOW_TOPICS},
    "topics/api": {"topics", "topics/delivery", "topics/presence", "topics/hub", "topics/subscribers", "logs"},
    "topics/serving": {"topics", "topics/hub", "topics/subscribers", "topics/api", "logs"},
    "topics/channels": {"topics", "topics/delivery", "topics/hub", "topics/api", "transport", "runtime", "logs"},
    "topics/__init__": {"topics", "topics/presence", "topics/api", "topics/serving", "topics/channels"},
    "asgi": {"session", "wsgi", *WIRE, "transport", "config", "logs", "metrics", "runtime"},
    "server": {*BELOW_SERVER, "topics", "topics/hub"},
    "library": BELOW_LIBRARY,
    "client": {"library", *BELOW_LIBRARY},
    "topics/client": {"client", "library", "topics", "topics/serving", "websocket", "logs"},
    "sync": {"client", "runtime", "library", *BELOW_LIBRARY},
    "hosting": {"library", "server", "asgi", *BELOW_LIBRARY},
    "supervisor": {"compiled", "topics/local", *PROCESSES},
    "gunicorn": PROCESSES,
    "commands": {
        *("client", "library", "websocket", "topics/__init__", "topics/api", "topics/hub", "topics/remote"),
        *("runtime", "config", "metrics"),
    },
    # The ends of the tree. `compiled` chooses before anything is imported, and asks later what was chosen.
    "_build": set(),
    "compiled": {"websocket"},
    "cli": {"compiled", "commands", "supervisor", "runtime", "config", "logs"},
    "_man": {"cli", "config"},
    "__main__": {"cli"},
    "__init__": {"compiled", "supervisor", "hosting", "sync", "client", "library", "server", "asgi", "config", *WIRE},
}

FOREIGN: dict[str, set[str]] = {
    "websocket": {"asyncio", "httptools", "h11", "h2", "asgiref", "uvloop", "click", "socket", "ssl", "logging"},
    "http": {"asyncio", "asgiref", "uvloop", "click", "socket", "ssl", "logging"},
    "session": {"httptools", "asgiref", "uvloop", "click", "socket", "ssl", "signal", "logging"},
    "topics": {"httptools", "asgiref", "uvloop", "click", "signal", "logging"},
    "asgi": {"httptools", "uvloop", "click", "socket", "ssl", "signal"},
    "server": {"click"},
    "errors": {"asyncio", "httptools", "asgiref", "uvloop", "click"},
}
"""What a room, and the rooms in it, must not import from elsewhere."""

ENDING = {"print", "exit", "quit", "sys.exit", "os._exit"}
"""What writes to the terminal, or ends the process."""


def modules() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pxd")])


def test_the_package_is_seen() -> None:
    assert len(modules()) > 100
    rooms = {room(path.relative_to(PACKAGE).with_suffix("").parts) for path in modules()}
    assert rooms == set(MAY_KNOW), "a room without a row, or a row without a room"


def room(names: Sequence[str]) -> str:
    """The room that a module stands in: its folder, or its own name at the top level. A folder in a room that has a row
    is a room of its own, and so is the `__init__` that only hands names on."""
    inner = "/".join((*names, "__init__")[:2])
    return inner if inner in MAY_KNOW else names[0]


def module_file(name: str) -> Path | None:
    """The file of a module of flowserve."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.exists():
            return file
    return None


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that `path` imports, wherever the import stands, with its line."""
    text = path.read_text("utf-8")
    if path.suffix == ".pxd":
        for line, each in enumerate(text.splitlines(), 1):
            if cimport := re.match(r"\s*(?:from\s+([\w.]+)\s+)?cimport\s+([\w.]+)", each):
                yield cimport[1] or cimport[2], line
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            inner = [f"{node.module}.{name.name}" for name in node.names]
            found = [name for name in inner if name.startswith("flowserve.") and module_file(name) is not None]
            yield from ((name, node.lineno) for name in found)
            if len(found) < len(inner):  # something of the module itself
                yield node.module, node.lineno


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward(path: Path) -> None:
    here = room(path.relative_to(PACKAGE).with_suffix("").parts)
    for module, line in imports(path):
        names = module.split(".")
        if names[0] != "flowserve":
            assert names[0] not in FOREIGN.get(here.partition("/")[0], ()), f"{path}:{line}: {here} knows no {names[0]}"
        else:
            there = room(names[1:]) if len(names) > 1 else "__init__"
            assert there == here or there in MAY_KNOW[here] | ALL, f"{path}:{line}: {here} must not know {there}"


def test_no_file_imports_itself_by_way_of_others() -> None:
    known: dict[str, set[str]] = {}
    for path in modules():
        here = str(path.relative_to(PACKAGE).with_suffix(""))
        for module, _ in imports(path):
            file = module_file(module) if module.startswith("flowserve") else None
            if file is not None:
                known.setdefault(here, set()).add(str(file.relative_to(PACKAGE).with_suffix("")))
    for here, there in known.items():
        there.discard(here)  # a .pxd and its module are one
    try:
        TopologicalSorter(known).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_only_the_command_prints_and_exits() -> None:
    for path in PACKAGE.rglob("*.py"):
        if room(path.relative_to(PACKAGE).parts) in ("cli", "__main__.py", "_build.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                allowed = called == "os._exit" and path.stem == "exit"  # where nothing else ends the process
                assert allowed or called not in ENDING, f"{path}:{node.lineno}: {called}"


def test_the_rule_has_no_circles() -> None:
    """What the table allows is a tree of layers, whatever the code makes of it."""
    list(TopologicalSorter(MAY_KNOW).static_order())
