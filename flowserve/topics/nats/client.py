"""The client of nats-py, with a short way for messages.

nats-py has a queue and a task for each subscription, and reads headers as those of a mail. Here whoever is subscribed
is called at once, in the order in which messages come, which takes a third of the CPU time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

_HEAD = "NATS/1.0"
_WITH_HEADERS = b"HMSG"
_MESSAGES = b"MSG ", b"HMSG "
_END = b"\r\n"
_COPIED = 1 << 16
"""Bytes of what has come, up to which it is copied to be cut up."""


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

_NEVER = re.compile(rb"(?!)")


def _ignore(match: re.Match[bytes]) -> None:
    pass


class _ShortParser(Parser):
    """Passes on messages that have come as a whole; all else is left to nats-py's."""

    nc: ShortClient

    async def parse(self, data: bytes = b"") -> None:
        """Take what has come, as the client's loop that reads calls this. Raises `nats.errors.ProtocolError`."""
        buffer = self.buf
        buffer += data
        if self.state == AWAITING_CONTROL_LINE:
            for error in self._take_messages(buffer):
                await self.nc._error_cb(error)
        if buffer and not buffer.startswith(_MESSAGES):
            await super().parse()

    def _take_messages(self, buffer: bytearray) -> list[Exception]:
        """Pass on the messages that a buffer begins with, and return what was raised."""
        errors, at = list[Exception](), 0
        data = bytes(buffer) if len(buffer) <= _COPIED else buffer  # what is cut out of bytes is not copied again
        expected = self.nc.expected
        while True:
            if (match := expected(data, at)) is not None and len(match[3]) == int(match[2]):
                at = match.end()
                try:
                    self.nc.take_expected(match)
                except Exception as error:
                    errors.append(error)
                continue
            if not data.startswith(_MESSAGES, at) or (line_end := data.find(_END, at)) < 0:
                break
            begin = start = line_end + len(_END)
            try:
                words = data[at:line_end].split()
                if words[0] == _WITH_HEADERS:
                    start += int(words[-2])
                end, sid, subject = begin + int(words[-1]), int(words[2]), words[1]
            except (ValueError, IndexError):
                raise nats.errors.ProtocolError from None
            if not begin <= start <= end:
                raise nats.errors.ProtocolError
            if len(data) < end + len(_END):
                break
            try:
                headers = bytes(data[begin:start]) if start > begin else None
                self.nc.take(sid, subject, bytes(data[start:end]), headers)
            except Exception as error:  # which would end the client's loop that reads
                errors.append(error)
            at = end + len(_END)
        del buffer[:at]
        return errors


class ShortClient(Client):
    """A client."""

    def __init__(self) -> None:
        super().__init__()
        self._ps = _ShortParser(self)
        self._outgoing: list[bytes] = []  # parts of messages that were not written yet
        self.expected: Callable[[bytes | bytearray, int], re.Match[bytes] | None] = _NEVER.match
        self.take_expected: Callable[[re.Match[bytes]], None] = _ignore

    def send(self, subject: str, reply: str, data: bytes, headers: str = "") -> None:
        """Publish a message. The headers are lines, each with its end. Raises `nats.errors.Error`, OSError."""
        if self._status != Client.CONNECTED and not self.is_connected:
            raise nats.errors.ConnectionClosedError
        if len(data) > self._max_payload:
            raise nats.errors.MaxPayloadError
        if headers:
            size = len(headers) + 12
            head = f"HPUB {subject} {reply} {size} {size + len(data)}\r\n{_HEAD}\r\n{headers}\r\n"
        else:
            head = f"PUB {subject} {reply} {len(data)}\r\n"
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._write)
        self._outgoing += (head.encode(), data, _END)

    def _write(self) -> None:
        """Have what was sent in this event loop iteration written at once."""
        outgoing, self._outgoing = b"".join(self._outgoing), []
        self._pending.append(outgoing)
        self._pending_data_size += len(outgoing)
        if self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    async def listen(self, subject: str, take: Take) -> Subscription:
        """Subscribe. Raises `nats.errors.Error`, OSError."""

        async def callback(message: Msg) -> None:
            """Stands for `take` at the client, which wants a coroutine function."""

        callback.take = take  # type: ignore[attr-defined]
        return await self.subscribe(subject, cb=callback)

    def expect(self, subject: str, data: bytes, take: Callable[[re.Match[bytes]], None]) -> None:
        """Have messages to `subject` and a number, with a dot between, whose data has the pattern `data`, passed to
        `take`, as matches: group 1 is the number, those from 4 on are the pattern's. Most of them come here: those that
        come in pieces are passed to who is subscribed, like all others."""
        head = re.escape(subject).encode()
        self.expected = re.compile(rb"MSG %b\.(\d{1,20}) \d+ +(\d{1,9})\r\n(%b)\r\n" % (head, data)).match
        self.take_expected = take

    def take(self, sid: int, subject: bytes | bytearray, data: bytes, headers: bytes | None) -> None:
        """Take a message that has come."""
        subscription = self._subs.get(sid)
        if subscription is not None:
            subscription._cb.take(Received(subject.decode(), data, headers))  # type: ignore[union-attr]

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        """Take a message that has come in pieces, as nats-py's parser calls this."""
        try:
            self.take(sid, subject, data, headers)
        except Exception as error:
            await self._error_cb(error)
