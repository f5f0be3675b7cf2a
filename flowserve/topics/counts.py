"""What topics count for the metrics, by the part of their names before the first colon.

Names are the application's, and may be its clients': the first _MAX_LABELS parts that can stand on the page are labels,
and stay so; all others count together. The supervisor bounds the labels of its workers in the same way, as each worker,
and each that replaces it, may have others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowserve.metrics import (
    SECONDS,
    TOPICS_CLIENTS,
    TOPICS_DELIVERED,
    TOPICS_DROPPED,
    TOPICS_GAPS,
    TOPICS_MEMBER_CHANGES,
    TOPICS_MEMBERS,
    TOPICS_PUBLISHED,
    TOPICS_REQUESTS,
    TOPICS_RESUMES,
    TOPICS_SUBSCRIBERS,
    Snapshot,
    cells,
)

OTHER = "other"
"""The label of all that have none of their own."""

_MAX_LABELS = 100
_MAX_LENGTH = 64
"""Characters of a label."""


class Labels:
    """The labels that were given out."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[str] = set()

    def of(self, prefix: str) -> str:
        """Return the label of topics whose names begin so."""
        if prefix not in self._known:
            if len(self._known) >= _MAX_LABELS or not _is_plain(prefix):
                return OTHER
            self._known.add(prefix)
        return prefix


def _is_plain(prefix: str) -> bool:
    """Whether it can be in a Snapshot, where commas separate labels, and on the page, which is UTF-8."""
    return 0 < len(prefix) <= _MAX_LENGTH and prefix.isprintable() and "," not in prefix


class TopicCounts:
    """What the topics of one label count."""

    __slots__ = (
        "delivered",
        "dropped",
        "gaps",
        "joined",
        "left",
        "lost",
        "published",
        "recovered",
        "subscribers",
        "updated",
    )

    def __init__(self) -> None:
        self.published = 0  # messages
        self.delivered = 0  # messages, once a subscriber
        self.dropped = 0  # messages, once a subscriber
        self.gaps = 0  # once a subscriber
        self.recovered = 0  # subscriptions from a position on that missed nothing,
        self.lost = 0  # and the others
        self.subscribers = 0  # that there are now
        self.joined = 0  # connections that became members,
        self.left = 0  # that are members no more,
        self.updated = 0  # and that gave another info, or the same again


class Counts:
    """What the topics of one hub count. `lag` is a histogram over SECONDS of the backplane's lag; `requests` are
    those of the clients of `topics.serve()`, by type and result, of which there are few."""

    def __init__(self) -> None:
        self.lag = cells(SECONDS)
        self.clients = 0
        """Those of `topics.serve()` that there are now."""
        self.requests: dict[str, int] = {}
        self._labels = Labels()
        self._by_label: dict[str, TopicCounts] = {}

    def of(self, topic: str) -> TopicCounts:
        """Return where a topic counts."""
        prefix = topic.partition(":")[0]
        found = self._by_label.get(prefix)
        if found is None:
            found = self._by_label.setdefault(self._labels.of(prefix), TopicCounts())
        return found

    def request(self, type: str, result: str) -> None:
        """Count a request."""
        label = f"{type},{result}"
        self.requests[label] = self.requests.get(label, 0) + 1

    def snapshot(self) -> Snapshot:
        """Return all counts by label; `lag` is left to the caller."""
        counted = self._by_label.items()
        resumes = {f"{label},true": each.recovered for label, each in counted}
        return {
            TOPICS_PUBLISHED: {label: each.published for label, each in counted},
            TOPICS_DELIVERED: {label: each.delivered for label, each in counted},
            TOPICS_DROPPED: {label: each.dropped for label, each in counted},
            TOPICS_GAPS: {label: each.gaps for label, each in counted},
            TOPICS_RESUMES: {**resumes, **{f"{label},false": each.lost for label, each in counted}},
            TOPICS_SUBSCRIBERS: {label: each.subscribers for label, each in counted},
            **self._presence(),
            **self._served(),
        }

    def _presence(self) -> Snapshot:
        """Return what was counted of members, where there have been any."""
        joined = [(label, each) for label, each in self._by_label.items() if each.joined]
        if not joined:
            return {}
        changes: dict[str, int] = {}
        for label, each in joined:
            changes |= {f"{label},joined": each.joined, f"{label},left": each.left, f"{label},updated": each.updated}
        members = {label: each.joined - each.left for label, each in joined}
        return {TOPICS_MEMBERS: members, TOPICS_MEMBER_CHANGES: changes}

    def _served(self) -> Snapshot:
        """Return what was counted of clients that subscribe by themselves, if there have been any."""
        if not self.clients and not self.requests:
            return {}
        return {TOPICS_CLIENTS: {"": self.clients}, TOPICS_REQUESTS: dict(self.requests)}


_BY_TOPIC = (
    TOPICS_PUBLISHED,
    TOPICS_DELIVERED,
    TOPICS_DROPPED,
    TOPICS_GAPS,
    TOPICS_RESUMES,
    TOPICS_SUBSCRIBERS,
    TOPICS_MEMBERS,
    TOPICS_MEMBER_CHANGES,
)
"""The families of which `topic` is the first label."""


def bound(snapshot: Mapping[str, Mapping[str, Any]], labels: Labels) -> Snapshot:
    """Return a worker's snapshot with those labels of topics that `labels` gives out."""
    bounded: Snapshot = {name: dict(series) for name, series in snapshot.items()}
    for name in _BY_TOPIC:
        sums: dict[str, Any] = {}
        for values, count in bounded.get(name, {}).items():
            topic, comma, others = values.partition(",")
            label = f"{labels.of(topic)}{comma}{others}"
            sums[label] = sums.get(label, 0) + count
        if sums:
            bounded[name] = sums
    return bounded
