"""--env-file: environment variables for the application, from a file that python-dotenv reads."""

from __future__ import annotations

import io
import os
from typing import Any

from flowserve.errors import ConfigError


def read_env_file(path: str) -> dict[str, str]:
    """Return the variables that the file sets, whatever the environment has. Raises ConfigError, which names
    --env-file, for a file that can't be read and without python-dotenv."""
    values = _dotenv().dotenv_values(stream=io.StringIO(_read(path)))
    return {name: value for name, value in values.items() if value is not None}


def load_env_file(path: str) -> None:
    """Set the variables of the file in the environment, but for those that are set already. Raises as
    `read_env_file()` does."""
    _dotenv().load_dotenv(stream=io.StringIO(_read(path)))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"--env-file: {path!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--env-file: {path!r} is not text in UTF-8") from None


def _dotenv() -> Any:
    try:
        import dotenv
    except ImportError:
        raise ConfigError("--env-file: python-dotenv is missing; pip install python-dotenv") from None
    return dotenv


def environment_with(path: str | None) -> dict[str, str]:
    """Return the environment as it is once the file at `path`, if any, is loaded. Raises as `read_env_file()`."""
    return {**(read_env_file(path) if path else {}), **os.environ}
