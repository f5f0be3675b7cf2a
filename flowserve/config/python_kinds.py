"""Kinds of options for what Python has: levels and configurations of logging, event loops."""

from __future__ import annotations

import configparser
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from flowserve.config.kinds import Kind, choice, path

LogConfiguration = str | Mapping[str, Any] | configparser.RawConfigParser | None
"""What --log-config may be: a file's path, "" to go by the other options, None to leave logging alone; in Python also
what logging.config takes."""

_LEVELS = {"critical": 50, "error": 40, "warning": 30, "info": 20, "debug": 10, "trace": 5}
_OTHER_NAMES = {"warn": "warning", "fatal": "critical"}  # those of Python's logging


def log_level() -> Kind:
    """A level by its name, or by Python's number for it; a number in between is the next level above."""
    names = choice(*_LEVELS, also=_OTHER_NAMES)

    def parse(value: Any) -> str:
        number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
        if isinstance(number, int) and not isinstance(number, bool) and number > 0:
            return min((level, name) for name, level in _LEVELS.items() if level >= min(number, _LEVELS["critical"]))[1]
        return str(names.parse(value))

    return dataclasses.replace(names, parse=parse, accepts="int | str")


def log_configuration() -> Kind:
    """A file's path, "" for no file, none (or None) to leave logging as the program has set it up; in Python also a
    dictionary, a RawConfigParser or an open file."""
    file = path(empty=True)

    def parse(value: Any) -> LogConfiguration:
        if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
            return None
        if isinstance(value, Mapping):  # a RawConfigParser is one too
            return value
        if hasattr(value, "readline"):
            return _read_ini(value)
        found: str = file.parse(value)
        return found

    def show(value: LogConfiguration) -> str:
        return "none" if value is None else value if isinstance(value, str) else ""

    return Kind(parse, show, "PATH", "str | PathLike[str] | IO[str] | RawConfigParser | Mapping[str, Any] | None")


def _read_ini(file: Any) -> configparser.RawConfigParser:
    """Read the file at once: worker processes could not."""
    parser = configparser.ConfigParser()
    try:
        parser.read_file(file)
    except configparser.Error as error:
        raise ValueError(" ".join(str(error).split())) from None
    return parser


def loop_name() -> Kind:
    """An event loop: auto, that of a package, or "module:factory" with a function that returns a new one."""
    names = choice("auto", "uvloop", "asyncio", "zuvloop", also={"none": "asyncio"})

    def parse(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", value):
            return str.__str__(value)
        try:
            return str(names.parse(value))
        except ValueError as error:
            raise ValueError(f"{error}, nor module:factory") from None

    return Kind(parse, str, "[auto|uvloop|asyncio|MODULE:FACTORY]", "str", words=("auto", "uvloop", "asyncio"))
