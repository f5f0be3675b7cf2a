"""Reading the log of a topic from JetStream."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flowserve.topics.backplane import Reading
from flowserve.topics.message import Message
from flowserve.topics.nats.batch import Batch, Tail, seq_of
from flowserve.topics.nats.log import Log
from flowserve.topics.position import BEGINNING, Place
from flowserve.topics.settings import Retention


async def read(log: Log, topic: str, after: Place, retention: Retention) -> Reading:
    """Return what is kept of a topic after a place; see `Backplane.read()`. `retention` is for a log that is begun."""
    tail = await log.tail(topic, retention)
    if after == tail.place or (after == BEGINNING and not tail.place.offset):
        return Reading(True, (), tail.place, tail.place)
    begin = seq_of(after) if after.epoch == tail.place.epoch else 0
    batches = await _batches(log, topic, begin or 1, tail)
    found = _reading(topic, batches, after, tail)
    if found is None and begin > 1:
        batches = await _batches(log, topic, 1, tail)
        found = _reading(topic, batches, after, tail)
    return found or _incomplete(topic, batches, after, tail)


async def _batches(log: Log, topic: str, seq: int, tail: Tail) -> list[Batch]:
    """Return the batches from a sequence number on, as far as they follow each other without a hole to the tail."""
    found: list[Batch] = []
    while seq <= tail.seq:
        batch = await log.next(topic, seq)
        if batch is None or batch.seq > tail.seq:
            break
        if found and batch.before != found[-1].tail.place:
            found.clear()
        found.append(batch)
        seq = batch.seq + 1
    return found if found and found[-1].tail.place == tail.place else []


def _kept(topic: str, batches: Sequence[Batch], tail: Tail) -> tuple[Place, list[Message]]:
    """Return the messages that are kept, and the place before them."""
    if not batches:
        return tail.place, []
    start = batches[0].before
    messages = [message for batch in batches for message in batch.messages(topic)]
    limits, oldest = tail.retention, time.time() - tail.retention.age
    size, first = 0, len(messages)
    while first:
        message = messages[first - 1]
        size += len(message.data)
        if len(messages) - first >= limits.messages or size > limits.size or message.published_at < oldest:
            break
        first -= 1
    if first and (last := messages[first - 1].place) is not None:
        start = last
    return start, messages[first:]


def _reading(topic: str, batches: Sequence[Batch], after: Place, tail: Tail) -> Reading | None:
    """Return the reading if no message after the place is missing."""
    start, messages = _kept(topic, batches, tail)
    if after == start or (after == BEGINNING and not start.offset):
        return Reading(True, messages, tail.place, start)
    for index, message in enumerate(messages):
        if message.place == after:
            return Reading(True, messages[index + 1 :], tail.place, after)
    return None


def _incomplete(topic: str, batches: Sequence[Batch], after: Place, tail: Tail) -> Reading:
    """Return the reading if some are missing. Never return a message that a reader at the place may have had: in a log
    that was rolled back since, those up to its offset; all of an epoch that is older than that of the place."""
    start, messages = _kept(topic, batches, tail)
    if after.epoch == tail.place.epoch:
        skipped = sum(message.place is not None and message.place.offset <= after.offset for message in messages)
    elif after != BEGINNING and (not after.epoch or after.epoch > tail.place.epoch):
        skipped = len(messages)
    else:
        skipped = 0
    if skipped and (place := messages[skipped - 1].place) is not None:
        start = place
    return Reading(False, messages[skipped:], tail.place, start)
