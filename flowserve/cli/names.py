"""The names in a Python file that may be ASGI applications, found by reading the file, without importing it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

APPLICATION_NAMES = ("app", "application")
"""What an application is called, the usual name first."""
FACTORY_NAMES = ("create_app", "make_app")
"""What a function that makes the application is called."""

INSTANCE, FACTORY, OTHER = "instance", "factory", "other"
"""What a name stands for: an ASGI application for certain; a function without required arguments; anything that may be
one or the other."""

_CONSTRUCTORS = frozenset(
    ("ASGIApp", "FastAPI", "FastHTML", "Litestar", "ProtocolTypeRouter", "Quart", "Starlette", "get_asgi_application")
)
"""What returns an ASGI application when it is called, by its last name."""
_ASGI_ARGUMENTS = ["scope", "receive", "send"]
_LARGEST = 1 << 20
"""Bytes of a file to read; more is data, not an application."""

Names = Mapping[str, str]
"""The names that a module defines, in the order of the file, each with what it stands for."""


def read_names(path: Path) -> Names:
    """Return what the Python file defines at its top level. Raises OSError, and SyntaxError or ValueError for a file
    that is not Python."""
    with path.open("rb") as file:
        source = file.read(_LARGEST + 1)
    if len(source) > _LARGEST:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python shows what it warns of when the file is imported
        tree = ast.parse(source, str(path))
    statements = list(_top_level(tree.body))
    classes = {each.name for each in statements if isinstance(each, ast.ClassDef) and _makes_applications(each)}
    names: dict[str, str] = {}
    for statement in statements:
        for name, meaning in _defined(statement, _CONSTRUCTORS | classes):
            if names.get(name) != INSTANCE:  # one that is wrapped later remains one
                names[name] = meaning
    return names


def choose(names: Names, factory: bool | None = None) -> list[str]:
    """Return the names that may be meant when none is given: one name if it is clear which, several if it is not.

    The usual names come first: `APPLICATION_NAMES`, then `FACTORY_NAMES`, then the only application. `factory` is
    whether the user wants a function that makes the application; None: either.
    """
    usual = FACTORY_NAMES + APPLICATION_NAMES if factory else APPLICATION_NAMES + FACTORY_NAMES
    for name in usual:
        meaning = names.get(name)
        if meaning is None or (factory is False and name in FACTORY_NAMES) or (factory and meaning == INSTANCE):
            continue
        return [name]
    return [name for name, meaning in names.items() if meaning == INSTANCE] if not factory else []


def is_factory(name: str, names: Names) -> bool:
    """Whether the name that `choose()` has returned is that of a function to call."""
    return names[name] == FACTORY or (name in FACTORY_NAMES and names[name] != INSTANCE)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, also those under `if`, `try`, `with` and loops."""
    for statement in body:
        yield statement
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not _is_main(statement):
            for field in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(statement, field, []))
            for part in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
                yield from _top_level(part.body)


def _is_main(statement: ast.stmt) -> bool:
    """Whether it is `if __name__ == "__main__":`, whose names are there only when the file is run itself."""
    return isinstance(statement, ast.If) and "__name__" in ast.dump(statement.test)


def _defined(statement: ast.stmt, constructors: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield the names that a statement defines, with what they stand for."""
    match statement:
        case ast.FunctionDef(name=name):
            if _needs_nothing(statement) or name not in FACTORY_NAMES:  # one that takes arguments can't be called
                yield name, INSTANCE if _is_application(statement) else FACTORY if _needs_nothing(statement) else OTHER
        case ast.AsyncFunctionDef(name=name):
            if _is_application(statement):  # another coroutine function is no factory either
                yield name, INSTANCE
        case ast.ClassDef(name=name):
            yield name, OTHER
        case ast.ImportFrom(module=str(), names=aliases):  # `from . import app` is a module
            yield from ((alias.asname or alias.name, OTHER) for alias in aliases)
        case ast.Assign(targets=targets, value=value):
            meaning = INSTANCE if _last_name(value) in constructors else OTHER
            for target in targets:
                yield from ((name, meaning) for name in _target_names(target))
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value) if value is not None:
            known = _last_name(value) in constructors or _last_name(annotation) in constructors
            yield name, INSTANCE if known else OTHER
        case _:
            pass


def _target_names(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, (ast.Tuple, ast.List)):
        for each in target.elts:
            yield from _target_names(each)


def _last_name(value: ast.expr) -> str:
    """Return FastAPI for `FastAPI`, `fastapi.FastAPI` and a call of these; "" for anything else."""
    if isinstance(value, ast.Call):
        value = value.func
    if isinstance(value, ast.Constant) and isinstance(value.value, str):  # an annotation in quotes
        return value.value.rpartition(".")[2]
    return value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""


def _makes_applications(node: ast.ClassDef) -> bool:
    """Whether instances of a class are ASGI applications: by what it is derived from, or by its `__call__()`."""
    if any(_last_name(base) in _CONSTRUCTORS for base in node.bases):
        return True
    methods = (each for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return any(each.name == "__call__" and _arguments(each)[1:] == _ASGI_ARGUMENTS for each in methods)


def _is_application(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return _arguments(node) == _ASGI_ARGUMENTS


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [each.arg for each in (*node.args.posonlyargs, *node.args.args)]


def _needs_nothing(node: ast.FunctionDef) -> bool:
    given = node.args
    required = len(given.posonlyargs) + len(given.args) - len(given.defaults)
    return required <= 0 and all(default is not None for default in given.kw_defaults)
