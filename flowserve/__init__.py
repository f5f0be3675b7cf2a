"""flowserve: the ASGI server for WebSockets. `flowserve myapp:app` on the command line, or the names below."""

from __future__ import annotations

from flowserve import speed

speed.choose()

from flowserve.config import Config  # noqa: E402  (after the choice of speed)
from flowserve.errors import (  # noqa: E402
    ASGIMisuse,
    ClientDisconnected,
    ConfigError,
    FlowserveError,
    HandshakeError,
    InvalidText,
    PayloadTooBig,
    ProtocolError,
    RequestError,
    StartupFailed,
)
from flowserve.server.worker import Server  # noqa: E402
from flowserve.supervisor import run  # noqa: E402
from flowserve.version import __version__  # noqa: E402

__all__ = [
    "ASGIMisuse",
    "ClientDisconnected",
    "Config",
    "ConfigError",
    "FlowserveError",
    "HandshakeError",
    "InvalidText",
    "PayloadTooBig",
    "ProtocolError",
    "RequestError",
    "Server",
    "StartupFailed",
    "__version__",
    "run",
]
