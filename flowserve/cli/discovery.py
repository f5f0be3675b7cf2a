"""Finds the application that `flowserve main.py`, `flowserve main` or `flowserve` alone mean.

Files are read, not imported: the process that supervises workers never imports the application, and a Tab key must not
either. What is found is a module, an attribute and the folder to import from, which is all that a worker needs.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from flowserve.cli.names import APPLICATION_NAMES, FACTORY_NAMES, INSTANCE, Names, choose, is_factory, read_names
from flowserve.errors import ConfigError

_FILES = ("main.py", "app.py", "api.py", "asgi.py")
"""Where an application is looked for, in this order; in packages in __init__.py first."""
_PACKAGE = "app"
"""The folder that is looked into before others, and also if it is no package."""
_SOURCES = "src"
"""The folder that is looked into if there is nothing beside it."""
_MANAGE = "manage.py"
_SETTINGS = "DJANGO_SETTINGS_MODULE"
_NO_APPLICATIONS = frozenset(("conftest.py", "docs", "manage.py", "setup.py", "test", "tests"))
_MOST_FILES = 200
"""Files that `applications_below()` reads."""


class Found(NamedTuple):
    """An application that was found."""

    app: str
    """Where it is, as module:attribute."""
    app_dir: str
    """The folder to import the module from; "" for the current one."""
    factory: bool
    """Whether the attribute is a function that makes the application."""
    file: str
    """The file in which it is."""

    def __str__(self) -> str:
        return f"{self.app}{'()' if self.factory else ''} from {self.file}"


def find_application(app: str | None, app_dir: str | None = None, factory: bool | None = None) -> Found | None:
    """Find the application that a user means by `app`: a file, with or without :attribute, a folder, a module, or
    nothing (None). Return None for module:attribute, which is complete.

    `app_dir` and `factory` are what the user says with --app-dir and --[no-]factory, None if nothing. Raises
    ConfigError, which says what was looked for, if nothing or more than one application is found.
    """
    base = app_dir or ""
    if app is None:
        return _search(Path(base), app_dir, factory)
    path, attribute = _existing(app, base), ""
    if path is None and ":" in app:
        name, _, attribute = app.rpartition(":")
        path = _existing(name, base) if name.endswith(".py") else None
        if path is None:
            return None
    if path is not None and attribute:
        module, folder = _importable(path, app_dir)
        return Found(f"{module}:{attribute}", folder, bool(factory), _shown(path))
    if path is not None:
        return _look_at(path, app_dir, factory)
    path = _find_module(app, base) or (Path(base, app) if Path(base, app).is_dir() else None)
    if path is None:
        raise ConfigError(_missing(app, base))
    found = _look_at(path, base if path.is_file() else app_dir, factory)
    is_installed = Path(os.path.abspath(base)) not in Path(os.path.abspath(path)).parents
    return found._replace(app_dir=base) if is_installed else found


def applications_in(path: Path) -> list[str]:
    """Return the names in a file that may be its application, none if it can't be read; for completion."""
    try:
        names = read_names(path)
    except (OSError, SyntaxError, ValueError):
        return []
    return list(dict.fromkeys([*choose(names), *(name for name, meaning in names.items() if meaning == INSTANCE)]))


def applications_below(folder: Path) -> Iterator[str]:
    """Yield the applications in a folder and its packages as module:attribute; for completion."""
    for path in islice(_python_files(folder), _MOST_FILES):
        module, _ = _importable(path, str(folder))
        yield from (f"{module}:{name}" for name in applications_in(path))


def module_file(name: str, app_dir: str) -> Path | None:
    """Return the Python file of a module, None if there is none."""
    path = _find_module(name, app_dir)
    return path if path is not None and path.is_file() else None


# Where to look


def _search(folder: Path, app_dir: str | None, factory: bool | None) -> Found:
    """Return the application in a folder: the first one in the usual files, or else the only one in its packages."""
    looked: list[Path] = []
    for path in _usual_files(folder):
        looked.append(path)
        if found := _look(path, app_dir, factory):
            return found
    others = []
    for package in _packages(folder):
        paths = [path for path in _in_package(package) if path.is_file() and path not in looked]
        looked += paths
        others += [found for path in paths if (found := _look(path, app_dir, factory))][:1]
    if len(others) > 1:
        raise ConfigError(
            f"{_several([str(each.app) for each in others])}, in the packages of {os.path.abspath(folder)}"
        )
    if others:
        return others[0]
    if app_dir is None and (folder / _SOURCES).is_dir():
        return _search(folder / _SOURCES, app_dir, factory)
    raise ConfigError(_nothing(folder, looked, factory))


def _usual_files(folder: Path) -> Iterator[Path]:
    """Yield the files to look into before the packages."""
    names = (folder / "__init__.py", *(folder / name for name in _FILES), *_django(folder))
    yield from (path for path in names if path.is_file())
    yield from (path for path in _in_package(folder / _PACKAGE) if path.is_file())


def _in_package(package: Path) -> list[Path]:
    return [package / "__init__.py", *(package / name for name in _FILES)]


def _packages(folder: Path) -> list[Path]:
    """Return the packages in a folder, without tests."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [each for each in entries if each.name not in _NO_APPLICATIONS and (each / "__init__.py").is_file()]


def _python_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files in a folder and its packages, without tests, those in the folder itself first."""
    try:
        paths = sorted(folder.glob("*.py"))
    except OSError:
        return
    yield from (path for path in paths if path.name not in _NO_APPLICATIONS and not path.name.startswith("test_"))
    for package in _packages(folder):
        yield from _python_files(package)


