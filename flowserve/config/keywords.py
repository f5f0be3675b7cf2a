"""The types of the options as keyword arguments, for type checkers and editors; not imported at run time.

Made from the declaration in config.py by tests/support/option_types.py, which writes this file anew when it is run.
"""

from collections.abc import Mapping, Sequence
from configparser import RawConfigParser
from os import PathLike
from typing import IO, Any, Literal, TypedDict

from flowserve.config.addresses import Bind


class WebSocketKeywords(TypedDict, total=False):
    """Of `connect()`, `accept()` and `serve()`."""

    max_frames_per_message: int
    """Most frames that a message may come in. Default: 131072"""
    ping_interval: float | str | None
    """Time between keepalive pings. Default: 20s"""
    ping_timeout: float | str | None
    """Longest wait for the pong to a keepalive ping. Default: 20s"""
    idle_timeout: float | str | None
    """Close a WebSocket that is silent for this long. Default: off"""
    max_lifetime: float | str | None
    """Close a WebSocket after this time (1001), whatever it does. Default: off"""
    send_timeout: float | str | None
    """End a WebSocket whose client takes nothing of what is sent for this long. Default: off"""
    slow_consumer: Literal["wait", "close", "drop"]
    """What a client gets that reads too slowly: wait: APP's send waits; close: it is closed; drop: it misses messages.
    Default: wait"""
    slow_consumer_mark: int | str
    """Bytes that may wait for a client before it counts as too slow (close, drop). Default: 1MiB"""
    slow_consumer_code: int
    """Close code of a slow client; 1008 or 1013. Default: 1013"""
    deflate_context: Literal["shared", "takeover"]
    """shared: no memory a connection; takeover: smaller messages, but memory for each connection. Default: shared"""
    deflate_level: int
    """From 1, the fastest, to 9, the smallest. Default: 6"""
    deflate_server_window_bits: int
    """Window for what the server compresses, as a power of two. Default: 15"""
    deflate_client_window_bits: int
    """Window for what clients compress, where they can be told. Default: 15"""
    deflate_mem_level: int
    """Memory for compressing, from 1 to 9. Default: 8"""
    deflate_threshold: int | str
    """Messages shorter than this are not compressed. Default: 256"""


class HostedKeywords(TypedDict, total=False):
    """Of `serve()`, `Config` and `run()`."""

    backlog: int
    """Connections that may wait to be accepted. Default: 2048"""
    timeout_graceful_shutdown: float | str | None
    """Time that open requests and WebSockets get at shutdown. Default: 30s"""
    access_log: bool
    """A line for each request and each WebSocket's begin and end. Default: on"""
    metrics: str | Bind | None
    """Serve Prometheus metrics of all workers here; or unix:PATH."""
    health_path: str | None
    """Path that answers 200, and 503 while draining, without APP."""
    headers: str | Sequence[str | tuple[str, str]] | None
    """Add a header to every response; may be given several times."""
    date_header: bool
    """Send the date header. Default: on"""
    h1_max_header_size: int | str
    """Largest head of a request; a larger one gets 431. Default: 64KiB"""
    h1_max_header_count: int
    """Most header fields of a request; more get 431. Default: 128"""
    limit_concurrency: int | Literal["off", "none"] | None
    """Most requests in progress and open WebSockets; more get 503. Default: off"""
    timeout_keep_alive: float | str
    """Close an HTTP connection idle for this long. Default: 5s"""
    limit_request_body: int | str | None
    """Largest body of a request; a larger one gets 413. Default: off"""
    timeout_body: float | str | None
    """Time in which a client has to send a further KiB of a body that is read; then 408. Default: 30s"""
    timeout_response: float | str | None
    """Cut a response of which the client has taken nothing for this long. Default: 30s"""
    timeout_disconnect: float | str | None
    """Cancel an application that still responds to a client that left so long ago. Default: 30s"""
    timeout_header: float | str
    """Time a client has to send the head of a request; then 408. Default: 30s"""
    timeout_handshake: float | str
    """Time APP has to accept or deny a WebSocket. Default: 30s"""
    limit_connections_per_address: int | Literal["off", "none"] | None
    """Most connections of one client address, in each worker; more are closed at once. Default: off"""
    allowed_hosts: str | Sequence[str]
    """Hosts that are served, as example.com or *.example.com; others get 400."""
    proxy_headers: bool
    """Take client and scheme from X-Forwarded-* or Forwarded, where the peer is trusted. Default: on"""
    forwarded_allow_ips: str | Sequence[str] | None
    """Trusted proxies: addresses, networks, unix for UNIX sockets, * for all; with commas between them. Default:
    127.0.0.1,::1,unix"""
    proxy_protocol: bool
    """Trusted proxies begin each connection with a PROXY header, version 1 or 2. Default: off"""
    ssl_certfile: str | PathLike[str] | None
    """Certificate and its chain (PEM); turns TLS on."""
    ssl_keyfile: str | PathLike[str] | None
    """Private key (PEM), if not in the certificate's file."""
    ssl_keyfile_password: str | None
    """Password of the private key."""
    ssl_ca_certs: str | PathLike[str] | None
    """Authorities that clients' certificates are checked by (PEM)."""
    ssl_cert_reqs: Literal["none", "optional", "required"] | int
    """Whether clients are asked for a certificate. Default: none"""
    ssl_ciphers: str | None
    """Ciphers (OpenSSL's notation); by default Python's own."""
    ssl_version_min: Literal["TLSv1.2", "TLSv1.3"]
    """Oldest version that clients may speak. Default: TLSv1.2"""
    ssl_handshake_timeout: float | str
    """Time a client has for the TLS handshake. Default: 10s"""
    ssl_reload: bool
    """Load certificate and key anew when their files change. Default: off"""


