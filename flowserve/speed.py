"""Which of the two speeds runs: the compiled modules, or the same files as plain Python.

Imported before all else, so it looks at those modules only when it is asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType

HOT = (
    "flowserve.timers",
    "flowserve.application",
    "flowserve.context",
    "flowserve.websocket.mask",
    "flowserve.websocket.budget",
    "flowserve.websocket.frames",
    "flowserve.websocket.output",
    "flowserve.websocket.assembly",
    "flowserve.websocket.connection",
    "flowserve.websocket.handshake",
    "flowserve.flow",
    "flowserve.outbox",
    "flowserve.timeslice",
    "flowserve.waiters",
    "flowserve.writer",
    "flowserve.patience",
    "flowserve.receiving",
    "flowserve.sending",
    "flowserve.session",
    "flowserve.metered",
    "flowserve.http.messages",
    "flowserve.http.chunked",
    "flowserve.http.h1",
    "flowserve.http.responses",
    "flowserve.asgi.scope",
    "flowserve.asgi.http",
    "flowserve.asgi.websocket",
    "flowserve.library.about",
    "flowserve.library.websocket",
    "flowserve.server.upgrade",
    "flowserve.server.h1",
)
"""What pyproject.toml has compiled: a message's way, and a request's."""


class _SourceFinder(MetaPathFinder):
    """Finds flowserve's modules as Python files, though compiled ones may lie beside them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not fullname.startswith("flowserve."):
            return None
        return FileFinder(path[0], (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname)


def choose() -> None:
    """Obey FLOWSERVE_PURE=1."""
    if os.environ.get("FLOWSERVE_PURE", "") not in ("", "0"):
        sys.meta_path.insert(0, _SourceFinder())


def compiled() -> bool:
    """Return whether all the hot modules run compiled."""
    return not any((import_module(name).__file__ or "").endswith(".py") for name in HOT)


def deflate() -> str:
    """Return name and version of the DEFLATE that compresses messages. Raises ConfigError."""
    from flowserve.websocket.backends import backend

    return str(backend())
