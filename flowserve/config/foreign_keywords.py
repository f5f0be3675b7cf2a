"""The keywords that `Config` accepts beside the names of its fields: uvicorn's, and those of the command line."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import socket
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flowserve.config.env_file import environment_with
from flowserve.config.from_uvicorn import DEFAULTS_FROM, FOREIGN, UNSET_BY_NONE, one_worker_for_reload
from flowserve.config.option import parse
from flowserve.errors import ConfigError

T = TypeVar("T")

_ALL_KEYWORDS = "they are the options of flowserve --help all, with _ for -"


class WrongKeyword(TypeError):
    """A keyword is not known, or given twice."""


def accepts_foreign_keywords(cls: type[T]) -> type[T]:
    """Make the constructor of `cls`, which is `Config`, accept:

    - uvicorn's keywords, as `FOREIGN` says; a UserWarning says what has no effect;
    - the words of the command line where they differ, as `reload_dir` for `reload_dirs`;
    - None for what `UNSET_BY_NONE` names, and for `host`: every interface.

    It takes the defaults of `DEFAULTS_FROM` from the environment, WEB_CONCURRENCY only for an application that is named
    and without reload. Raises WrongKeyword, with the nearest name, for a keyword that nobody knows.
    """
    init: Callable[..., None] = cls.__init__
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    words = {word.replace("-", "_"): name for name, field in fields.items() if (word := field.metadata.get("word"))}

    @functools.wraps(init)
    def construct(self: T, *app: Any, **keywords: Any) -> None:
        if len(app) > 1:
            raise TypeError(f"{cls.__name__}() takes one argument by position; write host=, port= and so on")
        options = _translated(keywords, fields, words)
        named = isinstance(app[0] if app else options.get("app"), str)
        path = options.get("env_file")
        env_file = parse(fields["env_file"].metadata["kind"], path, "env_file") if path is not None else None
        try:
            defaults = _defaults(options, named, env_file)
        except ConfigError as error:  # it names the flag
            raise ConfigError(str(error).removeprefix("--").replace("-", "_", 1)) from error.__cause__
        for name, value in defaults.items():
            options[name] = parse(fields[name].metadata["kind"], *value)
        init(self, *app, **options)

    cls.__init__ = construct  # type: ignore[method-assign,assignment]
    return cls


def _translated(keywords: Mapping[str, Any], fields: Mapping[str, Any], words: Mapping[str, str]) -> dict[str, Any]:
    """Return the options by the names of fields."""
    options: dict[str, Any] = {}
    for keyword, value in keywords.items():
        name = words.get(keyword, keyword)
        if foreign := FOREIGN.get(keyword):
            _warn(foreign.warning(value, keyword))
            if foreign.option is not None and value is not None:
                options.setdefault(foreign.option, value)
        elif name not in fields:
            nearest = difflib.get_close_matches(keyword, (*fields, *words), 1)
            hint = f"did you mean {nearest[0]}?" if nearest else _ALL_KEYWORDS
            raise WrongKeyword(f"there is no keyword {keyword!r}; {hint}")
        elif name != keyword and name in keywords:
            raise WrongKeyword(f"the keywords {keyword!r} and {name!r} mean the same; leave one of them out")
        elif value is not None or name not in UNSET_BY_NONE:
            options[name] = value
    if "host" in options and options["host"] is None:
        options["host"] = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    if warning := one_worker_for_reload(options):
        _warn(warning)
        del options["workers"]
    return options


def _defaults(options: Mapping[str, Any], named: bool, env_file: str | None) -> dict[str, tuple[str, str]]:
    """Return the options that the environment, with `env_file`, sets by `DEFAULTS_FROM`: by name, the value and its
    variable."""
    wanted = {name: variable for variable, name in DEFAULTS_FROM.items() if name not in options}
    if not named or options.get("reload"):
        wanted.pop("workers", None)
    if not wanted:
        return {}
    environment = environment_with(env_file)
    return {name: (value, variable) for name, variable in wanted.items() if (value := environment.get(variable))}


def _warn(line: str | None) -> None:
    """Issue the warning for the line of the program that has made the `Config`, also by way of `run()`."""
    if line is None:
        return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "flowserve":
        level, frame = level + 1, frame.f_back
    warnings.warn(line, UserWarning, stacklevel=level)
