"""Which node of a cluster has which topics.

Topics are in a fixed number of partitions. A partition is one hash tag, so that all its topics are in one slot, and one
SSUBSCRIBE can name many of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from zlib import crc32

import hiredis
from redis.crc import key_slot

from flowserve.errors import TopicsError
from flowserve.topics.redis.connect import Connector
from flowserve.topics.redis.link import Link
from flowserve.topics.redis.url import RedisURL
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


async def find_owners(url: RedisURL, links: Iterable[Link], addresses: Iterable[Address] = ()) -> dict[int, Address]:
    """Return what the first node says that can: of those at the other end of `links`, those that the URL names, and
    those at `addresses`. Raises Unreachable, Refused."""
    problems: list[str] = []
    for link in links:
        try:
            return await asyncio.wait_for(owners(link), url.timeout)
        except (TopicsError, hiredis.ReplyError, asyncio.TimeoutError) as error:
            problems.append(str(error) or f"{link.address} does not answer")
    for address in dict.fromkeys((*url.addresses, *addresses)):
        try:
            return await Connector(replace(url, addresses=(address,))).ask(owners)
        except Unreachable as error:
            problems.append(str(error))
    raise Unreachable(f"no node of the Redis cluster says where topics are: {'; '.join(dict.fromkeys(problems))}")


def _address(node: list[Any], link: Link) -> Address:
    """Return where a node is. One without a host is where the node that says so is."""
    host, port = node[0], node[1]
    asked = link.peer[0] if link.peer is not None else ""
    return (host.decode() or asked if host is not None else asked), port
