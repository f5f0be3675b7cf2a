"""The logs of topics in a stream of JetStream, on one connection.

The stream has a subject for each topic, `PREFIX.log.TOKEN`. A batch is stored only if the last one of its subject is
that which its publisher knows (`Nats-Expected-Last-Subject-Sequence`), so that all batches of a topic follow each
other. JetStream publishes it again as `PREFIX.live.TOKEN` once it is stored, for those who are subscribed.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from flowserve.errors import TopicsError
from flowserve.topics.nats.batch import MALFORMED, PROBE, Batch, Tail, encode_batch, token
from flowserve.topics.nats.client import Received
from flowserve.topics.nats.link import Answered, Link, Unavailable, decode
from flowserve.topics.remote.errors import LinkLost
from flowserve.topics.settings import MIN_KEY_AGE, Retention

NO_STREAM = 10059
_WRONG_SEQUENCE = 10071
"""Numbers of JetStream's errors."""
_NOT_FOUND = "404"
_KNOWN_TOPICS = 4096
"""Topics whose subjects are kept in memory."""
_SECOND = 1_000_000_000


class Conflict(Exception):
    """Somebody else has published a batch before. `seq` is its sequence number, 0 if there is no batch at all."""

    def __init__(self, seq: int) -> None:
        super().__init__(seq)
        self.seq = seq


class Duplicate(NamedTuple):
    """The answer to a batch that was not stored, as its key was used before."""

    seq: int
    """Of the batch that was stored with the key."""


Outcome = int | Duplicate | TopicsError | Conflict
"""What became of a batch; if it was stored, its sequence number."""
Done = Callable[[Outcome], None]


def _outcome(answer: Received) -> Outcome:
    """Return what an answer to a batch means."""
    try:
        found = decode(answer)
        seq = int(found["seq"])
        return Duplicate(seq) if found.get("duplicate") else seq
    except Answered as error:
        if error.code == _WRONG_SEQUENCE:
            said = re.search(r"(\d+)$", str(error))
            return Conflict(int(said[1]) if said else -1)
        return error
    except TopicsError as error:
        return error


