# cython: language_level=3, annotation_typing=False, binding=False
"""What a session expects of its peer: signs of life, messages, and that it takes what is sent."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowserve.config import Config
    from flowserve.session.writer import SessionWriter

_GRACE = 0.1  # seconds
_LOOKS = 4  # at what the peer takes, in each send timeout


class Due(Enum):
    """What `Keepalive.look()` finds."""

    NOTHING = 0
    PING = 1
    IDLE = 2  # no message for --ws-idle-timeout
    DEAD = 3  # no sign of life for --ws-ping-timeout after a ping
    OLD = 4  # open for --ws-max-lifetime
    STUCK = 5  # the peer has taken nothing for --ws-send-timeout


class Keepalive:
    """When a session is to be looked at, and what is due then. Times are the event loop's, in seconds.

    The session tells what happens by setting `active` when anything comes from the peer, and `active_at` (the
    time) when a message goes either way, if there is an idle timeout.
    """

    __slots__ = (
        "_ends_at",
        "_idle_timeout",
        "_look_due",
        "_ping_due",
        "_ping_interval",
        "_ping_timeout",
        "_pong_due_from",
        "_send_timeout",
        "_still",
        "_suspect",
        "_taken",
        "_taken_at_ping",
        "active",
        "active_at",
    )

    def __init__(self, config: Config, now: float) -> None:
        self._idle_timeout = config.ws_idle_timeout or 0.0  # 0 for none, here and below
        self.active_at = now
        self.active = False  # something came since the last ping
        self._ping_interval = config.ws_ping_interval or 0.0
        self._ping_timeout = config.ws_ping_timeout or 0.0
        self._ping_due = now + self._ping_interval
        self._pong_due_from = 0.0  # since when the peer owes a sign of life; 0 when it owes none
        self._suspect = False
        self._taken_at_ping = 0
        self._ends_at = now + config.ws_max_lifetime if config.ws_max_lifetime else 0.0
        self._send_timeout = config.ws_send_timeout or 0.0
        self._look_due = now + self._send_timeout / _LOOKS
        self._taken = 0  # when this was last looked at
        self._still = 0  # looks since then that found it unchanged, though something waits

    def next_look(self, now: float) -> float:
        """Return when to look again; 0 for never."""
        due = self._ends_at
        if self._ping_interval:
            due = _earlier(due, self._ping_due)
        if self._pong_due_from and self._ping_timeout:
            due = _earlier(due, now + _GRACE if self._suspect else self._pong_due_from + self._ping_timeout)
        if self._idle_timeout:
            due = _earlier(due, self.active_at + self._idle_timeout)
        if self._send_timeout:
            due = _earlier(due, self._look_due)
        return due

    def look(self, now: float, writer: SessionWriter, reading: bool) -> Due:
        """Return what is due; `reading` says whether this end reads."""
        if self._ends_at and now >= self._ends_at:
            return Due.OLD
        if self._idle_timeout and now >= self.active_at + self._idle_timeout:
            return Due.IDLE
        if self._send_timeout and now >= self._look_due and self._is_stuck(now, writer):
            return Due.STUCK
        if self._is_dead(now, writer, reading):
            return Due.DEAD
        return Due.PING if self._ping_interval and now >= self._ping_due else Due.NOTHING

    def pinged(self, now: float, writer: SessionWriter) -> None:
        """A ping is about to go out."""
        self._ping_due = now + self._ping_interval
        if not self._pong_due_from:  # else an older ping is still unanswered
            self._pong_due_from = now
            self._taken_at_ping = writer.written - writer.stream.unsent()
            self.active = self._suspect = False

    def _is_stuck(self, now: float, writer: SessionWriter) -> bool:
        """Whether all looks of a send timeout found the same waiting.

        Looks are counted, not time: while the event loop was held up nothing could move.
        """
        self._look_due = now + self._send_timeout / _LOOKS
        unsent = writer.stream.unsent()
        taken = writer.written - unsent
        if taken != self._taken or not unsent + writer.connection.output_size:
            self._taken = taken
            self._still = 0
        else:
            self._still += 1
        return self._still > _LOOKS

    def _is_dead(self, now: float, writer: SessionWriter, reading: bool) -> bool:
        """Whether nothing at all has come for the ping timeout, though this end was reading, and the peer has taken
        nothing of what stands before the ping.

        The last word is spoken one tick late, so that an event loop that was held up reads what lies in the socket
        first.
        """
        if self.active or not reading:
            self._pong_due_from = 0.0 if self.active else now
            self._suspect = False
        if not self._ping_timeout or not self._pong_due_from or now < self._pong_due_from + self._ping_timeout:
            return False
        unsent = writer.stream.unsent()
        taken = writer.written - unsent
        if taken > self._taken_at_ping and unsent + writer.connection.output_size:
            self._pong_due_from = now
            self._taken_at_ping = taken
            self._suspect = False
            return False
        suspect, self._suspect = self._suspect, True
        return suspect


def _earlier(due: float, other: float) -> float:
    return other if not due or other < due else due
