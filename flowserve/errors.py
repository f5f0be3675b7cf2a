"""The exception tree. Each error carries its own answer: a status or a close code, and a short reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class FlowserveError(Exception):
    """The root of every error that flowserve raises on purpose."""


class ConfigError(FlowserveError):
    """An option, or the application named by it, is wrong; the message says which one and what to do."""


class SyncApplication(ConfigError):
    """The application is a plain function where an asynchronous one is wanted; the message says what it gave."""


LATE_REQUEST = 408, "The request head took too long"
"""The answer to a client that was too slow, status and detail."""
LATE_ANSWER = 504, "The application did not answer in time"
"""Likewise, to one whose handshake nobody has answered."""


class StartupFailed(FlowserveError):
    """The application's lifespan startup failed; the message carries what it said."""


class RequestError(FlowserveError):
    """A request that HTTP/1.1 does not allow, or that goes over a limit (RFC 9110, RFC 9112).

    `status` is the response's status code, `detail` a short text for the response's body.
    """

    headers: Sequence[tuple[bytes, bytes]] = ()
    """Fields of the response, as a HandshakeError can have some."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class ForeignProtocol(RequestError):
    """What came is another protocol's. `hint` tells the operator what the peer does, and what to change."""

    def __init__(self, status: int, detail: str, hint: str) -> None:
        super().__init__(status, detail)
        self.hint = hint


class HandshakeError(FlowserveError):
    """An opening handshake that RFC 6455 section 4 does not allow, or that the server turned down.

    `status` and `headers` (lower-case names, bytes) are the server's answer, be it to give or given, `detail` says in
    short what is wrong, `body` is what a server sent with a refusal, cut where it is long. A `status` of 0 means that
    no answer came.
    """

    def __init__(
        self, status: int, detail: str, headers: Sequence[tuple[bytes, bytes]] = (), body: bytes = b""
    ) -> None:
        super().__init__(f"{status}: {detail}" if status else detail)
        self.status = status
        self.detail = detail
        self.headers = tuple(headers)
        self.body = body


class ProxyError(HandshakeError):
    """A proxy that did not open a tunnel to the server; `status` is its answer, or 0 if none came."""


class ProtocolError(FlowserveError):
    """The peer broke RFC 6455 or RFC 7692: fail the connection with `close_code` and `reason` (at most 123 bytes)."""

    close_code = 1002

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidText(ProtocolError):
    """A text message or a close reason that is not UTF-8 (RFC 6455 section 8.1)."""

    close_code = 1007


class PayloadTooBig(ProtocolError):
    """A message over the limit (RFC 6455 section 7.4.1)."""

    close_code = 1009


class ASGIMisuse(FlowserveError, RuntimeError):
    """The application broke the ASGI specification; the message says how."""


class ClientDisconnected(FlowserveError, OSError):
    """send() after the peer has left (ASGI specification, 'Disconnected Client - send exception')."""


class InvalidURI(FlowserveError, ValueError):
    """A URI that names no WebSocket (RFC 6455 section 3); the message says why."""


class InvalidProxy(FlowserveError, ValueError):
    """The address of a proxy that is none, or of one that can't be used; the message says why."""


class Close(NamedTuple):
    """What a close frame says (RFC 6455 section 5.5.1); 1005 stands for a frame without a code."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"{self.code} ({self.reason})" if self.reason else str(self.code)


class ConnectionClosed(FlowserveError):
    """The WebSocket has ended.

    `rcvd` and `sent` are the peer's close frame and this end's, None where there was none; `rcvd_then_sent` says which
    came first, None without both. `code` and `reason` are the peer's, or 1006 if it sent none.
    """

    _origin = 0  # the id() of the connection that has ended: of several in one program each has its own errors

    def __init__(self, rcvd: Close | None, sent: Close | None, rcvd_then_sent: bool | None = None) -> None:
        if rcvd is None and sent is None:
            text = "the connection was lost without a close frame"
        else:
            text = f"received {rcvd or 'no close frame'}, sent {sent or 'no close frame'}"
        super().__init__(text)
        self.rcvd = rcvd
        self.sent = sent
        self.rcvd_then_sent = rcvd_then_sent

    @property
    def code(self) -> int:
        return 1006 if self.rcvd is None else self.rcvd.code

    @property
    def reason(self) -> str:
        return "" if self.rcvd is None else self.rcvd.reason


class ConnectionClosedOK(ConnectionClosed):
    """The peer closed it in order, with 1000, 1001 or no code, and this end said nothing else."""


class ConnectionClosedError(ConnectionClosed):
    """It ended otherwise. If the peer broke the protocol or a limit, `__cause__` is the ProtocolError that says how."""


class AlreadyClosed(ConnectionClosed):
    """It had ended, and whoever asks knew: it was told before, or has closed the WebSocket itself.

    What is raised is a ConnectionClosedOK or ConnectionClosedError too.
    """
