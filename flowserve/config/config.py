"""The declaration of every option: name, type, default, kind, group and help text.

The command line, the environment variables, the configuration file and `--help` are made from `OPTIONS`; to add an
option, add a field to `Config`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from flowserve.config.addresses import Bind, addresses, binds, hosts, listen_address, origins
from flowserve.config.close_kinds import close_code, close_reason
from flowserve.config.combinations import check_combinations
from flowserve.config.foreign_keywords import accepts_foreign_keywords
from flowserve.config.kinds import (
    INT_MAX,
    KIB,
    MIB,
    choice,
    duration,
    folder,
    header_list,
    line_format,
    number,
    on_off,
    optional,
    path,
    paths,
    patterns,
    size,
    switch,
    text,
    url_path,
    worker_count,
)
from flowserve.config.option import Option, name_by_keyword, option, parse
from flowserve.config.python_kinds import LogConfiguration, log_configuration, log_level, loop_name
from flowserve.config.sealed import sealed
from flowserve.config.tls import TLS
from flowserve.config.topics import TOPICS, TopicsOptions
from flowserve.errors import ConfigError
from flowserve.logs.redaction import LogQuery
from flowserve.logs.setup import set_up_logging

if TYPE_CHECKING:
    from ssl import SSLContext

    from typing_extensions import Unpack

    from flowserve.config.keywords import ConfigKeywords

ContextFactory: TypeAlias = "Callable[[Config, Callable[[], SSLContext]], SSLContext]"

LISTENING = "Listening"
APPLICATION = "Application"
PROCESSES = "Processes"
DRAINING = "Shutdown and draining"
LOGGING = "Logging"
METRICS = "Metrics and health"
WEBSOCKET = "WebSocket"
COMPRESSION = "WebSocket compression (permessage-deflate)"
HTTP = "HTTP"
LIMITS = "Limits and timeouts"
PROTECTION = "Protection"
PROXIES = "Behind a proxy"

_OFF = ("off", "none")
_SWITCH = switch()
_FILE = optional(path())
_TIME_OR_OFF = optional(duration(), *_OFF)
_TIME_OR_0 = optional(duration(), *_OFF, zero=True)


@accepts_foreign_keywords
@sealed
@dataclass(frozen=True, slots=True)
class Config(TopicsOptions):
    """The configuration of a server: `Config("myapp:app", port=8000, ws_max_size="16MiB")`.

    Each option is a keyword argument and an attribute; `flowserve --help all` describes them under the same names, with
    hyphens. Sizes are in bytes and durations in seconds; both may be given as text with a unit, such as "16MiB" or
    "500ms". The attributes hold the parsed values and cannot be changed. Keywords of uvicorn's Config are accepted too;
    a UserWarning says which have no effect. Raises ConfigError for a wrong value or an invalid combination; the message
    names the keyword.
    """

    app: str | Callable[..., Any]
    """The application, or where to import it from as "module:attribute"."""
    _: KW_ONLY

    host: str = option(
        "127.0.0.1",
        text(printable=True),
        LISTENING,
        "Address or name to listen on; 0.0.0.0 is every IPv4 interface, :: every one of IPv6 and IPv4.",
    )
    port: int = option(8000, number(0, 65535), LISTENING, "TCP port; 0 takes a free one.")
    uds: str | None = option(None, _FILE, LISTENING, "Listen on a UNIX domain socket instead.")
    fd: int | None = option(
        None, optional(number(0, INT_MAX)), LISTENING, "Listen on a socket inherited as this descriptor."
    )
    bind: tuple[Bind, ...] = option(
        (),
        binds(),
        LISTENING,
        "Listen here instead: host:port, [ipv6]:port, unix:PATH, unix:PATH,mode=660, fd:N, or systemd for the sockets"
        " that it passes; may be given several times.",
    )
    backlog: int = option(2048, number(1, INT_MAX), LISTENING, "Connections that may wait to be accepted.")

    app_dir: str = option(
        "", folder(empty=True), APPLICATION, "Where APP is looked for first; by default in the current folder."
    )
    factory: bool = option(
        False, _SWITCH, APPLICATION, "APP is a function without arguments that makes the application."
    )
    interface: str = option("auto", choice("auto", "asgi3", "asgi2", "wsgi"), APPLICATION, "What APP is written for.")
    wsgi_threads: int = option(
        40, number(1), APPLICATION, "Requests that a WSGI application serves at a time, each in a thread of its own."
    )
    lifespan: str = option(
        "auto", choice("auto", "on", "off"), APPLICATION, "Lifespan events; auto: if APP knows them."
    )
    loop: str = option(
        "auto", loop_name(), APPLICATION, "Event loop; auto: uvloop if it is there; or a function that makes one."
    )
    root_path: str = option("", url_path(prefix=True), APPLICATION, "Path under which a proxy serves the application.")
    env_file: str | None = option(
        None, _FILE, APPLICATION, "Set environment variables from this file before APP is imported."
    )

    workers: int = option(1, worker_count(), PROCESSES, "Worker processes; auto: one for each CPU.")
    timeout_worker_healthcheck: float = option(
        30.0, duration(), PROCESSES, "Replace a worker whose event loop stands still for this long."
    )
    limit_max_requests: int | None = option(
        None, optional(number(1), *_OFF), PROCESSES, "Replace a worker after so many requests and WebSockets."
    )
    limit_max_requests_jitter: int = option(
        0, number(0), PROCESSES, "Add up to so many to --limit-max-requests, each worker its own."
    )
    workers_max_lifetime: float | None = option(None, _TIME_OR_OFF, PROCESSES, "Replace a worker after this time.")
    workers_max_rss: int | None = option(
        None, optional(size(), *_OFF), PROCESSES, "Replace a worker that takes more memory than this."
    )
    pid_file: str | None = option(None, _FILE, PROCESSES, "Write the process ID of the main process into this file.")
    reload: bool = option(False, _SWITCH, PROCESSES, "Start anew when a file changes; for development.")
    reload_dirs: tuple[str, ...] = option(
        (), paths(), PROCESSES, "Folder to watch, by default the current one; may be repeated.", word="reload-dir"
    )
    reload_includes: tuple[str, ...] = option(
        ("*.py",),
        patterns(),
        PROCESSES,
        "Names of files to watch besides these; may be repeated.",
        word="reload-include",
    )
    reload_excludes: tuple[str, ...] = option(
        (".*", "__pycache__"),
        patterns(),
        PROCESSES,
        "Names of files and folders not to watch besides these; may be repeated.",
        word="reload-exclude",
    )
    reload_delay: float = option(0.25, duration(), PROCESSES, "Time for which changes of files are collected.")

    timeout_graceful_shutdown: float = option(
        30.0, duration(zero=True), DRAINING, "Time that open requests and WebSockets get at shutdown."
    )
    shutdown_delay: float = option(
        0.0,
        duration(zero=True),
        DRAINING,
        "Time from SIGTERM to the shutdown, in which --health-path answers 503 and all else is served as before.",
    )
    timeout_drain: float = option(
        0.0,
        duration(zero=True),
        DRAINING,
        "Time before that over which WebSockets are closed one by one; 0 closes all at once.",
    )
    ws_shutdown_code: int = option(1012, close_code(), DRAINING, "Close code that they get.")
    ws_shutdown_reason: str = option(
        "the server is shutting down", close_reason(), DRAINING, "Close reason that they get."
    )

    log_level: str = option("info", log_level(), LOGGING, "Least level that is logged; trace shows every ASGI message.")
    access_log: bool = option(True, _SWITCH, LOGGING, "A line for each request and each WebSocket's begin and end.")
    log_query: LogQuery = option(  # noqa: RUF009  (a field, as the others)
        "redact",
        choice("redact", "full", "omit"),
        LOGGING,
        "Queries in the log; redact: without the values of what looks like a secret, as ?token=REDACTED.",
    )
    use_colors: bool | None = option(
        None, optional(_SWITCH, "auto"), LOGGING, "Colours in the log; auto: on a terminal."
    )
    log_time: bool | None = option(
        None, optional(_SWITCH, "auto"), LOGGING, "Times in the log; auto: unless systemd's journal reads it."
    )
    log_format: Literal["human", "json"] = option(
        "human", choice("human", "json"), LOGGING, "json: an object a line, for machines."
    )
    access_log_format: str | None = option(
        None,
        optional(line_format()),
        LOGGING,
        "Access lines in this format, or common or combined; its fields are in flowserve/logs/README.md.",
    )
    log_config: LogConfiguration = option(  # noqa: RUF009  (a field, as the others)
        "", log_configuration(), LOGGING, "Configure logging by this file: JSON, YAML or INI; none: not at all."
    )

    metrics: Bind | None = option(  # noqa: RUF009  (a field, as the others)
        None, optional(listen_address()), METRICS, "Serve Prometheus metrics of all workers here; or unix:PATH."
    )
    health_path: str | None = option(
        None, optional(url_path()), METRICS, "Path that answers 200, and 503 while draining, without APP."
    )

    ws_max_size: int = option(16 * MIB, size(), WEBSOCKET, "Largest message from a client; a larger one ends in 1009.")
    ws_max_queue: int = option(32, number(1), WEBSOCKET, "Messages that may wait for APP before reading stops.")
    ws_max_frames_per_message: int = option(131072, number(1), WEBSOCKET, "Most frames that a message may come in.")
    ws_ping_interval: float | None = option(20.0, _TIME_OR_0, WEBSOCKET, "Time between keepalive pings.")
    ws_ping_timeout: float | None = option(
        20.0, _TIME_OR_0, WEBSOCKET, "Longest wait for the pong to a keepalive ping."
    )
    ws_idle_timeout: float | None = option(
        None, _TIME_OR_OFF, WEBSOCKET, "Close a WebSocket that is silent for this long."
    )
    ws_close_timeout: float = option(10.0, duration(), WEBSOCKET, "Longest wait for the client's answer to a close.")

    ws_max_connections: int | None = option(
        None, optional(number(1), *_OFF), WEBSOCKET, "Most WebSockets open at a time, in each worker; more get 503."
    )
    ws_max_lifetime: float | None = option(
        None, _TIME_OR_OFF, WEBSOCKET, "Close a WebSocket after this time (1001), whatever it does."
    )
    ws_send_timeout: float | None = option(
        None, _TIME_OR_OFF, WEBSOCKET, "End a WebSocket whose client takes nothing of what is sent for this long."
    )
    ws_slow_consumer: Literal["wait", "close", "drop"] = option(
        "wait",
        choice("wait", "close", "drop"),
        WEBSOCKET,
        "What a client gets that reads too slowly: wait: APP's send waits; close: it is closed; drop: it misses"
        " messages.",
    )
    ws_slow_consumer_mark: int = option(
        MIB, size(), WEBSOCKET, "Bytes that may wait for a client before it counts as too slow (close, drop)."
    )
    ws_slow_consumer_code: int = option(1013, close_code(), WEBSOCKET, "Close code of a slow client; 1008 or 1013.")

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

    headers: tuple[tuple[str, str], ...] = option(
        (), header_list(), HTTP, "Add a header to every response; may be given several times.", word="header"
    )
    server_header: bool = option(True, _SWITCH, HTTP, "Send the server header.")
    date_header: bool = option(True, _SWITCH, HTTP, "Send the date header.")
    h1_max_header_size: int = option(64 * KIB, size(), HTTP, "Largest head of a request; a larger one gets 431.")
    h1_max_header_count: int = option(128, number(1), HTTP, "Most header fields of a request; more get 431.")

    limit_concurrency: int | None = option(
        None, optional(number(1), *_OFF), LIMITS, "Most requests in progress and open WebSockets; more get 503."
    )
    timeout_keep_alive: float = option(5.0, duration(zero=True), LIMITS, "Close an HTTP connection idle for this long.")
    limit_request_body: int | None = option(
        None, optional(size(), *_OFF), LIMITS, "Largest body of a request; a larger one gets 413."
    )
    timeout_body: float | None = option(
        30.0, _TIME_OR_OFF, LIMITS, "Time in which a client has to send a further KiB of a body that is read; then 408."
    )
    timeout_response: float | None = option(
        30.0, _TIME_OR_OFF, LIMITS, "Cut a response of which the client has taken nothing for this long."
    )
    timeout_disconnect: float | None = option(
        30.0, _TIME_OR_OFF, LIMITS, "Cancel an application that still responds to a client that left so long ago."
    )
    timeout_header: float = option(
        30.0, duration(), LIMITS, "Time a client has to send the head of a request; then 408."
    )
    timeout_handshake: float = option(30.0, duration(), LIMITS, "Time APP has to accept or deny a WebSocket.")
    limit_connections_per_address: int | None = option(
        None,
        optional(number(1), *_OFF),
        LIMITS,
        "Most connections of one client address, in each worker; more are closed at once.",
    )

    allowed_hosts: tuple[str, ...] = option(
        (), hosts(), PROTECTION, "Hosts that are served, as example.com or *.example.com; others get 400."
    )
    ws_allowed_origins: tuple[str, ...] = option(
        (),
        origins(),
        PROTECTION,
        "Origins of pages that may open WebSockets, as https://example.com or https://*.example.com; others get 403.",
    )

    proxy_headers: bool = option(
        True, _SWITCH, PROXIES, "Take client and scheme from X-Forwarded-* or Forwarded, where the peer is trusted."
    )
    forwarded_allow_ips: tuple[str, ...] = option(
        ("127.0.0.1", "::1", "unix"),
        addresses(),
        PROXIES,
        "Trusted proxies: addresses, networks, unix for UNIX sockets, * for all; with commas between them.",
    )
    proxy_protocol: bool = option(
        False, _SWITCH, PROXIES, "Trusted proxies begin each connection with a PROXY header, version 1 or 2."
    )

    ssl_context_factory: ContextFactory | None = None
    """Returns the TLS context to use; turns TLS on. It is called with this Config and with a function that returns the
    context described by the options above. Not on the command line."""
    callback_notify: Callable[[], Awaitable[None]] | None = None
    """Awaited when the server has started, and again each `timeout_notify` seconds. Not on the command line."""
    timeout_notify: float = 30.0
    _by_flag: bool = dataclasses.field(default=False, repr=False, compare=False)  # what _naming() does

    if TYPE_CHECKING:  # with the types of what may be given; those of the attributes are above

        def __init__(
            self,
            app: str | Callable[..., Any],
            *,
            ssl_context_factory: ContextFactory | None = None,
            callback_notify: Callable[[], Awaitable[None]] | None = None,
            timeout_notify: float | str = 30.0,
            **options: Unpack[ConfigKeywords],
        ) -> None: ...

    def __post_init__(self) -> None:
        for each in OPTIONS.values():
            object.__setattr__(self, each.name, each.convert(getattr(self, each.name), each.name))
        object.__setattr__(self, "timeout_notify", parse(duration(), self.timeout_notify, "timeout_notify"))
        with self._naming():
            check_combinations(self, OPTIONS)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Have the ConfigErrors that are raised in this context, which name options by their flags, name them as they
        were given: the command and gunicorn have flags, Python has keywords."""
        try:
            yield
        except ConfigError as error:
            if self._by_flag:
                raise
            raise ConfigError(name_by_keyword(str(error), OPTIONS)) from error.__cause__

    def configure_logging(self) -> None:
        """Set up the loggers `flowserve` and `flowserve.access` by the options about logging, as the command does: the
        first writes to stderr, the second to stdout. A second call replaces what the first has set up. Raises
        ConfigError for a `log_config` that can't be read or is wrong."""
        with self._naming():
            set_up_logging(self)

    @property
    def ssl(self) -> bool:
        """Whether the server uses TLS."""
        return self.ssl_certfile is not None or self.ssl_context_factory is not None


def _make_option(field: dataclasses.Field[Any]) -> Option:
    meta = field.metadata
    word = meta["word"] or field.name.replace("_", "-")
    return Option(field.name, field.default, meta["help"], meta["group"], meta["kind"], word, secret=not field.repr)


_LAST = (TLS, TOPICS)
"""The groups of options that are declared elsewhere; they are listed after the others."""

OPTIONS: dict[str, Option] = {
    field.name: _make_option(field)
    for field in sorted(dataclasses.fields(Config), key=lambda field: field.metadata.get("group") in _LAST)
    if field.metadata
}
