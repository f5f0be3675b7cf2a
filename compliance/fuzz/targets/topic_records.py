"""What is stored in Redis and NATS of topics, and pushed to those who are subscribed: records and batches.

The first byte says which: what Redis pushes, an entry of its log, or a batch of NATS.

- Only what MALFORMED names is raised.
- Messages follow each other without a hole, and are no longer than what they came in.
- A batch says where it ends, before its messages are read.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from compliance.fuzz.findings import require
from flowserve.topics.message import Message
from flowserve.topics.nats import batch
from flowserve.topics.redis import scripts

MAX_LEN = 2000
_TOPIC = "t"
_EPOCH = "0123456789abcdef"


def observe(data: bytes) -> Any:
    if not data:
        return None
    which, rest = data[0] % 3, data[1:]
    try:
        messages = _messages(which, rest)
    except (*batch.MALFORMED, *scripts.MALFORMED) as error:
        return type(error).__name__
    require(sum(len(each.data) for each in messages) <= len(rest), "messages are longer than what they came in")
    places = [each.place for each in messages if each.place is not None]
    require(len(places) == len(messages), "a message without a place")
    for one, next_one in pairwise(places):
        require(next_one.offset == one.offset + 1 and next_one.epoch == one.epoch, "a hole", one, next_one)
    return [(tuple(each.place or ()), each.data, int(each.kind), each.origin, each.published_at) for each in messages]


def _messages(which: int, data: bytes) -> list[Message]:
    if which == 0:
        return [*scripts.decode_pushed(_TOPIC, data)]
    if which == 1:
        return [*scripts.decode_log(_TOPIC, _EPOCH, 1, [data])]
    read = batch.Batch(7, data)
    messages = [*read.messages(_TOPIC)]
    require(read.tail.place.offset == read.before.offset + len(messages), "a batch that ends elsewhere", read.tail)
    return messages
