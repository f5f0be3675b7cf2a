"""Kinds of options for addresses: where to listen, trusted proxies, hosts and origins."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import Any, NamedTuple

from flowserve.config.kinds import Kind, check_path, several


class Bind(NamedTuple):
    """An address to listen on: exactly one of `host`, `path`, `fd` and `systemd` is set."""

    host: str | None = None
    """A name or IP address, for TCP."""
    port: int = 0
    """The port for `host`; 0 for a free one."""
    path: str | None = None
    """The path of a UNIX domain socket."""
    mode: int = 0o666
    """The permissions of the socket at `path`."""
    fd: int | None = None
    """The descriptor of an inherited socket."""
    systemd: bool = False
    """Listen on the sockets that systemd passes."""

    def __str__(self) -> str:
        if self.host is not None:
            return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        if self.path is not None:
            return f"unix:{self.path}" + (f",mode={self.mode:03o}" if self.mode != 0o666 else "")
        return f"fd:{self.fd}" if self.fd is not None else "systemd"


_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\[\]:/\s]*)):(\d{1,5})", re.ASCII)
_UNIX = re.compile(r"unix:(.+?)(?:,mode=([0-7]{3,4}))?", re.DOTALL)
_DESCRIPTOR = re.compile(r"fd:(?://)?(\d{1,9})", re.ASCII)


def _parse_bind(value: Any) -> Bind:
    if isinstance(value, Bind):
        return value
    if value == "systemd":
        return Bind(systemd=True)
    if match := _DESCRIPTOR.fullmatch(value):
        return Bind(fd=int(match[1]))
    if match := _UNIX.fullmatch(value):
        if ",mode=" in match[1]:
            raise ValueError(f"{value!r} has no mode of three or four octal digits; write e.g. mode=660")
        check_path(match[1])
        return Bind(path=match[1], mode=int(match[2], 8) if match[2] else 0o666)
    match = _HOST_AND_PORT.fullmatch(value)
    if not match or int(match[3]) > 65535:
        raise ValueError(
            f"{value!r} is no place to listen; write host:port, [ipv6]:port, unix:PATH,mode=660, fd:N or systemd"
        )
    return Bind(host=match[1] or match[2] or "0.0.0.0", port=int(match[3]))


def _parse_network(value: str) -> str:
    if value in ("*", "unix"):
        return value
    try:
        if "%" in value:
            raise ValueError("a zone says something on one machine only")
        network = ipaddress.ip_network(value, strict=False)
        return str(network if network.num_addresses > 1 else network.network_address)
    except ValueError:
        raise ValueError(
            f"{value!r} is neither an address nor a network; write e.g. 10.0.0.1, 10.0.0.0/8, unix or *"
        ) from None


_HOST_PATTERN = re.compile(r"\*|(?:\*\.)?(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_ORIGIN_PATTERN = re.compile(
    r"\*|null|[a-z][a-z0-9+.-]*://(?:\*\.)?(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::\d{1,5})?"
)


def _parse_host(value: str) -> str:
    value = value.lower()
    if not _HOST_PATTERN.fullmatch(value):
        raise ValueError(f"{value!r} is not a host; write e.g. example.com, *.example.com or localhost:8000")
    return value


def _parse_origin(value: str) -> str:
    value = value.lower()
    if not _ORIGIN_PATTERN.fullmatch(value):
        raise ValueError(f"{value!r} is not an origin; write e.g. https://example.com or https://*.example.com")
    return value


def binds() -> Kind:
    """Addresses to listen on."""
    return several(_parse_bind, "ADDRESS", r"\s+", " ", Bind)


def listen_address() -> Kind:
    """One address to listen on: a host and port, or a UNIX domain socket."""

    def parse(value: Any) -> Bind:
        with suppress(ValueError):
            bind = _parse_bind(value) if isinstance(value, (str, Bind)) else Bind()
            if bind.host is not None or bind.path is not None:
                return bind
        raise ValueError(f"{str(value)!r} is no place to listen; write host:port, [ipv6]:port or unix:PATH,mode=660")

    return Kind(parse, str, "HOST:PORT", "str | Bind")


def addresses() -> Kind:
    """IP addresses and networks, `unix` for UNIX domain sockets, and `*` for all."""
    return several(_parse_network, "ADDRESSES")


def hosts() -> Kind:
    """Host names or addresses with an optional port; `*.` stands for any subdomain, `*` for all hosts."""
    return several(_parse_host, "HOSTS")


def origins() -> Kind:
    """Origins (RFC 6454); `*.` stands for any subdomain, `*` for all origins."""
    return several(_parse_origin, "ORIGINS")
