"""The exceptions that flowserve raises. Errors that a peer causes carry the status or close code to answer with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class FlowserveError(Exception):
    """The base class of every error that flowserve raises on purpose."""


class ConfigError(FlowserveError):
    """An option has a wrong value, or the application cannot be loaded; the message says which one and what to do."""


class SyncApplication(ConfigError):
    """The application is a plain function instead of an asynchronous one; the message says what it returned."""


LATE_REQUEST = 408, "The request head took too long"
"""Status and detail of the response to a client that did not send its whole request head in time."""
LATE_ANSWER = 504, "The application did not answer in time"
"""Status and detail of the response to an opening handshake that the application did not answer in time."""


class StartupFailed(FlowserveError):
    """The application's lifespan startup failed; the message holds that of its `lifespan.startup.failed` event, or says
    how the application ended instead."""


class RequestError(FlowserveError):
    """The client's request violates HTTP/1.1 or exceeds a limit (RFC 9110, RFC 9112).

    `status` is the status code of the response, `detail` a short text for its body.
    """

    headers: Sequence[tuple[bytes, bytes]] = ()
    """Fields of the response, as a HandshakeError can have some."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class ForeignProtocol(RequestError):
    """The client speaks another protocol, such as TLS or HTTP/2. `hint` tells the operator what the client does and
    what to change."""

    def __init__(self, status: int, detail: str, hint: str) -> None:
        super().__init__(status, detail)
        self.hint = hint


class HandshakeError(FlowserveError):
    """An opening handshake that violates RFC 6455 section 4, or that the server refused.

    On a client it holds the response that the server sent, on a server the response to send: `status` is the status
    code, 0 if there is no response because the peer closed the connection or sent something else; `headers` are the
    header fields, pairs of bytes with lower-case names; `body` is the body, of which a client keeps the first 64 KiB.
    `detail` is a short text that says what is wrong.
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
    """The proxy did not open a tunnel to the server; `status` is the status code of its response, 0 if none came."""


class ProtocolError(FlowserveError):
    """The peer violated RFC 6455 or RFC 7692: the connection fails with a close frame of `close_code` and `reason`,
    which has at most 123 bytes."""

    close_code = 1002

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidText(ProtocolError):
    """The peer sent a text message or a close reason that is not UTF-8: close code 1007 (RFC 6455 section 8.1)."""

    close_code = 1007


class PayloadTooBig(ProtocolError):
    """The peer sent a message larger than the limit: close code 1009 (RFC 6455 section 7.4.1)."""

    close_code = 1009


class ASGIMisuse(FlowserveError, RuntimeError):
    """The application violated the ASGI specification; the message says how."""


class ClientDisconnected(FlowserveError, OSError):
    """send() was called after the client had disconnected (ASGI specification, 'Disconnected Client - send
    exception')."""


class TopicsError(FlowserveError):
    """A topic can't be used so: its name, a message or the number of subscriptions is beyond a limit, or the backplane
    can't be reached."""


class MissedMessages(TopicsError):
    """Messages of a topic are missing, and no history has them. Those after `position` can still be listened to."""

    def __init__(self, topic: str, position: str) -> None:
        super().__init__(f"messages of the topic {topic!r} are missing")
        self.topic = topic
        self.position = position


class RequestRefused(TopicsError):
    """A server has refused what a client of its topics asked for. `code` is one of those in
    flowserve/topics/PROTOCOL.md, or `closed` if the client has ended before there was an answer; `retry_after`, in
    seconds, says when it can be repeated, if that is known.

    `key` is that of a message, also if the client has made it: published again with it, it is published once, whether
    it was before or not. It is None where nothing was to be published."""

    def __init__(self, code: str, message: str, retry_after: float | None = None, key: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.retry_after = retry_after
        self.key = key


class InvalidURI(FlowserveError, ValueError):
    """The text is not a valid WebSocket URI (RFC 6455 section 3); the message says why."""


class InvalidProxy(FlowserveError, ValueError):
    """The address of a proxy is invalid or not supported; the message says why."""


class Close(NamedTuple):
    """The content of a close frame (RFC 6455 section 5.5.1)."""

    code: int
    """The close code; 1005 if the frame had none."""
    reason: str
    """The close reason; "" if the frame had none."""

    def __str__(self) -> str:
        return f"{self.code} ({self.reason})" if self.reason else str(self.code)


class ConnectionClosed(FlowserveError):
    """The WebSocket is closed, so nothing can be received or sent.

    `rcvd` and `sent` are the close frames that the peer and this end sent, None if there was none. `rcvd_then_sent` is
    True if the peer's came first, False if this end's did, None unless there are both.
    """

    _connection_id = 0  # id() of the connection that ended, to tell its errors from those of other connections

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
        """The peer's close code; 1006 if it sent no close frame."""
        return 1006 if self.rcvd is None else self.rcvd.code

    @property
    def reason(self) -> str:
        """The peer's close reason; "" if it sent none."""
        return "" if self.rcvd is None else self.rcvd.reason


class ConnectionClosedOK(ConnectionClosed):
    """The closing handshake was completed normally: the peer closed with 1000, 1001 or no code, and this end, if it
    sent a close frame, did so with one of these too."""


class ConnectionClosedError(ConnectionClosed):
    """The WebSocket ended in any other way: with another close code, without a close frame, or because this end failed
    the connection. `__cause__` is the ProtocolError that says what the peer did wrong, or, if there was no close frame,
    the exception with which the connection was lost; None without either."""


class AlreadyClosed(ConnectionClosed):
    """The WebSocket was used although the program already knew that it had ended: an earlier call raised
    ConnectionClosed, or the program closed the WebSocket itself.

    The exception raised is always a ConnectionClosedOK or a ConnectionClosedError as well.
    """


def install_hint(*packages: str) -> str:
    """Return in one line that optional packages are missing and what to do: by their own names, as an extra of
    flowserve's can't be installed where flowserve came from a checkout."""
    return f"{' or '.join(packages)} is missing; pip install {' '.join(packages)}"
