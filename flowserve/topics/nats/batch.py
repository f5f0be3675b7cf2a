# cython: language_level=3, annotation_typing=False, binding=False
"""What the NATS backplane stores in JetStream: messages of one topic, in batches.

A batch is one message in JetStream. It says where it stands in the topic, so that the batch before it and the first
message need not be there any more to tell the offset of each message, and whether one is missing:

- the epoch of the log; offset and check of the message before this batch, and the sequence number of that one's batch;
- when it was published, in milliseconds since the epoch of UNIX, by the publisher's clock;
- what is kept of the topic from now on: messages, bytes, milliseconds;
- the bytes of all messages before it, and the sequence number of the batch before it, which may have no messages;
- its mark: sequence number, offset and bytes at an earlier batch. Behind it lies at most as much as is kept (and a
  batch). When it is more, a batch gets the one before it as its mark, and what lies before the mark until then is not
  needed any more: whoever has published the batch purges it.

Then come the records: each is its own length, a random check (8 hexadecimal digits), the kind, the length of the
origin, the origin, and the data. A batch without records keeps the place of a topic in which nothing is published. All
numbers are big-endian.

The check of a message's Place is that of its record, and the sequence number of its batch: so it says where to read on.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import getrandbits
from typing import NamedTuple
from urllib.parse import quote, unquote

from flowserve.topics.message import Kind, Message, kind_of
from flowserve.topics.position import Place
from flowserve.topics.position import place_of as place_with
from flowserve.topics.settings import Retention

_HEAD = struct.Struct(">16sQ8sQQQQQQQQQQ")
_RECORD = struct.Struct(">I8sBB")
_CHECK_SIZE = 8
_FIRST_CHECK = "0" * _CHECK_SIZE
_LEAST_WINDOW = Retention(100, 1 << 16, 0.0)
"""Behind a mark, so that not each message purges another where little is kept."""

_KNOWN_TOKENS = 4096
"""Topics whose tokens are kept in memory."""

HEAD_SIZE = _HEAD.size
MALFORMED = (struct.error, ValueError, IndexError)
"""What decoding raises for what another program has written."""

PROBE = ""
"""The name of a topic that nobody can have."""
_PROBE_TOKEN = "%"

_EPOCH, _CHECK = re.compile("[0-9a-f]{16}"), re.compile("[0-9a-f]{9,24}")


class Mark(NamedTuple):
    """A point in a topic's log."""

    seq: int
    offset: int
    size: int
    """Bytes of all messages up to it."""


class Tail(NamedTuple):
    """What is to be known of the last batch to publish the next one."""

    seq: int
    """Its sequence number in the stream."""
    place: Place
    """That of the last message, which may be in an earlier batch."""
    size: int
    mark: Mark
    retention: Retention


class Batch:
    """A batch that was read."""

    def __init__(self, seq: int, data: bytes) -> None:
        """Raises one of MALFORMED."""
        (epoch, offset, check, before_seq, time, messages, size, age, before_size, expected, *mark) = _HEAD.unpack_from(
            data
        )
        self.seq = seq
        self.data = data
        self.before = place_of(epoch.decode(), offset, check.decode(), before_seq)
        self.expected = expected  # the sequence number of the batch before it
        self.published_at = time / 1000
        self.before_size = before_size  # bytes of all messages before it
        count, end = 0, HEAD_SIZE
        last, total = check.decode(), before_size
        for start, end, origin in self._records():
            count += 1
            last = data[start + 4 : start + 4 + _CHECK_SIZE].decode()
            total += end - origin
        place = place_of(epoch.decode(), offset + count, last, seq) if count else self.before
        self.tail = Tail(seq, place, total, Mark(*mark), Retention(messages, size, age / 1000))

    def _records(self) -> Iterator[tuple[int, int, int]]:
        """Yield where each record starts and ends, and where its data begins."""
        start = HEAD_SIZE
        while start < len(self.data):
            size, _, _, sender = _RECORD.unpack_from(self.data, start)
            begin, end = start + _RECORD.size + sender, start + size
            if not begin <= end <= len(self.data):
                raise ValueError("it is cut off")
            yield start, end, begin
            start = end

    def messages(self, topic: str) -> Iterator[Message]:
        """Yield its messages."""
        epoch, offset = self.before.epoch, self.before.offset
        for start, end, begin in self._records():
            offset += 1
            _, check, kind, _ = _RECORD.unpack_from(self.data, start)
            place = place_of(epoch, offset, check.decode(), self.seq)
            origin = self.data[start + _RECORD.size : begin].decode()
            yield Message(topic, self.data[begin:end], kind_of(kind), place, origin, self.published_at)

    def begins_with(self, records: Sequence[bytes]) -> bool:
        """Whether these are its records."""
        return self.data[HEAD_SIZE:] == b"".join(records)


