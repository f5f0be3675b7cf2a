"""The types of the options of WebSockets as keyword arguments, for type checkers and editors; unused at run time."""

from typing import Literal

from flowserve.config.keywords import HostedKeywords, WebSocketKeywords


class LibraryKeywords(WebSocketKeywords, total=False):
    """Of `accept()`, and of `connect()` and `serve()` among others."""

    compression: Literal["deflate"] | None
    """Whether to compress messages (permessage-deflate) if the peer can, too. Default: deflate"""
    max_size: int | str | tuple[int | None, int | None] | None
    """Largest message from the peer; a larger one ends in 1009. None for no limit. Default: 16MiB"""
    max_queue: int | tuple[int | None, int | None] | None
    """Messages that may wait for the program before reading stops. None for no limit. Default: 32"""
    close_timeout: float | str | None
    """Longest wait for the peer's answer to a close. None for no limit. Default: 10s"""


class ConnectKeywords(LibraryKeywords, total=False):
    """Of `connect()`, beside its parameters: arguments for the event loop."""

    family: int
    proto: int
    flags: int
    happy_eyeballs_delay: float | None
    interleave: int | None
    all_errors: bool
    ssl_handshake_timeout: float | None
    ssl_shutdown_timeout: float | None
    proxy_ssl_handshake_timeout: float | None
    proxy_ssl_shutdown_timeout: float | None
    proxy_server_hostname: str | None


class ServeKeywords(LibraryKeywords, HostedKeywords, total=False):
    """Of `serve()`, beside its parameters. access_log and proxy_headers are off by default there."""

    reuse_address: bool
    """Has no effect: it is always on."""
