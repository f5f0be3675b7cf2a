"""The exception that tells how a WebSocket ended, and the check of a close code and reason."""

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


def closed_error(
    connection: Connection, already_known: bool = False, lost_by: Exception | None = None
) -> ConnectionClosed:
    """Return the exception that tells how `connection` ended, an AlreadyClosed if the user has `already_known` it.

    `lost_by` is the error with which the transport was lost. The result is a ConnectionClosedOK if the close code of
    the peer's close frame is 1000, 1001 or missing, and that of this end's, if any, too.
    """
    rcvd, sent = _read_close(connection.peer_close), _read_close(connection.sent_close)
    normal = rcvd is not None and rcvd.code in _OK and (sent is None or sent.code in _OK)
    if normal and not connection.failed:
        kind: type[ConnectionClosed] = _AlreadyClosedOK if already_known else ConnectionClosedOK
    else:
        kind = _AlreadyClosedError if already_known else ConnectionClosedError
    error = kind(rcvd, sent, connection.answered if rcvd is not None and sent is not None else None)
    error._connection_id = id(connection)
    if connection.failed and connection.close_code in _CAUSES:
        error.__cause__ = _CAUSES[connection.close_code](connection.close_reason)
    elif rcvd is None:
        error.__cause__ = lost_by
    return error


def is_closed_error_of(connection: Connection, error: BaseException) -> bool:
    """Whether `error` is the ConnectionClosed of this connection, not of another one."""
    return isinstance(error, ConnectionClosed) and error._connection_id == id(connection)


def end_of(session: Session) -> ConnectionClosed | None:
    """Return the exception that tells how a session ended; None while it is open or waits for the peer's close
    frame."""
    connection = session.connection
    has_ended = session.lost or (connection.state != State.OPEN and connection.peer_close is not None)
    return closed_error(connection) if has_ended else None


def _read_close(payload: bytes | None) -> Close | None:
    """Decode a close frame's payload; None if there is none or it violates RFC 6455 section 5.5.1."""
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
    """Raise TypeError or ValueError if `code` and `reason` may not be sent in a close frame."""
    if not isinstance(code, int) or not isinstance(reason, str):
        raise TypeError(f"a close code is an int and its reason a str, not {code!r} and {reason!r}")
    if not is_sendable(code):
        raise ValueError(f"{code!r} is not a code that a close frame may carry (RFC 6455 section 7.4)")
    reason.encode()  # raises for a lone surrogate before anything is sent
