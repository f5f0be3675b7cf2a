"""Names of topics: what can be one, and those that no user can reach."""

from __future__ import annotations

from flowserve.errors import TopicsError

CONTROL = "\0presence"
"""The topic in which processes tell each other of presence. The names of users' topics do not begin so."""

_RESERVED = CONTROL[0]

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


def checked_type(topic: str) -> str:
    """Return a topic's name. Raises TypeError for what is none."""
    if not isinstance(topic, str):
        raise TypeError(f"a topic's name is str, not {type(topic).__name__}")
    return topic


def check_name(topic: str, most: int) -> None:
    """Raise TypeError for what is no name of a topic, TopicsError for one of more than `most` characters, or that can't
    be one."""
    if type(topic) is str and 0 < len(topic) <= most and topic.isascii() and topic[0] != _RESERVED:
        return  # as it is, mostly
    checked_type(topic)
    if isinstance(topic, ChangesName):
        return
    if not topic or len(topic) > most:
        raise TopicsError(f"a topic's name has 1 to {most} characters, not {len(topic)}")
    if topic.startswith(CONTROL):
        raise TopicsError(f"a topic's name can't begin with {CONTROL!a}")
    if not topic.isascii():
        try:
            topic.encode()
        except UnicodeEncodeError as error:
            raise TopicsError(f"a topic's name can't be written in UTF-8: {topic!a}: {error.reason}") from None
