"""Names of topics that no user can reach."""

from __future__ import annotations

CONTROL = "\0presence"
"""The topic in which processes tell each other of presence. The names of users' topics do not begin so."""

_COUNTED = f"{CONTROL}#"


def counted_name(topic: str) -> str:
    """Return the name under which a topic is followed for the number of its subscribers alone: one without members."""
    return _COUNTED + topic


def topic_of(name: str) -> str:
    """Return the topic of a name that is followed."""
    return name.removeprefix(_COUNTED)


class ChangesName(str):
    """The name under which clients are subscribed to the changes of a topic's presence."""

    __slots__ = ()

    @classmethod
    def of(cls, topic: str) -> ChangesName:
        """Return that of a topic."""
        return cls(f"{CONTROL}:{topic}")

    @property
    def topic(self) -> str:
        """The topic whose changes they are."""
        return self[len(CONTROL) + 1 :]
