# cython: language_level=3, annotation_typing=False, binding=False
"""The deadlines of a session: keepalive pings, idle timeout, send timeout and lifetime."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowserve.config import Config
    from flowserve.session.writer import SessionWriter

_GRACE = 0.1  # seconds between the end of the ping timeout and the verdict
_CHECKS = 4  # of what the peer has acknowledged, per send timeout


class Due(Enum):
    """Result of `Keepalive.check()`."""

    NOTHING = 0
    PING = 1  # send a ping
    IDLE = 2  # no message for --ws-idle-timeout
    DEAD = 3  # nothing received for --ws-ping-timeout after a ping
    OLD = 4  # open for --ws-max-lifetime
    STUCK = 5  # the peer has acknowledged nothing for --ws-send-timeout


class Keepalive:
    """Says when to check a session, and what is due then. Times are the event loop's, in seconds.

    The session sets `active` when it receives anything, and `active_at` to the time when it sends or receives a
    message, if there is an idle timeout.
    """

    __slots__ = (
        "_acknowledged",
        "_acknowledged_at_ping",
        "_idle_timeout",
        "_lifetime_ends",
        "_overdue",
        "_ping_due",
        "_ping_interval",
        "_ping_timeout",
        "_pong_due_from",
        "_send_check_due",
        "_send_timeout",
        "_stalled_checks",
        "active",
        "active_at",
    )

    def __init__(self, config: Config, now: float) -> None:
        self._idle_timeout = config.ws_idle_timeout or 0.0  # 0 for none, here and below
        self.active_at = now
        self.active = False  # something was received since the last ping
        self._ping_interval = config.ws_ping_interval or 0.0
        self._ping_timeout = config.ws_ping_timeout or 0.0
        self._ping_due = now + self._ping_interval
        self._pong_due_from = 0.0  # start of the ping timeout; 0 if nothing is expected from the peer
        self._overdue = False  # the ping timeout has passed once
        self._acknowledged_at_ping = 0  # bytes
        self._lifetime_ends = now + config.ws_max_lifetime if config.ws_max_lifetime else 0.0
        self._send_timeout = config.ws_send_timeout or 0.0
        self._send_check_due = now + self._send_timeout / _CHECKS
        self._acknowledged = 0  # bytes, when this last changed
        self._stalled_checks = 0  # checks since then that found it unchanged although there is unsent output

    def next_check(self, now: float) -> float:
        """Return the time of the next check; 0 for never."""
        due = self._lifetime_ends
        if self._ping_interval:
            due = _earlier(due, self._ping_due)
        if self._pong_due_from and self._ping_timeout:
            due = _earlier(due, now + _GRACE if self._overdue else self._pong_due_from + self._ping_timeout)
        if self._idle_timeout:
            due = _earlier(due, self.active_at + self._idle_timeout)
        if self._send_timeout:
            due = _earlier(due, self._send_check_due)
        return due

    def check(self, now: float, writer: SessionWriter, reading: bool) -> Due:
        """Return what is due. `reading` says whether the session is reading from its stream."""
        if self._lifetime_ends and now >= self._lifetime_ends:
            return Due.OLD
        if self._idle_timeout and now >= self.active_at + self._idle_timeout:
            return Due.IDLE
        if self._send_timeout and now >= self._send_check_due and self._is_stuck(now, writer):
            return Due.STUCK
        if self._is_dead(now, writer, reading):
            return Due.DEAD
        return Due.PING if self._ping_interval and now >= self._ping_due else Due.NOTHING

    def pinged(self, now: float, writer: SessionWriter) -> None:
        """Note that a ping is about to be sent."""
        self._ping_due = now + self._ping_interval
        if not self._pong_due_from:  # else an older ping is still unanswered
            self._pong_due_from = now
            self._acknowledged_at_ping = writer.written - writer.stream.unsent()
            self.active = self._overdue = False

    def _is_stuck(self, now: float, writer: SessionWriter) -> bool:
        """Whether no check within a send timeout found progress.

        This counts checks, not time: while the event loop was blocked, nothing could progress.
        """
        self._send_check_due = now + self._send_timeout / _CHECKS
        unsent = writer.stream.unsent()
        acknowledged = writer.written - unsent
        if acknowledged != self._acknowledged or not unsent + writer.connection.output_size:
            self._acknowledged = acknowledged
            self._stalled_checks = 0
        else:
            self._stalled_checks += 1
        return self._stalled_checks > _CHECKS

    def _is_dead(self, now: float, writer: SessionWriter, reading: bool) -> bool:
        """Whether, for the ping timeout, nothing was received although this end was reading, and the peer acknowledged
        nothing of the output before the ping.

        The verdict waits for one more tick: after a blocked event loop, a pong may still lie unread in the socket.
        """
        if self.active or not reading:
            self._pong_due_from = 0.0 if self.active else now
            self._overdue = False
        if not self._ping_timeout or not self._pong_due_from or now < self._pong_due_from + self._ping_timeout:
            return False
        unsent = writer.stream.unsent()
        acknowledged = writer.written - unsent
        if acknowledged > self._acknowledged_at_ping and unsent + writer.connection.output_size:
            self._pong_due_from = now
            self._acknowledged_at_ping = acknowledged
            self._overdue = False
            return False
        overdue, self._overdue = self._overdue, True
        return overdue


def _earlier(due: float, other: float) -> float:
    return other if not due or other < due else due
