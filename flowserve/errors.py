"""The exception tree. Each error carries its own answer: a status or a close code, and a short reason."""

from __future__ import annotations

from collections.abc import Sequence


class FlowserveError(Exception):
    """The root of every error that flowserve raises on purpose."""


class ConfigError(FlowserveError):
    """An option, or the application named by it, is wrong; the message says which one and what to do."""


class StartupFailed(FlowserveError):
    """The application's lifespan startup failed; the message carries what it said."""


class RequestError(FlowserveError):
    """A request that HTTP/1.1 does not allow, or that goes over a limit (RFC 9110, RFC 9112).

    `status` is the response's status code, `detail` a short text for the response's body.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class HandshakeError(FlowserveError):
    """An opening handshake that RFC 6455 section 4 does not allow.

    `status` and `headers` (lower-case names, bytes) are the answer, `detail` a short text for its body.
    """

    def __init__(self, status: int, detail: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.headers = tuple(headers)


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