def _django(folder: Path) -> Iterator[Path]:
    """Yield where a Django project has its application: beside the settings that manage.py names."""
    try:
        tree = ast.parse((folder / _MANAGE).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) == 2:
            name, value = (each.value if isinstance(each, ast.Constant) else None for each in node.args)
            if name == _SETTINGS and isinstance(value, str):
                parts = value.split(".")[:-1]
                yield from (folder.joinpath(*parts[:count], "asgi.py") for count in range(len(parts), 0, -1))


# What is there


def _look(path: Path, app_dir: str | None, factory: bool | None) -> Found | None:
    """Return the application in a file, None if there is none. Raises ConfigError if there are several, or if the file
    is not Python."""
    names = _names(path)
    chosen = choose(names, factory)
    if not chosen:
        return None
    module, folder = _importable(path, app_dir)
    if len(chosen) > 1:
        raise ConfigError(f"{_several([f'{module}:{name}' for name in chosen])}, in {_shown(path)}")
    (name,) = chosen
    made = bool(factory) or (factory is None and is_factory(name, names))
    return Found(f"{module}:{name}", folder, made, _shown(path))


def _look_at(path: Path, app_dir: str | None, factory: bool | None) -> Found:
    """Return the application in the file or folder that the user names."""
    if path.is_dir():
        return _search(path, app_dir, factory)
    found = _look(path, app_dir, factory)
    if found is None and path.name == "__init__.py":
        return _search(path.parent, app_dir, factory)
    if found is None:
        module, _ = _importable(path, app_dir)
        raise ConfigError(f"{_wanted(factory)} is in {_shown(path)}; name yours, e.g. {module}:server")
    return found


def _names(path: Path) -> Names:
    try:
        return read_names(path)
    except OSError as error:
        raise ConfigError(f"{_shown(path)}: {error.strerror}") from None
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise ConfigError(f"{_shown(path)}{line}: {error.msg}") from None
    except ValueError:
        raise ConfigError(f"{_shown(path)} is not a Python file") from None


def _existing(name: str, base: str) -> Path | None:
    """Return the file or folder that is named, in the current folder or in `base`; None for what is written as a
    module, or is not there."""
    if not (name.endswith(".py") or os.sep in name or name in (os.curdir, os.pardir)):
        return None
    paths = (Path(name), Path(base, name))
    return next((path for path in paths if "\0" not in name and path.exists()), None)


def _find_module(name: str, base: str) -> Path | None:
    """Return the file of a module, or the folder of a package without __init__.py; None if it is not found."""
    where = [os.path.abspath(base), *sys.path]
    path = None
    for part in name.split("."):
        # by its last name: by its whole one, packages without __init__.py are looked up among those imported
        spec = PathFinder.find_spec(part, where) if part else None
        if spec is None:
            return None
        where = list(spec.submodule_search_locations or ())
        path = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else next(map(Path, where), None)
    return path


def _importable(path: Path, app_dir: str | None) -> tuple[str, str]:
    """Return the name of the module in a file, and the folder to import it from: `app_dir` if the file is below it,
    or else the folder above all packages that hold the file. Links are not followed: what they lead to may change."""
    path = Path(os.path.abspath(path))
    top = Path(os.path.abspath(app_dir)) if app_dir is not None else None
    if top is None or top not in path.parents or path == top / "__init__.py":
        top = path.parent
        while (top / "__init__.py").is_file() and top != top.parent:
            top = top.parent
    parts = [*path.relative_to(top).parts[:-1], path.stem]
    if parts[-1] == "__init__":
        parts.pop()
    if any("." in part for part in parts) or not parts:
        raise ConfigError(f"{_shown(path)} can't be imported: a dot stands in the name of the file or of its folder")
    here = Path.cwd()
    folder = str(top.relative_to(here)) if top == here or here in top.parents else str(top)
    return ".".join(parts), "" if folder == os.curdir else folder


# What is said


def _shown(path: Path) -> str:
    try:
        return str(Path(os.path.abspath(path)).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _wanted(factory: bool | None) -> str:
    names = FACTORY_NAMES if factory else APPLICATION_NAMES if factory is False else APPLICATION_NAMES + FACTORY_NAMES
    return f"none of {', '.join(names)}{'' if factory else ' and no single application of another name'}"


def _several(names: list[str]) -> str:
    return f"there are several applications; name one of {', '.join(names)}"


def _nothing(folder: Path, looked: list[Path], factory: bool | None) -> str:
    if not looked:
        return (
            f"no application found: none of {', '.join(_FILES)} and no package is in {os.path.abspath(folder)};"
            " write a file or module:attribute, e.g. flowserve main.py or flowserve main:app"
        )
    files = ", ".join(_shown(path) for path in looked)
    return f"no application found: {_wanted(factory)} is in {files}; name yours, e.g. flowserve main:server"


def _missing(app: str, base: str) -> str:
    if app.endswith(".py") or os.sep in app:
        return f"{app!r}: there is no such file or folder in {os.path.abspath('')}"
    return (
        f"{app!r}: there is no such file, folder or module in {os.path.abspath(base)}; write a file or"
        f" module:attribute, e.g. {app if app.isidentifier() else 'main'}:app"
    )
