"""The option itself, as the command line, the environment and the file see it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from flowserve.config.kinds import Kind
from flowserve.errors import ConfigError

_LONGEST_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class Option:
    """One option, as the command line and the environment see it."""

    name: str
    default: Any
    help: str
    group: str
    kind: Kind
    word: str
    secret: bool = False  # not to be shown

    @property
    def flag(self) -> str:
        """The option on the command line, e.g. --ws-max-size."""
        return "--" + self.word

    @property
    def env(self) -> str:
        """The environment variable, e.g. FLOWSERVE_WS_MAX_SIZE."""
        return "FLOWSERVE_" + self.word.upper().replace("-", "_")

    def convert(self, value: Any, origin: str | None = None) -> Any:
        """The checked value of `value`; raises ConfigError that names `origin` (the flag if None)."""
        try:
            return self.kind.parse(value)
        except ValueError as error:
            raise ConfigError(f"{origin or self.flag}: {_cut(str(error))}") from None


def option(default: Any, kind: Kind, group: str, help: str, *, word: str | None = None, secret: bool = False) -> Any:
    """A field of `Config`. `word` is its name on the command line where that differs; a secret stays out of repr()."""
    metadata = {"kind": kind, "group": group, "help": help, "word": word}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


def _cut(message: str) -> str:
    half = _LONGEST_MESSAGE // 2
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[:half]} ... {message[-half:]}"
