"""The targets: a module each, whose docstring states what must hold for every input.

A module has `observe(data)`, which gives an input to flowserve, checks what must hold by itself, and returns what it
saw as plain data, to be compared between the speeds; and, where there are other implementations,
`compare(data, seen)`, which says whether there was something to compare. Both raise Broken. `observe` needs no more
than flowserve.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

_MAX_LEN = 4096


class Target(NamedTuple):
    """`max_len` is how many bytes an input has at most."""

    name: str
    observe: Callable[[bytes], Any]
    compare: Callable[[bytes, Any], bool] | None
    max_len: int
    about: str


def names() -> list[str]:
    """All targets, in order of their names."""
    found = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def load(name: str) -> Target:
    """The target of that name."""
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    about = (module.__doc__ or "").strip()
    max_len = getattr(module, "MAX_LEN", _MAX_LEN)
    return Target(name, module.observe, getattr(module, "compare", None), max_len, about)
