"""The declaration of the options of topics."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from flowserve.config.kinds import KIB, MIB, Kind, duration, number, optional, size, text
from flowserve.config.option import option
from flowserve.config.tls import TLSOptions
from flowserve.grammar import without_passwords

BACKPLANES = "flowserve.backplanes"
"""The group of entry points by which packages bring backplanes, each by the scheme of its URLs."""

TOPICS = "Topics (publish and subscribe)"


_SCHEMES = (
    *("memory", "redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel"),
    *("redis+cluster", "rediss+cluster", "nats", "tls"),
    *("broker", "alone"),
)
"""Of URLs; the last two are set by the supervisor, for its workers, and by the worker class for gunicorn."""


def _url() -> Kind:
    """A URL of one of `_SCHEMES`."""
    plain = text(metavar="URL")

    def parse(value: Any) -> str:
        url = str(plain.parse(value))
        scheme, colon, _ = url.partition(":")
        if not colon or (scheme not in _SCHEMES and not entry_points(group=BACKPLANES, name=scheme)):
            raise ValueError(
                f"{without_passwords(url)!r} names no backplane; write redis://HOST, nats://HOST or memory:"
            )
        return url

    return dataclasses.replace(plain, parse=parse)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicsOptions(TLSOptions):
    """The part of `Config` for `flowserve.topics`, over that for TLS: classes with slots have one base."""

    topics_url: str | None = option(
        None,
        optional(_url()),
        TOPICS,
        "What carries messages to other machines: redis://HOST, rediss://HOST, redis+sentinel://HOST,HOST/SERVICE,"
        " redis+cluster://HOST,HOST, nats://HOST,HOST, tls://HOST."
        " Without it they reach all workers of this server.",
        secret=True,
    )
    topics_history: int = option(
        100, number(0), TOPICS, "Most messages of a topic that are kept, so that clients can resume; 0 keeps none."
    )
    topics_history_size: int = option(256 * KIB, size(), TOPICS, "Most bytes of a topic's messages that are kept.")
    topics_history_age: float = option(300.0, duration(), TOPICS, "Time for which a message is kept.")
    topics_max_topics: int = option(
        100_000, number(1), TOPICS, "Topics that are kept; then the one that was not used for longest is forgotten."
    )
    topics_max_memory: int = option(
        1024 * MIB, size(), TOPICS, "Most bytes of all topics' messages that are kept; then the oldest are forgotten."
    )
    topics_max_name: int = option(200, number(1), TOPICS, "Most characters of a topic's name.")
    topics_max_size: int = option(1 * MIB, size(), TOPICS, "Largest message that can be published.")
    topics_max_per_connection: int = option(100, number(1), TOPICS, "Most topics that a connection subscribes to.")
    topics_max_pending: int = option(
        1 * MIB, size(), TOPICS, "Most bytes that wait for a slow subscriber; then it goes on from the history later."
    )
