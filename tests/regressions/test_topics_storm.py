"""The storm of compliance.topics: all clients come back in a moment, and get what they have missed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # compliance is not installed

from compliance.topics import stores, storm  # noqa: E402
from compliance.topics.storm_client import StormClient  # noqa: E402
from flowserve.topics.counts import TopicCounts  # noqa: E402
from flowserve.topics.message import Kind, Message  # noqa: E402
from flowserve.topics.position import Place  # noqa: E402

QUICK = storm.Storm(clients=500, seconds=0.3, topics=5, missed=10, rate=200)


@pytest.mark.parametrize("kind", ["", "redis"])
def test_all_clients_get_what_they_have_missed(kind: str) -> None:
    if missing := stores.missing(kind):
        pytest.skip(missing)
    outcome = storm.run(QUICK, kind)
    assert not outcome.violations
    assert outcome.recovered == QUICK.clients
    assert 0 < outcome.reads <= QUICK.clients
    assert outcome.delivered >= QUICK.clients  # half of what they have missed would be five times as many


def test_all_at_once_share_their_reads() -> None:
    outcome = storm.run(storm.Storm(clients=500, seconds=0.0, topics=1, missed=10, rate=1), "")
    assert not outcome.violations
    assert outcome.reads < 500 / 2


@pytest.mark.parametrize(("offsets", "wrong"), [((1, 2), False), ((1, 3), True), ((1, 1, 2), True), ((1,), True)])
def test_the_client_sees_what_is_lost_doubled_or_swapped(offsets: tuple[int, ...], wrong: bool) -> None:
    client, counts = StormClient("t"), TopicCounts()
    client.begin("e.0.c")
    for offset in offsets:
        client.deliver(Message("t", b"", Kind.TEXT, Place("e", offset, "c")), counts)
    assert bool(client.verdict({"t": 2})) == wrong
