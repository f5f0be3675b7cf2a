"""One partition of the topics in a cluster: it follows its slot from node to node.

Theory of operation. A partition has what a single server has: a publisher, and subscriptions. They are told of the
connection to the slot's node as of one of their own (`View`), which ends when

- the connection is lost, as with a single server;
- a command or a subscription is answered MOVED, ASK, TRYAGAIN or CLUSTERDOWN, or the node ends a subscription by
  itself, as it does when the slot has moved: then all answers that are due are waited for; or
- the slot is another node's. Whatever is answered from then on counts as not answered.

When the backplane knows the slot's node, they are told of a new view. What was not answered is sent again, with the
same number: the key that remembers it moves with the slot, so that it is applied once. The subscriptions' heads show
what was missed. While a slot is moved key by key, Redis answers TRYAGAIN to publishers of topics whose keys are not
all in one place, and nothing is published on the other node before the slot is that node's: ASK is never followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from flowserve.errors import TopicsError
from flowserve.topics.backplane import Receiver
from flowserve.topics.redis.connect import MOVES, code_of
from flowserve.topics.redis.link import Answer, Link
from flowserve.topics.redis.publisher import Publisher, Shared
from flowserve.topics.redis.slots import PARTITIONS, prefix_of
from flowserve.topics.redis.subscriptions import Subscriptions
from flowserve.topics.remote.errors import LinkLost
from flowserve.topics.remote.reconnector import GRACE
from flowserve.transport.waiters import add_waiter, wake

_OF_SLOT = MOVES | {"CLUSTERDOWN"}
"""Codes of errors that say nothing of the connection."""


class View:
    """The connection to a node, as one partition uses it."""

    def __init__(self, link: Link, on_answer: Callable[[], None], on_moved: Callable[[], None]) -> None:
        """`on_answer` is called for each answer that is no error, `on_moved` when it is of no use any more."""
        self.link = link
        self.ended = False  # its answers are of no use any more
        self._moved = ""  # why it ends when all answers that are due have come
        self._due = 0
        self._on_answer = on_answer
        self._on_moved = on_moved

    @property
    def paused(self) -> bool:
        return self.link.paused

    @property
    def retired(self) -> bool:
        return self.ended or bool(self._moved) or self.link.retired

    def run(self, commands: Sequence[bytes], answers: Sequence[Answer]) -> None:
        self._due += len(answers)
        self.link.run(commands, [partial(self._answered, answer) for answer in answers])

    def subscribe(self, channels: Sequence[bytes], failed: Answer) -> None:
        self.link.subscribe(channels, partial(self._failed, failed))

    def unsubscribe(self, channels: Sequence[bytes], failed: Answer) -> None:
        self.link.unsubscribe(channels, partial(self._failed, failed))

    def _answered(self, answer: Answer, given: Any) -> None:
        if self.ended:
            given = LinkLost("its slot has moved")  # another view sends it again
        elif not isinstance(given, Exception):
            self._on_answer()
        answer(given)
        self._due -= 1
        if self._moved:
            self._end()

    def _failed(self, failed: Answer, error: Any) -> None:
        if not self.ended:
            failed(error)

    def _end(self) -> None:
        if self._moved and not self._due and not self.ended:
            self._on_moved()

    def retire(self, reason: str) -> None:
        if code_of(reason) not in _OF_SLOT:
            self.link.retire(reason)
        elif not self.ended:
            self._moved = self._moved or reason
            self._end()


class Partition:
    """The topics of one partition."""

    def __init__(
        self, index: int, prefix: str, name: str, shared: Shared, receiver: Receiver, on_lost: Callable[[], None]
    ) -> None:
        """`prefix` is that of the whole cluster, `name` that of the producer. `on_lost` is called when it has no
        connection any more to a node that has it."""
        self.index = index
        self.prefix = prefix_of(prefix, index)
        self.publisher = Publisher(self.prefix, name, PARTITIONS, shared)
        self.subscriptions = Subscriptions(self.prefix, receiver)
        self.view: View | None = None
        self._on_lost = on_lost
        self._given_up = False
        self._overdue = False  # no answer but errors for GRACE seconds
        self._giving_up: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] | None = None  # of those who wait for a view
        self._loop = asyncio.get_running_loop()

    def attach(self, link: Link) -> None:
        """Go on with a connection to the node that has it."""
        self.view = View(link, self._cancel_giving_up, self.detach)
        self._given_up = False
        self.subscriptions.up(self.view)
        self.publisher.up(self.view)
        self._wake()

    def detach(self) -> None:
        """Wait for the next connection."""
        view, self.view = self.view, None
        if view is None:
            return
        self.subscriptions.leave()
        view.ended = True
        self.subscriptions.down()
        self.publisher.down()
        self._on_lost()
        if self._giving_up is None:
            self._giving_up = self._loop.call_later(GRACE, self._on_grace_over)
        elif self._overdue:
            self._loop.call_soon(self.give_up)

    def moved(self) -> None:
        """Note that its node says that it does not have it, or not for long."""
        if self.view is not None:
            self.view.retire("MOVED")

    def _on_grace_over(self) -> None:
        if self.view is None:
            self.give_up()
        else:
            self._overdue = True  # an answer is due, which says whether what was sent was published

    def give_up(self) -> None:
        """Let nobody wait, until there is a connection."""
        self.detach()
        self._cancel_giving_up()
        self._given_up = True
        self.subscriptions.give_up()
        self.publisher.give_up()
        self._wake()

    async def connected(self) -> View:
        """Return the view, or the next one. Raises TopicsError if there is none for long."""
        while self.view is None or self.view.retired or self.view.link.is_lost:
            if self._given_up:
                raise TopicsError("the node of the Redis cluster that has the topic can't be reached")
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters = add_waiter(self._waiters, waiter)
            await waiter
        return self.view

    def _cancel_giving_up(self) -> None:
        self._overdue = False
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        wake(waiters)
