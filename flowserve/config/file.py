"""flowserve.toml: reading options from a file or the environment, and writing all options in this format."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from flowserve.config.config import OPTIONS, Config
from flowserve.config.from_uvicorn import DEFAULTS_FROM, FOREIGN, one_worker_for_reload
from flowserve.config.option import Option
from flowserve.errors import ConfigError

NAMES = ("flowserve.toml", "pyproject.toml")
"""The files that are looked for in the current folder, in this order."""
APP = "app"
"""The key for the application, which is an argument on the command line, not an option."""

_PROJECT = "pyproject.toml"
_KEYS = {APP: APP, **{option.word: name for name, option in OPTIONS.items()}}
_ALL_KEYS = {**_KEYS, **{option.word: name for name, option in FOREIGN.items()}}
_HIDDEN = "***"
_SURROGATE = re.compile(r"\\ud[89a-f][0-9a-f]{2}")
_COLUMN = 44
"""The column at which comments begin after short values."""


class Given(NamedTuple):
    """A value that was given for an option, before it is checked."""

    value: Any
    origin: str
    """Where it comes from, for --print-config: "command line", "environment FLOWSERVE_PORT", a file's name."""
    where: str | None = None
    """How an error message names the option there; None for its flag."""


class ConfigFile(NamedTuple):
    """The options in a file."""

    name: str
    """The file's name."""
    values: dict[str, Any]
    """The values by the names of `Config`'s fields, as TOML types, before they are checked."""

    def given(self) -> dict[str, Given]:
        """Return the values of options, without `app`."""
        words = {name: word for word, name in _ALL_KEYS.items() if name != APP}
        return {
            name: Given(value, self.name, f"{self.name}: {words[name]}")
            for name, value in self.values.items()
            if name in words
        }


def from_environment(environment: Mapping[str, str] = os.environ) -> dict[str, Given]:
    """Return the options that FLOWSERVE_* environment variables set; empty variables are ignored."""
    return _from_variables({option.env: name for name, option in OPTIONS.items()}, environment)


def defaults_from_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    """Return the options whose defaults variables that many servers read set, as WEB_CONCURRENCY."""
    return _from_variables(DEFAULTS_FROM, environment)


def _from_variables(variables: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, Given]:
    return {
        name: Given(environment[variable], f"environment {variable}", variable)
        for variable, name in variables.items()
        if environment.get(variable)
    }


def without_foreign(given: Mapping[str, Given]) -> tuple[dict[str, Given], list[str]]:
    """Return the options of flowserve among `given`, with those that take the place of uvicorn's, and a line for each
    of uvicorn's that has no effect. Raises ConfigError for a value of one of these that can't be ignored."""
    ours = {name: each for name, each in given.items() if name not in FOREIGN}
    lines = []
    for name, foreign in FOREIGN.items():
        if name in given:
            lines.append(foreign.warning(given[name].value, given[name].where))
            if foreign.option is not None:
                ours.setdefault(foreign.option, given[name])
    lines.append(one_worker_for_reload({name: each.value for name, each in ours.items()}))
    if lines[-1] is not None:
        del ours["workers"]
    return ours, [line for line in lines if line is not None]


def find_file(path: str | None = None, origin: str = "--config") -> ConfigFile | None:
    """Read the file at `path`. If `path` is None, read flowserve.toml in the current folder, or if there is none the
    table [tool.flowserve] of pyproject.toml; return None without either.

    The keys are the options' names on the command line, with - or _, and `app`. Raises ConfigError, which names the
    file; `origin` says there what named a file that cannot be read.
    """
    if path is not None:
        return _make_file(path, _read(path, f"{origin}: {path!r}"))
    for name in NAMES:
        if os.path.isfile(name):
            data = _read(name, name)
            # do not report errors in a pyproject.toml that does not mention flowserve
            if name != _PROJECT or b"flowserve" in data:
                file = _make_file(name, data, optional=True)
                if file is not None:
                    return file
    return None


def _read(path: str, where: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None


def _make_file(name: str, data: bytes, optional: bool = False) -> ConfigFile | None:
    table: Any = _parse(name, data)
    if os.path.basename(name) == _PROJECT:
        tools = table.get("tool", {})
        table = tools.get("flowserve") if isinstance(tools, dict) else None
        if table is None and optional:
            return None
        if not isinstance(table, dict):
            raise ConfigError(f"{name}: there is no table [tool.flowserve] in it")
    values: dict[str, Any] = {}
    for key, value in table.items():
        field = _ALL_KEYS.get(key.replace("_", "-"))
        if field is None:
            raise ConfigError(f"{name}: there is no option {key!r}{_suggestion(key)}")
        if field in values:
            raise ConfigError(f"{name}: {key!r} stands there twice, with - and with _")
        values[field] = value
    app = values.get(APP, "-")
    if not isinstance(app, str) or not app:
        raise ConfigError(f'{name}: app: write module:attribute as text, e.g. app = "main:app"')
    return ConfigFile(name, values)


def _parse(name: str, data: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: not text in UTF-8, as TOML has to be") from None
    except ValueError as error:  # a TOMLDecodeError, or a number that Python won't read
        raise ConfigError(f"{name}: not TOML: {' '.join(str(error).split())}") from None


def _suggestion(key: str) -> str:
    matches = difflib.get_close_matches(key.replace("_", "-"), _KEYS, 1)
    return f"; did you mean {matches[0]}?" if matches else "; flowserve --help all shows them"


def as_file(config: Config, given: Mapping[str, Given]) -> str:
    """Return all options in the format of flowserve.toml. A comment after each says where its value comes from: the
    origin in `given`, a mapping by the names of fields, or default. Options that are not set or secret are commented
    out."""
    app = given.get(APP)
    lines = ["# The options that are in force, as a flowserve.toml.", ""]
    lines.append(_line(APP, _toml_string(app.value), app.origin) if app else _line(APP, None, "not set"))
    group = ""
    for name, option in OPTIONS.items():
        if option.group != group:
            group = option.group
            lines += ["", f"# {group}"]
        value = getattr(config, name)
        toml = _toml_value(option, value)
        origin = "default" if toml is not None else "not set"
        if name in given:
            origin = given[name].origin
            if given[name].value == "auto":
                toml = _toml_string("auto")  # not the number that it means on this machine
        if option.secret and value is not None:
            lines.append(_line(f"# {option.word}", _toml_string(_HIDDEN), origin))
        elif toml is not None and _SURROGATE.search(toml):  # a surrogate in a file name, which TOML cannot express
            lines.append(_line(f"# {option.word}", toml, origin))
        else:
            lines.append(_line(option.word, toml, origin))
    return "\n".join(lines)


def _line(word: str, toml: str | None, comment: str) -> str:
    entry = f"{word} = {toml}" if toml is not None else f"# {word} ="
    return f"{entry:<{_COLUMN}} # {comment}"


def _toml_value(option: Option, value: Any) -> str | None:
    """Return a value in TOML, None if the option is not set."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if option.kind.repeat:
        return "[" + ", ".join(_toml_string(option.kind.show((each,))) for each in value) + "]"
    text = option.kind.show(value)
    if isinstance(value, int) and text == str(value):
        return text
    return _toml_string(text) if text or value == "" else None


def _toml_string(value: str) -> str:
    """Return a TOML basic string."""
    return '"' + "".join(_escape(each) for each in value) + '"'


def _escape(each: str) -> str:
    if each in '"\\':
        return "\\" + each
    if each.isprintable():
        return each
    return f"\\u{ord(each):04x}" if ord(each) < 0x10000 else f"\\U{ord(each):08x}"