class Log:
    """The stream of all topics."""

    def __init__(self, link: Link, prefix: str, max_age: float) -> None:
        """`max_age` is how many seconds the stream keeps what is in it."""
        self.link = link
        self.max_age = max_age
        self._prefix = prefix
        self.subject: Callable[[str], str] = lru_cache(_KNOWN_TOPICS)(lambda topic: f"{prefix}.log.{token(topic)}")

    # As a connection

    @property
    def address(self) -> str:
        """Of the server."""
        return self.link.address

    @property
    def is_lost(self) -> bool:
        """Whether nothing comes or goes on it any more."""
        return self.link.is_lost

    @property
    def reason(self) -> str:
        return self.link.reason

    def abort(self, reason: str) -> None:
        self.link.abort(reason)

    async def ended(self) -> None:
        await self.link.ended()

    # Subjects

    def live_subject(self, topic: str) -> str:
        return f"{self._prefix}.live.{token(topic)}"

    async def check(self) -> None:
        """End the connection if NATS does not answer, or the stream is gone, so that the next one makes it anew."""
        await self.link.ping()
        try:
            await self.link.call(f"$JS.API.STREAM.INFO.{self._prefix}")
        except Answered as error:
            if error.code == NO_STREAM:
                self.link.abort("the stream was deleted")
        except (LinkLost, Unavailable):
            pass  # it may be there again soon

    async def prove(self, retention: Retention) -> None:
        """Do all that will be done, so that a permission that is missing is noticed now. Raises Answered."""
        ignored = await self.link.subscribe(self.live_subject(PROBE), _ignore)
        await self.link.ping()
        if self.link.denied:
            raise Answered(0, self.link.denied)
        await self.link.unsubscribe(ignored)
        tail = await self.tail(PROBE, retention)
        await self.purge(PROBE, tail.seq)

    # Reading

    async def _get(self, **what: Any) -> Batch | None:
        answer = await self.link.request(f"$JS.API.DIRECT.GET.{self._prefix}", json.dumps(what).encode())
        headers = answer.headers
        if "Nats-Sequence" not in headers:
            if headers.get("Status") == _NOT_FOUND:
                return None
            raise Answered(0, headers.get("Description", "something that is no message"))
        try:
            return Batch(int(headers["Nats-Sequence"]), answer.data)
        except MALFORMED as error:
            raise Answered(0, f"what is no batch of messages: {error}") from None

    async def last(self, topic: str) -> Batch | None:
        """Return the last batch of a topic, None if its log is empty."""
        return await self._get(last_by_subj=self.subject(topic))

    async def next(self, topic: str, seq: int) -> Batch | None:
        """Return the first batch of a topic with at least this sequence number."""
        return await self._get(next_by_subj=self.subject(topic), seq=seq)

    async def at(self, seq: int) -> Batch | None:
        """Return the batch with a sequence number, whatever its topic."""
        return await self._get(seq=seq)

    async def tail(self, topic: str, retention: Retention) -> Tail:
        """Return the end of a topic's log, which is begun if there is none."""
        while True:
            batch = await self.last(topic)
            if batch is not None:
                return batch.tail
            try:
                return await self.keep(topic, None, retention)
            except Conflict:
                continue

    # Writing

    def begin_store(self, topic: str, batch: bytes, expected: int, id: str | None, done: Done) -> None:
        """Store a batch behind that with the sequence number `expected`. With an `id` that was used before, store
        nothing. `done` is called with the outcome, a TopicsError or a Conflict."""
        headers = f"Nats-Expected-Last-Subject-Sequence: {expected}\r\n"
        if id is not None:
            headers += f"Nats-Msg-Id: {id}\r\n"
        self.link.ask(self.subject(topic), batch, headers, done, _outcome)

    async def store(self, topic: str, batch: bytes, expected: int, id: str | None = None) -> int | Duplicate:
        """As `begin_store()`. Raises LinkLost, Unavailable, Answered, Conflict."""
        result: asyncio.Future[int | Duplicate] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if result.done():
                return
            if isinstance(outcome, (int, Duplicate)):
                result.set_result(outcome)
            else:
                result.set_exception(outcome)

        self.begin_store(topic, batch, expected, id, done)
        return await result

    async def keep(self, topic: str, tail: Tail | None, retention: Retention) -> Tail:
        """Store a batch without messages, so that the topic's place does not expire, and return the new end. Raises
        Conflict."""
        batch = encode_batch(tail, (), retention)
        stored = await self.store(topic, batch.data, tail.seq if tail else 0)
        assert isinstance(stored, int)  # as it has no key
        return batch.stored(stored, (), 0)[0]

    async def purge(self, topic: str, seq: int) -> None:
        """Remove the batches of a topic up to a sequence number."""
        request = {"filter": self.subject(topic), "seq": seq + 1}
        await self.link.call(f"$JS.API.STREAM.PURGE.{self._prefix}", json.dumps(request).encode())

    async def raise_age(self, age: float) -> None:
        """Have the stream keep batches for at least so many seconds."""
        if age <= self.max_age:
            return
        info = await self.link.call(f"$JS.API.STREAM.INFO.{self._prefix}")
        config = info["config"]
        age = max(age, config["max_age"] / _SECOND)
        config["max_age"] = config["duplicate_window"] = int(age * _SECOND)
        await self.link.call(f"$JS.API.STREAM.UPDATE.{self._prefix}", json.dumps(config).encode())
        self.max_age = age


def _ignore(message: Received) -> None:
    pass


def kept_age(retention: Retention) -> float:
    """Return how many seconds the stream has to keep a topic's batches, which have the keys, too."""
    return max(retention.age, MIN_KEY_AGE)
