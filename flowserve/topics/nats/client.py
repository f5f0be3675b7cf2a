"""The client of nats-py, with a short way for messages.

nats-py has a queue and a task for each subscription, and reads headers as those of a mail. Here whoever is subscribed
is called at once, in the order in which messages come, so that a message takes half of the CPU time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

_HEAD = "NATS/1.0"


class Received:
    """A message that has come."""

    __slots__ = ("_raw", "data", "subject")

    def __init__(self, subject: str, data: bytes, raw: bytes | None) -> None:
        """`raw` are its headers, if it has some."""
        self.subject = subject
        self.data = data
        self._raw = raw

    @property
    def headers(self) -> dict[str, str]:
        """Its headers, and as `Status` and `Description` what stands before them."""
        if not self._raw:
            return {}
        line, *lines = self._raw.decode(errors="replace").split("\r\n")
        status, _, description = line.removeprefix(_HEAD).strip().partition(" ")
        found = {"Status": status, "Description": description} if status else {}
        for each in lines:
            name, colon, value = each.partition(":")
            if colon:
                found[name.strip()] = value.strip()
        return found


Take = Callable[[Received], None]


class ShortClient(Client):
    """A client."""

    def send(self, subject: str, reply: str, data: bytes, headers: dict[str, str]) -> None:
        """Publish a message. The headers have no line breaks. Raises `nats.errors.Error`, OSError."""
        if not self.is_connected:
            raise nats.errors.ConnectionClosedError
        if len(data) > self._max_payload:
            raise nats.errors.MaxPayloadError
        if headers:
            lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
            size = len(lines) + 12
            head = f"HPUB {subject} {reply} {size} {size + len(data)}\r\n{_HEAD}\r\n{lines}\r\n"
        else:
            head = f"PUB {subject} {reply} {len(data)}\r\n"
        command = b"%b%b\r\n" % (head.encode(), data)
        self._pending.append(command)
        self._pending_data_size += len(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    async def listen(self, subject: str, take: Take) -> Subscription:
        """Subscribe. Raises `nats.errors.Error`, OSError."""

        async def callback(message: Msg) -> None:
            """Stands for `take` at the client, which wants a coroutine function."""

        callback.take = take  # type: ignore[attr-defined]
        return await self.subscribe(subject, cb=callback)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        """Take a message, as the client's parser calls this."""
        subscription = self._subs.get(sid)
        if subscription is None:
            return
        take: Take = subscription._cb.take  # type: ignore[union-attr]
        try:
            take(Received(subject.decode(), data, headers))
        except Exception as error:  # which would end the client's loop that reads
            await self._error_cb(error)
