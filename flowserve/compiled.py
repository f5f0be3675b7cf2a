"""Which of the two speeds runs: the compiled modules, or the same files as plain Python.

Imported before all else, so it looks at those modules only when it is asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).parent


class _SourceFinder:
    """Finds flowserve's modules as Python files, though compiled ones may lie beside them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not fullname.startswith("flowserve."):
            return None
        return FileFinder(path[0], (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname)


def pure_is_chosen() -> bool:
    """Return whether FLOWSERVE_PURE=1 asks for the Python files."""
    return os.environ.get("FLOWSERVE_PURE", "") not in ("", "0")


def choose() -> None:
    """Obey FLOWSERVE_PURE=1."""
    if pure_is_chosen():
        sys.meta_path.insert(0, _SourceFinder())


def hot_modules() -> list[str]:
    """Return the names of the modules that are compiled where that is possible: a message's way, and a request's. Each
    has a .pxd beside it; a .pxd alone only names functions of C."""
    paths = [path.with_suffix("") for path in _PACKAGE.rglob("*.pxd") if path.with_suffix(".py").exists()]
    return sorted(".".join(path.relative_to(_PACKAGE.parent).parts) for path in paths)


def is_compiled() -> bool:
    """Return whether all the hot modules run compiled. Imports none of them: some need packages that may be missing."""
    found = [find_spec(name) for name in hot_modules()]
    return not any(spec is None or (spec.origin or "").endswith(".py") for spec in found)


def deflate_name() -> str:
    """Return name and version of the DEFLATE that compresses messages. Raises ConfigError."""
    from flowserve.websocket.deflate_backends import backend

    return str(backend())