def place_of(epoch: str, offset: int, check: str, seq: int) -> Place:
    """Return the place of a message."""
    return place_with(epoch, offset, f"{check}{seq:x}")


def seq_of(place: Place) -> int:
    """Return the sequence number of the batch of the message at a place, 0 if it can't be one of NATS: it may come from
    a client."""
    if not _EPOCH.fullmatch(place.epoch) or not _CHECK.fullmatch(place.check):
        return 0
    return int(place.check[_CHECK_SIZE:], 16)


def encode_record(data: bytes, kind: Kind, origin: str, check: str) -> bytes:
    """Return a record. `check` has 8 hexadecimal digits."""
    sender = origin.encode()[:255]
    size = _RECORD.size + len(sender) + len(data)
    return _RECORD.pack(size, check.encode(), kind, len(sender)) + sender + data


class NewBatch:
    """A batch that is not stored yet."""

    __slots__ = ("before", "before_size", "data", "mark", "obsolete", "retention")

    def __init__(
        self, data: bytes, obsolete: int, before: Place, before_size: int, mark: Mark, retention: Retention
    ) -> None:
        """`obsolete` is the sequence number up to which the log can be purged once it is stored, 0 for none."""
        self.data = data
        self.obsolete = obsolete
        self.before = before
        self.before_size = before_size
        self.mark = mark
        self.retention = retention

    def stored(self, seq: int, checks: Sequence[str], size: int) -> tuple[Tail, list[Place]]:
        """Return the end of the log and the places of its messages, now that it has a sequence number, given the checks
        of its records and the bytes of its messages."""
        epoch, offset, _ = self.before
        shown = f"{seq:x}"
        places = []
        for check in checks:
            offset += 1
            places.append(place_with(epoch, offset, check + shown))
        last = places[-1] if places else self.before
        tail = tuple.__new__(Tail, (seq, last, self.before_size + size, self.mark, self.retention))  # in half the time
        return tail, places


def encode_batch(tail: Tail | None, records: Sequence[bytes], retention: Retention) -> NewBatch:
    """Return the batch that follows `tail`, None for an empty log. Without records it keeps the topic's place."""
    now = int(time.time() * 1000)
    if tail is None:
        epoch = f"{now:011x}{getrandbits(20):05x}"
        tail = Tail(0, place_of(epoch, 0, _FIRST_CHECK, 0), 0, Mark(0, 0, 0), retention)
    tail_seq, place, tail_size, mark, _ = tail
    epoch, offset, last = place
    (messages, size), kept = _window(retention)
    mark_seq, mark_offset, mark_size = mark
    obsolete = 0
    if offset - mark_offset >= messages or tail_size - mark_size >= size:
        mark, obsolete = Mark(tail_seq, offset, tail_size), mark_seq
    check, seq = last[:_CHECK_SIZE].encode(), int(last[_CHECK_SIZE:], 16)
    head = _HEAD.pack(epoch.encode(), offset, check, seq, now, *kept, tail_size, tail_seq, *mark)
    return NewBatch(b"".join([head, *records]), obsolete, place, tail_size, mark, retention)


@lru_cache
def _window(retention: Retention) -> tuple[tuple[int, int], tuple[int, int, int]]:
    """Return the messages and bytes behind a mark, and what is kept, as a batch says it."""
    messages, size, age = retention
    window = (max(messages, _LEAST_WINDOW.messages), max(size, _LEAST_WINDOW.size))
    return window, (messages, size, max(1, int(age * 1000)))


@lru_cache(_KNOWN_TOKENS)
def token(topic: str) -> str:
    """Return a topic's name as one token of a NATS subject, which has no dots, wildcards or spaces."""
    return quote(topic, safe=":@!$&'()+,;=/").replace(".", "%2E") or _PROBE_TOKEN


def topic_of(token: str) -> str:
    """Return the topic whose name is a token, "" for PROBE."""
    return PROBE if token == _PROBE_TOKEN else unquote(token)
