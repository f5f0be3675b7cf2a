"""One connection to Redis: commands and their answers, and what is pushed on the channels that it subscribes to.

It speaks RESP3, in which pushes come beside the answers, so that the same connection publishes and is subscribed. That
gives what two connections could not: after the answer to a command that was sent behind SUBSCRIBE, what is pushed is
later than that answer, whichever server it is.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast

import hiredis

from flowserve.topics.remote.errors import LinkLost

Answer = Callable[[Any], None]
"""Takes the answer to a command, which is a `hiredis.ReplyError` if that failed, and a `LinkLost` if none came."""

pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
"""Returns a command on the wire."""

_NOTHING = object()
_PING, _PONG = pack(("PING",)), b"PONG"


class Commands(Protocol):
    """What publishing and subscriptions use of a connection; see Link."""

    @property
    def paused(self) -> bool: ...

    @property
    def retired(self) -> bool: ...

    def run(self, commands: Sequence[bytes], answers: Sequence[Answer]) -> None: ...

    def subscribe(self, channels: Sequence[bytes], failed: Answer) -> None: ...

    def unsubscribe(self, channels: Sequence[bytes], failed: Answer) -> None: ...

    def retire(self, reason: str) -> None: ...


class Link(asyncio.Protocol):
    """A connection."""

    def __init__(
        self,
        scripts: Sequence[bytes],
        on_message: Callable[[bytes, bytes], None],
        on_writable: Callable[[], None],
        on_unsubscribed: Callable[[bytes], None] | None = None,
    ) -> None:
        """`scripts` are the texts of those that `run()` uses. `on_message` takes channel and payload of what is
        pushed. `on_writable` is called when writing may go on that was `paused`. With `on_unsubscribed` the channels
        are sharded ones, and it takes one of which the server itself has ended the subscription: its slot moved."""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reason = ""  # why it was lost
        self.error: Exception | None = None
        self.paused = False
        self.retired = False  # nothing new is to be published on it
        self.address = ""  # of the server, for the log
        self.peer: tuple[str, int] | None = None  # and as Sentinels say it
        self._scripts = scripts
        self._on_message = on_message
        self._on_writable = on_writable
        self._on_unsubscribed = on_unsubscribed
        shard = b"" if on_unsubscribed is None else b"S"
        self._subscribe, self._unsubscribe = shard + b"SUBSCRIBE", shard + b"UNSUBSCRIBE"
        self._message, self._unsubscribed = shard.lower() + b"message", shard.lower() + b"unsubscribe"
        self._leaving: Counter[bytes] = Counter()  # sharded channels whose subscriptions are being ended from here
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []  # commands that were not written yet
        self._pending: deque[tuple[bytes, Answer]] = deque()  # each with the EVALSHA command that may be sent again
        self._active_at = 0.0  # when the last bytes came, or a command was sent while none was pending

    # Commands

    def send(self, commands: Sequence[bytes], answers: Sequence[Answer]) -> None:
        """Send commands, each with what takes its answer."""
        self._send(commands, [(b"", answer) for answer in answers])

    def _send(self, commands: Sequence[bytes], pending: Sequence[tuple[bytes, Answer]]) -> None:
        if self.lost.done() or self._transport is None or self._transport.is_closing():
            lost = LinkLost(self.reason)
            for _, answer in pending:
                answer(lost)
            return
        if not self._pending:
            self._active_at = self._loop.time()
        self._pending.extend(pending)
        if not self._outgoing:
            self._loop.call_soon(self._write)
        self._outgoing += commands

    def _write(self) -> None:
        """Write what was sent in this event loop iteration: in a cluster, by many partitions."""
        outgoing, self._outgoing = self._outgoing, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(outgoing))

    def run(self, commands: Sequence[bytes], answers: Sequence[Answer]) -> None:
        """Send EVALSHA commands, as `send()`. Scripts that Redis has forgotten are loaded again."""
        self._send(commands, [*zip(commands, answers, strict=True)])

    def load_scripts(self, answer: Answer) -> None:
        """Send all scripts, each of which has an answer."""
        commands = [pack(("SCRIPT", "LOAD", text)) for text in self._scripts]
        self.send(commands, [answer] * len(commands))

    def subscribe(self, channels: Sequence[bytes], failed: Answer) -> None:
        """Subscribe to channels. `failed` is called with an error if that is not allowed."""
        self._send_channels(self._subscribe, channels, failed)

    def unsubscribe(self, channels: Sequence[bytes], failed: Answer) -> None:
        """End subscriptions to channels. `failed` is called with an error if that is not allowed."""
        if self._on_unsubscribed is not None:
            self._leaving.update(channels)
        self._send_channels(self._unsubscribe, channels, partial(self._stays, channels, failed))

    def _stays(self, channels: Sequence[bytes], failed: Answer, error: Any) -> None:
        for channel in channels:
            self._leaving.pop(channel, None)
        failed(error)

    def _send_channels(self, command: bytes, channels: Sequence[bytes], failed: Answer) -> None:
        # Redis confirms each channel with a push, like those that it ends by itself; only an error is an answer, to all
        # of them. What tells that no error comes any more is the answer to the next command.
        self.send([pack((command, *channels)) + _PING], [_UntilPong(self._pending, failed)])

    async def call(self, *command: bytes | str | int) -> Any:
        """Send a command, and return its answer. Raises `hiredis.ReplyError`, LinkLost."""
        result = _Result(self._loop.create_future())
        self.send([pack(command)], [result])
        return await result.future

    async def evaluate(self, command: bytes) -> Any:
        """As `call()`, for an EVALSHA command."""
        result = _Result(self._loop.create_future())
        self.run([command], [result])
        return await result.future

    def ping(self) -> None:
        """Have Redis answer."""
        self.send([_PING], [_ignore])

    # Its end

    @property
    def is_lost(self) -> bool:
        """Whether nothing comes or goes on it any more."""
        return self.lost.done()

    async def ended(self) -> None:
        """Return when it is lost."""
        await asyncio.wait([self.lost])

    def abort(self, reason: str) -> None:
        """End it at once."""
        self.reason = self.reason or reason
        self.retired = True
        if self._transport is not None:
            self._transport.abort()

    def retire(self, reason: str) -> None:
        """End it when all answers that are due have come."""
        self.reason = self.reason or reason
        self.retired = True

    def silent(self, longest: float) -> bool:
        """Return whether nothing has come for `longest` seconds although an answer is due."""
        return bool(self._pending) and self._loop.time() - self._active_at > longest

    # As the transport's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        self._active_at = self._loop.time()
        reader = self._reader
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _NOTHING:
                if type(reply) is hiredis.PushNotification:
                    if reply[0] == self._message:
                        self._on_message(reply[1], reply[2])
                    elif reply[0] == self._unsubscribed:
                        self._ended(reply[1])
                elif self._pending:
                    command, answer = self._pending.popleft()
                    if command and type(reply) is hiredis.ReplyError and str(reply).startswith("NOSCRIPT"):
                        self._run_again(command, answer)
                    else:
                        answer(reply)
                else:
                    self.abort("it answered what nobody asked")
        except hiredis.ProtocolError as error:
            self.abort(f"it does not speak Redis's protocol: {error}")
        if self.retired and not self._pending:
            self.abort(self.reason)

    def _run_again(self, command: bytes, answer: Answer) -> None:
        """Send a command once more, whose script was forgotten."""
        self.load_scripts(_ignore)
        self.send([command], [answer])

    def _ended(self, channel: bytes) -> None:
        """The subscription to a channel has ended."""
        if self._on_unsubscribed is None:
            return
        if self._leaving[channel] > 1:
            self._leaving[channel] -= 1
        elif not self._leaving.pop(channel, 0):
            self._on_unsubscribed(channel)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.reason = self.reason or (str(exc) if exc else "") or "the server closed the connection"
        if not self.lost.done():
            self.lost.set_result(None)
        lost = LinkLost(self.reason)
        pending, self._pending = self._pending, deque()
        for _, answer in pending:
            answer(lost)


def _ignore(_: Any) -> None:
    pass


class _Result:
    """Takes an answer, and makes it the result of a future."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future

    def __call__(self, answer: Any) -> None:
        if self.future.done():
            return
        if isinstance(answer, Exception):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class _UntilPong:
    """Takes the error of a command that has no other answer, and the answer to the PING behind it."""

    __slots__ = ("_failed", "_pending")

    def __init__(self, pending: deque[tuple[bytes, Answer]], failed: Answer) -> None:
        self._pending = pending
        self._failed = failed

    def __call__(self, answer: Any) -> None:
        if answer == _PONG:
            return
        if not isinstance(answer, LinkLost) and "'ping'" not in str(answer):  # else a user who may not PING
            self._pending.appendleft((b"", self))
        self._failed(answer)
