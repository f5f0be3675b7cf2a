"""How a WebSocket ended, as an exception; and what may be said to end one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowserve.errors import (
    AlreadyClosed,
    Close,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidText,
    PayloadTooBig,
    ProtocolError,
)
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import CloseCode, State, is_sendable

if TYPE_CHECKING:
    from flowserve.session.session import Session

_OK = (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS)
_CAUSES = {1002: ProtocolError, 1007: InvalidText, 1009: PayloadTooBig}


class _AlreadyClosedOK(AlreadyClosed, ConnectionClosedOK):
    pass


class _AlreadyClosedError(AlreadyClosed, ConnectionClosedError):
    pass


def closed_error(connection: Connection, told: bool = False, lost_by: Exception | None = None) -> ConnectionClosed:
    """Return why it has ended. `told` says that the user knows already, `lost_by` what the transport was lost by.

    It was in order if the peer's close frame says so, and this end's does not say otherwise.
    """
    rcvd, sent = _read_close(connection.peer_close), _read_close(connection.sent_close)
    in_order = rcvd is not None and rcvd.code in _OK and (sent is None or sent.code in _OK)
    if in_order and not connection.failed:
        kind: type[ConnectionClosed] = _AlreadyClosedOK if told else ConnectionClosedOK
    else:
        kind = _AlreadyClosedError if told else ConnectionClosedError
    error = kind(rcvd, sent, connection.answered if rcvd is not None and sent is not None else None)
    error._origin = id(connection)
    if connection.failed and connection.close_code in _CAUSES:
        error.__cause__ = _CAUSES[connection.close_code](connection.close_reason)
    elif rcvd is None:
        error.__cause__ = lost_by
    return error


def tells_end_of(connection: Connection, error: BaseException) -> bool:
    """Whether `error` says that `connection` has ended, rather than another one or something else."""
    return isinstance(error, ConnectionClosed) and error._origin == id(connection)


def end_of(session: Session) -> ConnectionClosed | None:
    """Return why it has ended, None before that is known."""
    connection = session.connection
    over = session.lost or (connection.state != State.OPEN and connection.peer_close is not None)
    return closed_error(connection) if over else None


def _read_close(payload: bytes | None) -> Close | None:
    """What a close frame says; None also for one that RFC 6455 section 5.5.1 does not allow."""
    if payload is None:
        return None
    if not payload:
        return Close(int(CloseCode.NO_STATUS), "")
    code = int.from_bytes(payload[:2], "big")
    try:
        return Close(code, payload[2:].decode()) if is_sendable(code) else None
    except UnicodeDecodeError:
        return None


def check_close(code: object, reason: object) -> None:
    """Raise TypeError or ValueError for what this end may not put into a close frame."""
    if not isinstance(code, int) or not isinstance(reason, str):
        raise TypeError(f"a close code is an int and its reason a str, not {code!r} and {reason!r}")
    if not is_sendable(code):
        raise ValueError(f"{code!r} is not a code that a close frame may carry (RFC 6455 section 7.4)")
    reason.encode()  # a lone surrogate raises now, before anything has happened
