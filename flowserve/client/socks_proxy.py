"""The tunnel through a SOCKS proxy: version 5 (RFC 1928, RFC 1929), 4 and 4a, by the package python-socks."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from flowserve.client.hosts import in_brackets
from flowserve.client.proxies import Proxy
from flowserve.errors import ProxyError

_A_YEAR = 31536000.0
"""Seconds; python-socks would stop after 60, while open_timeout says when to."""
_MAY_PASS = (0x01, 0x03, 0x04, 0x05, 0x06, 0x5B)
"""Replies after which another attempt may succeed (RFC 1928 section 6; SOCKS 4 has one for every failure)."""


async def open_tunnel(
    proxy: Proxy, host: str, port: int, open_socket: Callable[[], Awaitable[socket.socket]]
) -> socket.socket:
    """Return a socket connected to (`host`, `port`) through `proxy`, which `open_socket()` connects to.

    A name is passed on to the proxy with socks5h:// and socks4a://, and looked up here with socks5:// and socks4://.
    Raises ProxyError if the proxy refuses, with a ConnectionError or EOFError as its cause if that may pass; OSError.
    """
    from python_socks import ProxyError as SOCKSError
    from python_socks import ProxyType
    from python_socks.async_.asyncio import Proxy as Client

    opened: list[socket.socket] = []

    class FirstHop(Client):
        """In the place of a proxy before this one, as python-socks itself tries one address of the proxy only."""

        async def connect(self, *args: Any, **kwargs: Any) -> socket.socket:
            opened.append(await open_socket())
            return opened[0]

    host = host.partition("%")[0]
    if proxy.version == 4 and _is_ipv6(host):
        raise ProxyError(0, f"{proxy} can't connect to {in_brackets(host)}: SOCKS 4 has no IPv6; use socks5://")
    version = ProxyType.SOCKS4 if proxy.version == 4 else ProxyType.SOCKS5
    here = version, proxy.host, proxy.port
    client = Client(*here, proxy.username, proxy.password, proxy.resolves_names, forward=FirstHop(*here))
    place = f"{in_brackets(host)}:{port}"
    try:
        return await client.connect(host, port, _A_YEAR)
    except BaseException as error:
        for sock in opened:
            sock.close()
        if isinstance(error, SOCKSError):
            detail = f"{proxy} did not connect to {place} ({error})"
            raise ProxyError(0, detail) from _cause(error, error.error_code)
        if isinstance(error, ValueError):  # of bytes that can't be decoded
            raise ProxyError(0, f"{proxy} sent an answer that is not SOCKS: {error}") from None
        if opened and isinstance(error, socket.gaierror):  # not of the proxy, which is connected
            raise socket.gaierror(error.errno, f"{error.strerror}: {host}") from None
        raise


def _cause(error: Exception, code: int | None) -> Exception:
    """Return the cause of the ProxyError for `error`, by which `process_exception()` sees whether it may pass."""
    if code in _MAY_PASS:
        return ConnectionError(str(error))
    ended = type(error.__cause__).__name__ == "IncompleteReadError"  # which python-socks does not make public
    return EOFError(str(error)) if ended else error


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
