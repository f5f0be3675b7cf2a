"""The limits of topics."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

from flowserve.config import Config

MIN_KEY_AGE = 60
"""Seconds for which a key is remembered at least, with whatever history."""


_MAX_AGE = 10**9
"""Of seconds, some 30 years, as options of flowserve have it."""
_MAX_SIZE = 2**63 - 1
"""Of messages and bytes, a signed 64-bit integer."""


class Retention(NamedTuple):
    """What is kept of a topic."""

    messages: int
    size: int
    """In bytes."""
    age: float
    """Of a message, in seconds."""

    def checked(self) -> Retention:
        """Return this. Raises TypeError or ValueError for what can't be a limit."""
        for name, number, types, most in (
            ("number of messages", self.messages, (int,), _MAX_SIZE),
            ("size in bytes", self.size, (int,), _MAX_SIZE),
            ("age in seconds", self.age, (int, float), _MAX_AGE),
        ):
            if not isinstance(number, types) or isinstance(number, bool):
                raise TypeError(f"the {name} that is kept can't be {number!r}")
            if not 0 <= number <= most:
                raise ValueError(f"the {name} that is kept is from 0 to {most}, not {number!r}")
        return self


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes are in bytes, times in seconds."""

    history: int = 100
    """Messages of a topic that are kept; 0 keeps none, so that nobody can resume."""
    history_size: int = 262144
    """Bytes of a topic that are kept."""
    history_age: float = 300.0
    """How long a message is kept."""
    max_topics: int = 100_000
    """Topics of which a log is kept; beyond that, the one that was not used for the longest time is forgotten."""
    max_memory: int = 1 << 30
    """Bytes of the messages of all topics that are kept, with what each takes beside; beyond that, those that would be
    too old first are forgotten."""
    max_name: int = 200
    """Characters of a topic's name."""
    max_size: int = 1 << 20
    """Bytes of a message."""
    max_per_connection: int = 100
    """Topics that one connection may be subscribed to."""
    max_pending: int = 1 << 20
    """Bytes that wait for one subscriber who is slow; beyond that it falls behind, and goes on from the history."""

    def __post_init__(self) -> None:
        self.retention.checked()

    @property
    def retention(self) -> Retention:
        """What is kept of a topic unless its publisher says otherwise."""
        return Retention(self.history, self.history_size, self.history_age)

    @classmethod
    def of(cls, config: Config) -> Settings:
        """Return those of a server's configuration."""
        return cls(**{field.name: getattr(config, "topics_" + field.name) for field in fields(cls)})
