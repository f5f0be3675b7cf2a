"""What a client gives back as the position from which it resumes: in Last-Event-ID, or by way of the application.

- Nothing is raised.
- A position that is understood is the same when it is shown again, and its offset is one that can be.
- An id names positions of the topics that are asked for, and of no other.
"""

from __future__ import annotations

from typing import Any

from compliance.fuzz.findings import require
from flowserve.topics.api.event_source import _resumed
from flowserve.topics.position import parse

MAX_LEN = 4000
_TOPICS = ("news", "room:1")


def observe(data: bytes) -> Any:
    text = data.decode("latin-1")
    place = parse(text)
    if place is not None:
        require(place.position() == text, "a position that is shown is another one", place)
        require(0 <= place.offset <= 2**53, "an offset that can't be", place)
    several = _resumed(text, _TOPICS)
    require(set(several) <= set(_TOPICS), "a position of a topic that was not asked for", several)
    require(all(isinstance(each, str) for each in several.values()), "a position that is no text", several)
    require(set(_resumed(text, _TOPICS[:1])) <= {"news"}, "a position of a topic that was not asked for", text)
    return place and tuple(place), several
