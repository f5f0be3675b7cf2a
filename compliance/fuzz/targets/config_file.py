"""flowserve.toml, and (by the first byte) [tool.flowserve] of pyproject.toml.

- Only ConfigError is raised, in one line that names the file.
- The configuration, dumped and read again, is the same.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from compliance.fuzz.findings import Broken, require
from flowserve.config import Config
from flowserve.config.config import OPTIONS
from flowserve.config.file import APP, NAMES, ConfigFile, Given, as_file, find_file, without_foreign
from flowserve.errors import ConfigError

MAX_LEN = 2000
_MEMORY = Path("/dev/shm")
_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
_FILES = [Path(_FOLDER.name) / name for name in NAMES]
_DUMPED = Path(_FOLDER.name) / "dumped" / "flowserve.toml"
_MACHINE = ("workers",)  # auto depends on the machine


def observe(data: bytes) -> Any:
    if not data:
        return None
    path = _FILES[data[0] & 1]
    path.write_bytes(data[1:])
    try:
        file = find_file(str(path))
        require(file is not None, "a file that is there was not found")
        assert file is not None
        config, given = _config(file)
    except ConfigError as error:
        require("\n" not in str(error), "an error is not one line", str(error))
        return str(error).replace(_FOLDER.name, "")
    _check_dump(config, given)
    return [(name, repr(getattr(config, name))) for name in sorted(given) if name not in _MACHINE]


def _config(file: ConfigFile) -> tuple[Config, dict[str, Given]]:
    """As the command does it."""
    given, _ = without_foreign(file.given())
    values = {name: OPTIONS[name].convert(each.value, each.where) for name, each in given.items()}
    return Config(file.values.get(APP, ""), **values), given


def _check_dump(config: Config, given: dict[str, Given]) -> None:
    text = as_file(config, given)
    _DUMPED.parent.mkdir(exist_ok=True)
    _DUMPED.write_text(text)
    file = find_file(str(_DUMPED))
    assert file is not None
    again = _config(file)[0]
    for name, option in OPTIONS.items():
        if not option.secret and getattr(again, name) != getattr(config, name):
            raise Broken(f"{name}: dumped and read again, it is another value", getattr(config, name), text)
