"""The file of --log-config: INI, or (by the first byte) JSON or YAML.

- Only ConfigError is raised, in one line that names the file.

Only the reading of the file is looked at: what logging makes of it calls by design what the file names, so the two
functions of logging are put out of action here.
"""

from __future__ import annotations

import logging.config
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compliance.fuzz.findings import require
from flowserve.config import Config
from flowserve.errors import ConfigError
from flowserve.logs.setup import _load

MAX_LEN = 1000
_MEMORY = Path("/dev/shm")
_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
_FILES = [Path(_FOLDER.name) / f"log.{end}" for end in ("ini", "json", "yaml")]


def observe(data: bytes) -> Any:
    if not data:
        return None
    path = _FILES[data[0] % 3]
    path.write_bytes(data[1:])
    seen: list[str] = []
    try:
        with _recorded(seen):
            _load(str(Config("", log_config=str(path)).log_config))
    except ConfigError as error:
        require(str(error).startswith("--log-config: "), "an error does not name the option", str(error))
        require("\n" not in str(error), "an error is not one line", str(error))
        return str(error).replace(_FOLDER.name, "")
    return seen


@contextmanager
def _recorded(seen: list[str]) -> Iterator[None]:
    """Note what logging would be called with, instead of calling it."""
    kept = logging.config.dictConfig, logging.config.fileConfig

    def note_dictionary(value: Any) -> None:
        seen.append(repr(value))

    def note_file(parser: Any, **_: Any) -> None:
        seen.append(repr([(name, dict(parser.items(name, raw=True))) for name in parser.sections()]))

    setattr(logging.config, "dictConfig", note_dictionary)  # noqa: B010  (for mypy: assignments to functions)
    setattr(logging.config, "fileConfig", note_file)  # noqa: B010
    try:
        yield
    finally:
        logging.config.dictConfig, logging.config.fileConfig = kept
