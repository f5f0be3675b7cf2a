"""Which partition a topic is in. All servers that share topics have to agree, those of other versions too."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("redis")

from flowserve.topics.redis.scripts import escape, keys_of
from flowserve.topics.redis.slots import PARTITIONS, partition_of, partition_of_channel, prefix_of


@pytest.mark.parametrize(("topic", "partition"), [("t", 168), ("news", 80), ("room:17", 74), ("\ud800", 40)])
def test_the_partition_of_a_topic_stays(topic, partition):
    assert partition_of(topic) == partition


@pytest.mark.parametrize("topic", ["t", "}", "{", "a}b{3}", "\u00e9", "{0}"])
def test_the_channel_tells_the_partition(topic):
    index = partition_of(topic)
    channel = keys_of(prefix_of("app:", index), escape(topic), "").channel
    assert channel.startswith(b"app:{%d}{" % index)
    assert partition_of_channel(channel) == index


def test_topics_are_spread():
    counted = Counter(partition_of(f"room:{number}") for number in range(100 * PARTITIONS))
    assert len(counted) == PARTITIONS
    assert max(counted.values()) < 200
