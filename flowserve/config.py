"""Every option, named, typed, defaulted, explained and checked once.

The command line, the environment variables and `--help` are made from `OPTIONS`: a new option is a new field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from flowserve.errors import ConfigError
from flowserve.options import (
    KIB,
    MIB,
    Option,
    choice,
    duration,
    header_list,
    number,
    on_off,
    option,
    optional,
    path,
    root_path,
    size,
    switch,
    text,
)

LISTENING = "Listening"
APPLICATION = "Application"
LOGGING = "Logging"
HTTP = "HTTP"
WEBSOCKET = "WebSocket"
COMPRESSION = "WebSocket compression (permessage-deflate)"
TLS = "TLS (https and wss)"
LIMITS = "Limits and timeouts"

_OFF = ("off", "none")
_SWITCH = switch()
_FILE = optional(path())
_TIME_OR_OFF = optional(duration(), *_OFF)
_CERT_REQS = choice("none", "optional", "required", also={"0": "none", "1": "optional", "2": "required"})
_LEVEL = choice("critical", "error", "warning", "info", "debug", "trace")


@dataclass(frozen=True, slots=True)
class Config:
    """What to serve and how: `Config("myapp:app", port=8000, ws_max_size="16MiB")`.

    Sizes are bytes and durations seconds; both may be given as text with a unit. Raises ConfigError for a wrong value
    or a combination that makes no sense; the message names the option.
    """

    app: str | Callable[..., Any]
    _: KW_ONLY

    host: str = option("127.0.0.1", text(), LISTENING, "Address or name to listen on; 0.0.0.0 is every IPv4 interface.")
    port: int = option(8000, number(0, 65535), LISTENING, "TCP port; 0 takes a free one.")
    uds: str | None = option(None, _FILE, LISTENING, "Listen on a UNIX domain socket instead.")
    fd: int | None = option(None, optional(number(0)), LISTENING, "Listen on a socket inherited as this descriptor.")
    backlog: int = option(2048, number(1), LISTENING, "Connections that may wait to be accepted.")

    app_dir: str = option(
        "", path(empty=True), APPLICATION, "Where APP is looked for first; by default in the current folder."
    )
    factory: bool = option(
        False, _SWITCH, APPLICATION, "APP is a function without arguments that makes the application."
    )
    interface: str = option("auto", choice("auto", "asgi3", "asgi2", "wsgi"), APPLICATION, "What APP is written for.")
    lifespan: str = option(
        "auto", choice("auto", "on", "off"), APPLICATION, "Lifespan events; auto: if APP knows them."
    )
    loop: str = option(
        "auto", choice("auto", "uvloop", "asyncio"), APPLICATION, "Event loop; auto: uvloop if it is there."
    )
    root_path: str = option("", root_path(), APPLICATION, "Path under which a proxy serves the application.")

    log_level: str = option("info", _LEVEL, LOGGING, "Least level that is logged; trace shows every ASGI message.")
    access_log: bool = option(True, _SWITCH, LOGGING, "A line for each request and each WebSocket's begin and end.")
    use_colors: bool | None = option(
        None, optional(_SWITCH, "auto"), LOGGING, "Colours in the log; auto: on a terminal."
    )

    headers: tuple[tuple[str, str], ...] = option(
        (), header_list(), HTTP, "Add a header to every response; may be given several times.", word="header"
    )
    server_header: bool = option(True, _SWITCH, HTTP, "Send the server header.")
    date_header: bool = option(True, _SWITCH, HTTP, "Send the date header.")
    h1_max_header_size: int = option(64 * KIB, size(), HTTP, "Largest head of a request; a larger one gets 431.")
    h1_max_header_count: int = option(128, number(1), HTTP, "Most header fields of a request; more get 431.")

    ws_max_size: int = option(16 * MIB, size(), WEBSOCKET, "Largest message from a client; a larger one ends in 1009.")
    ws_max_queue: int = option(32, number(1), WEBSOCKET, "Messages that may wait for APP before reading stops.")
    ws_max_frames_per_message: int = option(131072, number(1), WEBSOCKET, "Most frames that a message may come in.")
    ws_ping_interval: float | None = option(20.0, _TIME_OR_OFF, WEBSOCKET, "Time between keepalive pings.")
    ws_ping_timeout: float | None = option(
        20.0, _TIME_OR_OFF, WEBSOCKET, "Longest wait for the pong to a keepalive ping."
    )
    ws_idle_timeout: float | None = option(
        None, _TIME_OR_OFF, WEBSOCKET, "Close a WebSocket that is silent for this long."
    )
    ws_close_timeout: float = option(10.0, duration(), WEBSOCKET, "Longest wait for the client's answer to a close.")

    ws_per_message_deflate: bool = option(True, on_off(), COMPRESSION, "Compress messages where the client can, too.")
    ws_deflate_context: Literal["shared", "takeover"] = option(
        "shared",
        choice("shared", "takeover"),
        COMPRESSION,
        "shared: no memory a connection; takeover: smaller messages, but memory for each connection.",
    )
    ws_deflate_level: int = option(6, number(1, 9), COMPRESSION, "From 1, the fastest, to 9, the smallest.")
    ws_deflate_server_window_bits: int = option(
        15, number(9, 15), COMPRESSION, "Window for what the server compresses, as a power of two."
    )
    ws_deflate_client_window_bits: int = option(
        15, number(8, 15), COMPRESSION, "Window for what clients compress, where they can be told."
    )
    ws_deflate_mem_level: int = option(8, number(1, 9), COMPRESSION, "Memory for compressing, from 1 to 9.")
    ws_deflate_threshold: int = option(256, size(0), COMPRESSION, "Messages shorter than this are not compressed.")

    limit_concurrency: int | None = option(
        None, optional(number(1), *_OFF), LIMITS, "Most requests in progress and open WebSockets; more get 503."
    )
    timeout_keep_alive: float = option(5.0, duration(zero=True), LIMITS, "Close an HTTP connection idle for this long.")
    timeout_header: float = option(
        30.0, duration(), LIMITS, "Time a client has to send the head of a request; then 408."
    )
    timeout_handshake: float = option(30.0, duration(), LIMITS, "Time APP has to accept or deny a WebSocket.")
    timeout_graceful_shutdown: float = option(
        30.0, duration(zero=True), LIMITS, "Time that open requests and WebSockets get at shutdown."
    )

    ssl_certfile: str | None = option(None, _FILE, TLS, "Certificate and its chain (PEM); turns TLS on.")
    ssl_keyfile: str | None = option(None, _FILE, TLS, "Private key (PEM), if not in the certificate's file.")
    ssl_keyfile_password: str | None = option(None, optional(text()), TLS, "Password of the private key.", secret=True)
    ssl_ca_certs: str | None = option(None, _FILE, TLS, "Authorities that clients' certificates are checked by (PEM).")
    ssl_cert_reqs: str = option("none", _CERT_REQS, TLS, "Whether clients are asked for a certificate.")
    ssl_ciphers: str | None = option(
        None, optional(text()), TLS, "Ciphers (OpenSSL's notation); by default Python's own."
    )

    def __post_init__(self) -> None:
        for each in OPTIONS.values():
            object.__setattr__(self, each.name, each.convert(getattr(self, each.name)))
        _check_combinations(self)

    @property
    def ssl(self) -> bool:
        """Whether connections speak TLS."""
        return self.ssl_certfile is not None


def _check_combinations(config: Config) -> None:
    if config.uds is not None and config.fd is not None:
        raise ConfigError("--uds and --fd exclude each other; give one of them")
    for name in ("ssl_keyfile", "ssl_keyfile_password", "ssl_ca_certs", "ssl_cert_reqs", "ssl_ciphers"):
        # never plain text where TLS was meant
        if not config.ssl and getattr(config, name) != OPTIONS[name].default:
            raise ConfigError(f"{OPTIONS[name].flag}: TLS needs a certificate too; give --ssl-certfile")
    if config.ssl_cert_reqs != "none" and config.ssl_ca_certs is None:
        raise ConfigError("--ssl-cert-reqs: clients' certificates can't be checked without --ssl-ca-certs")


def _option_of(field: dataclasses.Field[Any]) -> Option:
    meta = field.metadata
    word = meta["word"] or field.name.replace("_", "-")
    return Option(field.name, field.default, meta["help"], meta["group"], meta["kind"], word)


OPTIONS: dict[str, Option] = {field.name: _option_of(field) for field in dataclasses.fields(Config) if field.metadata}
