"""Which node of a cluster has which topics.

Topics are in a fixed number of partitions. A partition is one hash tag, so that all its topics are in one slot, and one
SSUBSCRIBE can name many of them.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from redis.crc import key_slot

from flowserve.topics.redis.link import Link
from flowserve.topics.remote.errors import Unreachable

PARTITIONS = 256
"""All who share topics have to have the same number."""

Address = tuple[str, int]
"""Host and port of a node."""

_SLOTS = tuple(key_slot(b"%d" % index) for index in range(PARTITIONS))


def partition_of(topic: str) -> int:
    """Return the partition of a topic."""
    return crc32(topic.encode(errors="surrogatepass")) % PARTITIONS


def prefix_of(prefix: str, index: int) -> str:
    """Return what begins the keys and channels of a partition."""
    return f"{prefix}{{{index}}}"


def partition_of_channel(channel: bytes) -> int:
    """Return the partition of a channel."""
    return int(channel[channel.index(b"{") + 1 : channel.index(b"}")])


async def owners(link: Link) -> dict[int, Address]:
    """Return the master of each partition that has one, as a node says. Raises Unreachable if that is cut off from the
    others, or the cluster is down; `hiredis.ReplyError`, LinkLost."""
    info = await link.call("CLUSTER", "INFO")
    if b"cluster_state:ok" not in info:
        raise Unreachable(f"the cluster is down, says Redis at {link.address}")
    masters: dict[int, Address] = {}
    for first, last, master, *_ in await link.call("CLUSTER", "SLOTS"):
        address = _address(master, link)
        masters.update((index, address) for index, slot in enumerate(_SLOTS) if first <= slot <= last)
    return masters


def _address(node: list[Any], link: Link) -> Address:
    """Return where a node is. One without a host is where the node that says so is."""
    host, port = node[0], node[1]
    asked = link.peer[0] if link.peer is not None else ""
    return (host.decode() or asked if host is not None else asked), port
