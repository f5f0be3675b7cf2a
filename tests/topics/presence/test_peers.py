"""What is held of members, in their own process and in others."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

from flowserve.topics.presence.entries import Entry
from flowserve.topics.presence.limits import Limits
from flowserve.topics.presence.outgoing import Outgoing
from flowserve.topics.presence.peers import Peer, Replica
from flowserve.topics.presence.protocol import Statement, decode, encode
from flowserve.topics.presence.roster import Roster

COUNT = 10_000
INFO = '{"name":"Ada Lovelace","avatar":"https://example.com/avatars/1.png"}'


def held_by(work: Callable[[], object]) -> float:
    """Bytes a member that are held after some work."""
    tracemalloc.start()
    try:
        kept = work()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept
    return size / COUNT


def full_roster() -> Roster:
    roster = Roster()
    for number in range(COUNT):
        roster.join("t", object(), f"member-{number}", INFO[:-1] + " }", 1e9 + number)
    return roster


def test_memory_of_ten_thousand_members() -> None:
    """Less than 1 KB a member, in its own process and in each that follows."""
    outgoing = Outgoing("process", Limits(), full_roster(), lambda topic: COUNT)
    outgoing.whole(["t"])
    messages = [encode(each) for each in outgoing.take([])]

    def take() -> Replica:
        replica = Replica()
        for each in messages:
            packet = decode(each)
            assert packet is not None
            replica.take("t", packet.topics["t"], COUNT, lambda topic, ids: None)
        assert len(replica.entries) == replica.shown == COUNT
        return replica

    own, elsewhere = held_by(full_roster), held_by(take)
    assert 100 < own < 1024
    assert 100 < elsewhere < 1024


def entry(connections: int = 1) -> Entry:
    return Entry("null", 1.0, 1.0, connections)


def test_what_a_whole_statement_does_not_name_is_gone() -> None:
    """Also one in several messages, between which nobody seems to leave."""
    replica, noted = Replica(), list[str]()

    def take(statement: Statement) -> None:
        replica.take("t", statement, 10, lambda topic, ids: noted.extend(ids))

    take(Statement(0, 3, {"a": entry(), "b": entry(), "c": entry()}))
    take(Statement(0, 3, {"a": entry(2)}, begins=True))
    assert set(replica.entries) == {"a", "b", "c"}
    take(Statement(0, 3, {"d": entry()}, ends=True))
    assert (set(replica.entries), replica.shown) == ({"a", "d"}, 3)
    assert noted == ["a", "b", "c", "a", "d", *[each for each in noted[5:] if each in "bc"]]
    assert len(noted) == 7
    take(Statement(0, 1, {"a": None, "x": None}))
    assert (set(replica.entries), replica.shown) == ({"d"}, 1)


def test_no_more_than_there_is_room_for() -> None:
    replica = Replica()
    replica.take("t", Statement(0, 5, {str(n): entry() for n in range(5)}), 3, lambda topic, ids: None)
    replica.take("t", Statement(0, 5, {"0": entry(), "9": entry()}), 0, lambda topic, ids: None)
    assert (sorted(replica.entries), replica.connections) == (["0", "1", "2"], 5)


def test_numbers() -> None:
    peer = Peer(3, 0.0)
    assert peer.follow(3, says_nothing=True)
    assert peer.follow(4, says_nothing=False)
    assert not peer.lagging
    assert not peer.follow(4, says_nothing=False), "it came again"
    assert peer.follow(6, says_nothing=False)
    assert peer.lagging
    peer.asked = 8
    peer.answer(7)
    assert peer.lagging
    peer.answer(8)
    assert not peer.lagging
    assert peer.follow(7, says_nothing=True)
    assert peer.lagging, "a heartbeat shows what was lost"