class ConfigKeywords(HostedKeywords, total=False):
    """Of `Config` and `run()`."""

    host: str | None
    """Address or name to listen on; 0.0.0.0 is every IPv4 interface, :: every one of IPv6 and IPv4. Default:
    127.0.0.1"""
    port: int
    """TCP port; 0 takes a free one. Default: 8000"""
    uds: str | PathLike[str] | None
    """Listen on a UNIX domain socket instead."""
    fd: int | None
    """Listen on a socket inherited as this descriptor."""
    bind: str | Bind | Sequence[str | Bind]
    """Listen here instead: host:port, [ipv6]:port, unix:PATH, unix:PATH,mode=660, fd:N, or systemd for the sockets that
    it passes; may be given several times."""
    app_dir: str | PathLike[str] | None
    """Where APP is looked for first; by default in the current folder."""
    factory: bool
    """APP is a function without arguments that makes the application. Default: off"""
    interface: Literal["auto", "asgi3", "asgi2", "wsgi"]
    """What APP is written for. Default: auto"""
    wsgi_threads: int
    """Requests that a WSGI application serves at a time, each in a thread of its own. Default: 40"""
    lifespan: Literal["auto", "on", "off"]
    """Lifespan events; auto: if APP knows them. Default: auto"""
    loop: str
    """Event loop; auto: uvloop if it is there; or a function that makes one. Default: auto"""
    root_path: str
    """Path under which a proxy serves the application."""
    env_file: str | PathLike[str] | None
    """Set environment variables from this file before APP is imported."""
    workers: int | Literal["auto"] | None
    """Worker processes; auto: one for each CPU. Default: 1"""
    timeout_worker_healthcheck: float | str
    """Replace a worker whose event loop stands still for this long. Default: 30s"""
    limit_max_requests: int | Literal["off", "none"] | None
    """Replace a worker after so many requests and WebSockets. Default: off"""
    limit_max_requests_jitter: int
    """Add up to so many to limit_max_requests, each worker its own. Default: 0"""
    workers_max_lifetime: float | str | None
    """Replace a worker after this time. Default: off"""
    workers_max_rss: int | str | None
    """Replace a worker that takes more memory than this. Default: off"""
    pid_file: str | PathLike[str] | None
    """Write the process ID of the main process into this file."""
    reload: bool
    """Start anew when a file changes; for development. Default: off"""
    reload_dirs: str | PathLike[str] | Sequence[str | PathLike[str]] | None
    """Folder to watch, by default the current one; may be repeated."""
    reload_includes: str | PathLike[str] | Sequence[str | PathLike[str]] | None
    """Names of files to watch besides these; may be repeated. Default: *.py"""
    reload_excludes: str | PathLike[str] | Sequence[str | PathLike[str]] | None
    """Names of files and folders not to watch besides these; may be repeated. Default: .*,__pycache__"""
    reload_delay: float | str
    """Time for which changes of files are collected. Default: 250ms"""
    shutdown_delay: float | str
    """Time from SIGTERM to the shutdown, in which health_path answers 503 and all else is served as before. Default:
    0s"""
    timeout_drain: float | str
    """Time before that over which WebSockets are closed one by one; 0 closes all at once. Default: 0s"""
    ws_shutdown_code: int
    """Close code that they get. Default: 1012"""
    ws_shutdown_reason: str
    """Close reason that they get. Default: the server is shutting down"""
    log_level: int | str | None
    """Least level that is logged; trace shows every ASGI message. Default: info"""
    log_query: Literal["redact", "full", "omit"]
    """Queries in the log; redact: without the values of what looks like a secret, as ?token=REDACTED. Default:
    redact"""
    use_colors: bool | Literal["auto"] | None
    """Colours in the log; auto: on a terminal. Default: auto"""
    log_time: bool | Literal["auto"] | None
    """Times in the log; auto: unless systemd's journal reads it. Default: auto"""
    log_format: Literal["human", "json"]
    """json: an object a line, for machines. Default: human"""
    access_log_format: str | None
    """Access lines in this format, or common or combined; its fields are in flowserve/logs/README.md."""
    log_config: str | PathLike[str] | IO[str] | RawConfigParser | Mapping[str, Any] | None
    """Configure logging by this file: JSON, YAML or INI; none: not at all."""
    ws_max_size: int | str
    """Largest message from a client; a larger one ends in 1009. Default: 16MiB"""
    ws_max_queue: int
    """Messages that may wait for APP before reading stops. Default: 32"""
    ws_max_frames_per_message: int
    """Most frames that a message may come in. Default: 131072"""
    ws_ping_interval: float | str | None
    """Time between keepalive pings. Default: 20s"""
    ws_ping_timeout: float | str | None
    """Longest wait for the pong to a keepalive ping. Default: 20s"""
    ws_idle_timeout: float | str | None
    """Close a WebSocket that is silent for this long. Default: off"""
    ws_close_timeout: float | str
    """Longest wait for the client's answer to a close. Default: 10s"""
    ws_max_connections: int | Literal["off", "none"] | None
    """Most WebSockets open at a time, in each worker; more get 503. Default: off"""
    ws_max_lifetime: float | str | None
    """Close a WebSocket after this time (1001), whatever it does. Default: off"""
    ws_send_timeout: float | str | None
    """End a WebSocket whose client takes nothing of what is sent for this long. Default: off"""
    ws_slow_consumer: Literal["wait", "close", "drop"]
    """What a client gets that reads too slowly: wait: APP's send waits; close: it is closed; drop: it misses messages.
    Default: wait"""
    ws_slow_consumer_mark: int | str
    """Bytes that may wait for a client before it counts as too slow (close, drop). Default: 1MiB"""
    ws_slow_consumer_code: int
    """Close code of a slow client; 1008 or 1013. Default: 1013"""
    ws_per_message_deflate: bool
    """Compress messages where the client can, too. Default: on"""
    ws_deflate_context: Literal["shared", "takeover"]
    """shared: no memory a connection; takeover: smaller messages, but memory for each connection. Default: shared"""
    ws_deflate_level: int
    """From 1, the fastest, to 9, the smallest. Default: 6"""
    ws_deflate_server_window_bits: int
    """Window for what the server compresses, as a power of two. Default: 15"""
    ws_deflate_client_window_bits: int
    """Window for what clients compress, where they can be told. Default: 15"""
    ws_deflate_mem_level: int
    """Memory for compressing, from 1 to 9. Default: 8"""
    ws_deflate_threshold: int | str
    """Messages shorter than this are not compressed. Default: 256"""
    server_header: bool
    """Send the server header. Default: on"""
    ws_allowed_origins: str | Sequence[str]
    """Origins of pages that may open WebSockets, as https://example.com or https://*.example.com; others get 403."""
    topics_url: str | None
    """What carries messages to other machines: redis://HOST, rediss://HOST, redis+sentinel://HOST,HOST/SERVICE,
    redis+cluster://HOST,HOST, nats://HOST,HOST, tls://HOST. Without it they reach all workers of this server."""
    topics_history: int
    """Most messages of a topic that are kept, so that clients can resume; 0 keeps none. Default: 100"""
    topics_history_size: int | str
    """Most bytes of a topic's messages that are kept. Default: 256KiB"""
    topics_history_age: float | str
    """Time for which a message is kept. Default: 5m"""
    topics_max_topics: int
    """Topics that are kept; then the one that was not used for longest is forgotten. Default: 100000"""
    topics_max_memory: int | str
    """Most bytes of all topics' messages that are kept; then the oldest are forgotten. Default: 1GiB"""
    topics_max_name: int
    """Most characters of a topic's name. Default: 200"""
    topics_max_size: int | str
    """Largest message that can be published. Default: 1MiB"""
    topics_max_per_connection: int
    """Most topics that a connection subscribes to. Default: 100"""
    topics_max_pending: int | str
    """Most bytes that wait for a slow subscriber; then it goes on from the history later. Default: 1MiB"""
    http: Literal["auto", "h11", "httptools", "zttp"]
    """Has no effect: flowserve has one HTTP implementation; leave it out."""
    http2: bool
    """Has no effect: flowserve speaks HTTP/1.1, which clients fall back to; leave it out."""
    ws: Literal["auto", "none", "websockets", "websockets-sansio", "wsproto"]
    """Has no effect: flowserve has one WebSocket implementation; leave it out."""
    ssl_version: int
    """Has no effect: TLS 1.2 and 1.3 are spoken; ssl_version_min sets the oldest."""
    reset_contextvars: bool
    """Has no effect: each request runs in context variables of its own, without those of the lifespan; leave it out."""
    h11_max_incomplete_event_size: int | str | None
    """As h1_max_header_size."""
    reload_dir: str | PathLike[str] | Sequence[str | PathLike[str]]
    """As reload_dirs."""
    reload_include: str | PathLike[str] | Sequence[str | PathLike[str]]
    """As reload_includes."""
    reload_exclude: str | PathLike[str] | Sequence[str | PathLike[str]]
    """As reload_excludes."""
    header: str | Sequence[str | tuple[str, str]]
    """As headers."""
