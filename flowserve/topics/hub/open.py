"""Makes a hub with the backplane that a URL names, or what looks into it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from flowserve.config.topics import BACKPLANES
from flowserve.errors import ConfigError
from flowserve.logs.loggers import logger
from flowserve.topics.backplane import Backplane
from flowserve.topics.counts import Counts
from flowserve.topics.hub.hub import Hub
from flowserve.topics.local.memory import MemoryBackplane
from flowserve.topics.remote.inspection import Inspector
from flowserve.topics.settings import Settings

BROKER = "broker:"
"""Begins the URL of a supervisor's broker; its path follows."""
ALONE = "alone:"
"""The URL of a worker that is not connected to the others which serve the same clients."""


def reaches_machines(url: str | None) -> bool:
    """Return whether a URL names a backplane that connects several machines."""
    return url is not None and (url.startswith(("redis", "nats:", "tls:")) or _of_package(url) is not None)


def _of_package(url: str) -> Callable[[str, Settings], Backplane] | None:
    """Return what makes the backplane of a URL, if a package brings one."""
    scheme = url.partition(":")[0]
    for found in entry_points(group=BACKPLANES, name=scheme):
        made: Callable[[str, Settings], Backplane] = found.load()
        return made
    return None


def open_hub(url: str | None, settings: Settings, counts: Counts | None = None) -> Hub:
    """Return a hub, which opens its backplane when it is first used. `counts` as for Hub. Raises ConfigError for a URL
    that names no backplane."""
    return Hub(open_backplane(url, settings), settings, counts)


def open_backplane(url: str | None, settings: Settings) -> Backplane:
    """Return the backplane that a URL names. Raises ConfigError."""
    if url == ALONE:
        logger.warning(
            "Topics: each worker has its own, so that what is published in one does not reach those who are subscribed"
            " in the others; set FLOWSERVE_TOPICS_URL=redis://HOST"
        )
    if url in (None, "memory:", ALONE):
        return MemoryBackplane(settings)
    if url.startswith(BROKER):
        from flowserve.topics.local.siblings import SiblingsBackplane

        return SiblingsBackplane(url.removeprefix(BROKER))
    if url.startswith("redis"):
        from flowserve.topics.redis.url import parse_url

        redis_url = parse_url(url)  # first, as it says what to install
        if redis_url.cluster:
            from flowserve.topics.redis.cluster import ClusterBackplane

            return ClusterBackplane(redis_url)
        from flowserve.topics.redis.backplane import RedisBackplane

        return RedisBackplane(redis_url)
    if url.startswith(("nats:", "tls:")):
        from flowserve.topics.nats.url import parse_url as parse_nats_url

        nats_url = parse_nats_url(url)
        from flowserve.topics.nats.backplane import NATSBackplane

        return NATSBackplane(nats_url, settings)
    made = _of_package(url)
    if made is not None:
        return made(url, settings)
    raise ConfigError(
        f"--topics-url: {url.partition(':')[0]}: is not known; write memory:, redis:, rediss:, redis+sentinel:,"
        " redis+cluster:, nats: or tls:"
    )


def open_inspector(url: str) -> Inspector:
    """Return what looks into the server that a URL names. Raises ConfigError for a URL that is wrong, or names no Redis
    or NATS."""
    if url.startswith("redis"):
        from flowserve.topics.redis.url import parse_url

        redis_url = parse_url(url)  # first, as it says what to install
        if redis_url.cluster:
            from flowserve.topics.redis.cluster_inspection import ClusterInspector

            return ClusterInspector(redis_url)
        from flowserve.topics.redis.inspection import RedisInspector

        return RedisInspector(redis_url)
    if url.startswith(("nats:", "tls:")):
        from flowserve.topics.nats.url import parse_url as parse_nats_url

        nats_url = parse_nats_url(url)
        from flowserve.topics.nats.inspection import NATSInspector

        return NATSInspector(nats_url)
    scheme = url.partition(":")[0]
    raise ConfigError(
        f"{scheme}: can't be looked into; write redis:, rediss:, redis+sentinel:, redis+cluster:, nats: or tls:"
    )
