"""What Redis or NATS knows of topics, for those who operate them: read without changing anything there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class TopicState(NamedTuple):
    """A topic at one moment."""

    name: str
    epoch: str
    """Another one after its log was lost."""
    published: int
    """Messages in this epoch."""
    messages: int
    """Those that are held, of which readers get what is not too old."""
    size: int
    """Bytes of those."""
    at: float
    """When this was so, by `time.monotonic()`."""

    def rate(self, before: TopicState | None) -> float:
        """Return the messages a second since another look; 0 without one."""
        if before is None or self.at <= before.at:
            return 0.0
        count = self.published - before.published if self.epoch == before.epoch else self.published
        return max(0, count) / (self.at - before.at)


class Look(NamedTuple):
    """Topics that were found."""

    topics: Sequence[TopicState]
    complete: bool
    """Whether these are all."""


class TopicDetail(NamedTuple):
    """What takes more to find out. Ages are in seconds."""

    oldest: float | None
    """The age of the oldest message that is held, None if there is none."""
    newest: float | None
    """That of the newest one."""
    processes: int | None
    """How many are subscribed; None if that is not known."""


NO_DETAIL = TopicDetail(None, None, None)
"""Of a topic that is gone."""


class Inspector(Protocol):
    """Reads what a backplane's server knows. All methods raise TopicsError if it does not answer, or refuses."""

    @property
    def shown(self) -> str:
        """The URL without passwords."""

    async def open(self) -> None:
        """Connect. Raises TopicsError if the server can't be reached."""

    async def close(self) -> None:
        """End the connection."""

    async def round_trip(self) -> float:
        """Return the seconds that an answer takes."""

    async def look(self, prefix: str) -> Look:
        """Return the topics whose names begin so, as many as are looked at."""

    async def details(self, topics: Sequence[TopicState]) -> list[TopicDetail]:
        """Return more of some topics."""
