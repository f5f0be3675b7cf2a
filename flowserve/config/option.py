"""The declaration of one option, for the command line, the environment and the configuration file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowserve.config.kinds import Kind
from flowserve.errors import ConfigError

_MAX_MESSAGE = 500
_FLAG = re.compile(r"(add |write )?--([a-z0-9]+(?:-[a-z0-9]+)*)(?: (\w+))?")


@dataclass(frozen=True, slots=True)
class Option:
    """The declaration of one option."""

    name: str
    """The name of its field in `Config`."""
    default: Any
    help: str
    """The text in --help."""
    group: str
    """The heading in --help under which it is listed."""
    kind: Kind
    """How values are parsed and formatted."""
    word: str
    """The name on the command line and in a file, e.g. ws-max-size."""
    secret: bool = False
    """Whether its value must not be shown."""

    @property
    def flag(self) -> str:
        """The option on the command line, e.g. --ws-max-size."""
        return "--" + self.word

    @property
    def env(self) -> str:
        """The environment variable, e.g. FLOWSERVE_WS_MAX_SIZE."""
        return "FLOWSERVE_" + self.word.upper().replace("-", "_")

    def convert(self, value: Any, origin: str | None = None) -> Any:
        """Return the parsed and checked `value`. Raises ConfigError, which names `origin`, by default the flag."""
        return parse(self.kind, value, origin or self.flag)


def parse(kind: Kind, value: Any, where: str) -> Any:
    """Return the parsed and checked `value`. Raises ConfigError, which names `where`."""
    try:
        return kind.parse(value)
    except ValueError as error:
        raise ConfigError(f"{where}: {_shorten(str(error))}") from None


def option(default: Any, kind: Kind, group: str, help: str, *, word: str | None = None, secret: bool = False) -> Any:
    """Declare a field of `Config`. `word` is the option's name on the command line, by default the field's name with
    hyphens; the value of a `secret` option is not in repr()."""
    metadata = {"kind": kind, "group": group, "help": help, "word": word}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


def name_by_keyword(message: str, options: Mapping[str, Option]) -> str:
    """Return `message` with the keywords of `Config` in place of flags: "add --factory" becomes "add factory=True",
    "--loop asyncio" becomes "loop='asyncio'", other flags become names."""
    by_word = {each.word: each for each in options.values()}

    def keyword(found: re.Match[str]) -> str:
        add, word, value = found.groups(default="")
        option = by_word.get(word)
        if option is None:
            return found[0]
        if value and value in option.kind.metavar.strip("[]").split("|"):
            return f"{add}{option.name}={value!r}"
        given = "=True" if add and option.kind.switch else ""
        return f"{add}{option.name}{given}" + (f" {value}" if value else "")

    return _FLAG.sub(keyword, message)


def _shorten(message: str) -> str:
    half = _MAX_MESSAGE // 2
    return message if len(message) <= _MAX_MESSAGE else f"{message[:half]} ... {message[-half:]}"
