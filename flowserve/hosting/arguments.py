"""What the arguments of `serve()` mean as options of the server; each error names the argument that is wrong."""

from __future__ import annotations

import os
import socket
import ssl as tls
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from flowserve.config import Config
from flowserve.config.addresses import Bind
from flowserve.config.config import HTTP, LIMITS, METRICS, OPTIONS, PROTECTION, PROXIES
from flowserve.config.tls import TLS
from flowserve.errors import ConfigError
from flowserve.library.context import read_options
from flowserve.server.listen import open_sockets

OpenSockets = Callable[[], Sequence[socket.socket]]

_SERVER_GROUPS = (HTTP, LIMITS, PROTECTION, PROXIES, METRICS, TLS)
_SERVER_OPTIONS = ("access_log", "backlog", "timeout_graceful_shutdown")
_DEFAULTS: dict[str, Any] = {"access_log": False, "proxy_headers": False}
_FIXED: dict[str, Any] = {"interface": "asgi3", "lifespan": "off", "ws_shutdown_code": 1001, "ws_shutdown_reason": ""}
_NO_LIMIT = 1e9
"""Seconds, used for an open_timeout of None."""


@dataclass(frozen=True, slots=True)
class ListenArguments:
    """The arguments of `serve()` that say where to listen, as they were passed."""

    host: str | Sequence[str] | None
    port: int | None
    uds: str | os.PathLike[str] | None
    sock: socket.socket | None
    family: int
    reuse_port: bool

    def addresses(self) -> tuple[Bind, ...]:
        """Return the addresses to listen on, none for `sock`. Raises ConfigError."""
        given = (self.host is not None or self.port is not None, self.uds is not None, self.sock is not None)
        if sum(given) != 1:
            raise ConfigError("say where to listen: either host and port, or uds, or sock")
        if self.uds is not None:
            return (Bind(path=OPTIONS["uds"].convert(self.uds, "uds")),)
        if self.sock is not None:
            return ()
        port = OPTIONS["port"].convert(self.port or 0, "port")
        hosts = [self.host] if isinstance(self.host, str) or self.host is None else self.host
        return tuple(Bind(host=OPTIONS["host"].convert(each or "::", "host"), port=port) for each in hosts)

    def open_sockets(self, addresses: tuple[Bind, ...]) -> OpenSockets | None:
        """Return a function that returns the sockets to listen on, None if the server opens them as it does by
        default."""
        if self.sock is not None:
            return partial(list, [self.sock])
        if self.uds is None and (self.family or self.reuse_port):
            return partial(open_sockets, addresses, self.family, self.reuse_port)
        return None


def make_config(
    app: Any,
    listen: ListenArguments,
    ssl: tls.SSLContext | None,
    server_header: str | bool | None,
    open_timeout: float | None,
    options: Mapping[str, Any],
) -> Config:
    """Return the configuration of a server for the ASGI application `app`, from the arguments of `serve()`; `options`
    are those that are not parameters of it. Raises TypeError for an unknown one, ConfigError for a wrong value."""
    options = {name: value for name, value in options.items() if name != "reuse_address"}  # which is always on
    of_server = {name: value for name, value in options.items() if is_server_option(name)}
    of_websockets = {name: value for name, value in options.items() if name not in of_server}
    config = read_options(of_websockets)
    changes = {**_DEFAULTS, **{name: OPTIONS[name].convert(value, name) for name, value in of_server.items()}}
    changes.update(_server_header(server_header, changes.get("headers", ())))
    changes.update(_handshake_timeouts(open_timeout, ssl is not None))
    if ssl is not None:
        changes["ssl_context_factory"] = lambda config, make: ssl
    return replace(config, app=app, bind=listen.addresses(), **_FIXED, **changes)


def is_server_option(name: str) -> bool:
    """Whether `serve()` takes the server's option of this name."""
    option = OPTIONS.get(name)
    return (
        option is not None
        and not name.startswith("ws_")
        and (option.group in _SERVER_GROUPS or name in _SERVER_OPTIONS)
    )


def _server_header(value: str | bool | None, headers: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    if isinstance(value, str):
        return {"headers": OPTIONS["headers"].convert([*headers, ("server", value)], "server_header")}
    return {"server_header": bool(value)}


def _handshake_timeouts(seconds: float | None, secure: bool) -> dict[str, Any]:
    limit = OPTIONS["timeout_header"].convert(seconds or _NO_LIMIT, "open_timeout")
    names = ("timeout_header", "timeout_handshake") + (("ssl_handshake_timeout",) if secure else ())
    return dict.fromkeys(names, limit)
