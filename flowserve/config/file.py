"""flowserve.toml: options in a file, and all options as such a file with where each value comes from."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from flowserve.config.config import OPTIONS, Config
from flowserve.config.option import Option
from flowserve.errors import ConfigError

NAMES = ("flowserve.toml", "pyproject.toml")
"""Looked for in this order, in the current folder."""
APP = "app"
"""The key for what is no option on the command line, but its argument."""

_PROJECT = "pyproject.toml"
_KEYS = {APP: APP, **{option.word: name for name, option in OPTIONS.items()}}
_HIDDEN = "***"
_SURROGATE = re.compile(r"\\ud[89a-f][0-9a-f]{2}")
_COLUMN = 44
"""Where the comments begin, if the value leaves room."""


class Given(NamedTuple):
    """A value that somebody gave an option: not yet checked, where it comes from, and how a message names that."""

    value: Any
    origin: str
    where: str | None = None


class ConfigFile(NamedTuple):
    """What a file says: values by the names of `Config`'s fields, as TOML has them, not yet checked."""

    name: str
    values: dict[str, Any]

    def given(self) -> dict[str, Given]:
        """The values of options, without that of `app`."""
        return {
            name: Given(value, self.name, f"{self.name}: {OPTIONS[name].word}")
            for name, value in self.values.items()
            if name in OPTIONS
        }


def from_environment() -> dict[str, Given]:
    """What FLOWSERVE_* variables give; an empty one gives nothing."""
    return {
        name: Given(os.environ[option.env], f"environment {option.env}", option.env)
        for name, option in OPTIONS.items()
        if os.environ.get(option.env)
    }


def find_file(path: str | None = None, origin: str = "--config") -> ConfigFile | None:
    """Read the file at `path`; without one flowserve.toml, or else the table [tool.flowserve] of pyproject.toml, if
    one of them is in the current folder.

    The keys are the options' words, with - or _, and `app`. Raises ConfigError, which names the file, or `origin`
    for one that can't be read.
    """
    if path is not None:
        return _file(path, _read(path, f"{origin}: {path!r}"))
    for name in NAMES:
        if os.path.isfile(name):
            data = _read(name, name)
            # not ours to judge unless it speaks of us
            if name != _PROJECT or b"flowserve" in data:
                found = _file(name, data, optional=True)
                if found is not None:
                    return found
    return None


def _read(path: str, where: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None


def _file(name: str, data: bytes, optional: bool = False) -> ConfigFile | None:
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
        field = _KEYS.get(key.replace("_", "-"))
        if field is None:
            raise ConfigError(f"{name}: there is no option {key!r}{_near(key)}")
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


def _near(key: str) -> str:
    near = difflib.get_close_matches(key.replace("_", "-"), _KEYS, 1)
    return f"; did you mean {near[0]}?" if near else "; flowserve --help shows them all"


def as_file(config: Config, given: Mapping[str, Given]) -> str:
    """All options as a flowserve.toml. A comment behind each says where its value comes from: the origin in `given`,
    which has the fields' names, or default. What is not set, or secret, is a comment as a whole."""
    app = given.get(APP)
    lines = ["# The options that are in force, as a flowserve.toml.", ""]
    lines.append(_line(APP, _text(app.value), app.origin) if app else _line(APP, None, "not set"))
    group = ""
    for name, option in OPTIONS.items():
        if option.group != group:
            group = option.group
            lines += ["", f"# {group}"]
        value = getattr(config, name)
        shown = _shown(option, value)
        origin = "default" if shown is not None else "not set"
        if name in given:
            origin = given[name].origin
            if given[name].value == "auto":
                shown = _text("auto")  # rather than what that came to on this machine
        if option.secret and value is not None:
            lines.append(_line(f"# {option.word}", _text(_HIDDEN), origin))
        elif shown is not None and _SURROGATE.search(shown):  # in the name of a file; TOML can't hold it
            lines.append(_line(f"# {option.word}", shown, origin))
        else:
            lines.append(_line(option.word, shown, origin))
    return "\n".join(lines)


def _line(word: str, shown: str | None, comment: str) -> str:
    entry = f"{word} = {shown}" if shown is not None else f"# {word} ="
    return f"{entry:<{_COLUMN}} # {comment}"


def _shown(option: Option, value: Any) -> str | None:
    """The value in TOML, None for one that is merely not set."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if option.kind.repeat:
        return "[" + ", ".join(_text(option.kind.show((each,))) for each in value) + "]"
    text = option.kind.show(value)
    if isinstance(value, int) and text == str(value):
        return text
    return _text(text) if text or value == "" else None


def _text(value: str) -> str:
    """A basic string of TOML."""
    return '"' + "".join(_escaped(each) for each in value) + '"'


def _escaped(each: str) -> str:
    if each in '"\\':
        return "\\" + each
    if each.isprintable():
        return each
    return f"\\u{ord(each):04x}" if ord(each) < 0x10000 else f"\\U{ord(each):08x}"
