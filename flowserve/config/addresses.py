"""Places as options name them: where to listen, whom to trust, which hosts and origins are meant. A leaf."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import Any, NamedTuple

from flowserve.config.kinds import Kind, check_path, several


class Bind(NamedTuple):
    """Where to listen: exactly one of `host` (with `port`), `path` (with `mode`), `fd` and `systemd` is set."""

    host: str | None = None
    port: int = 0
    path: str | None = None
    mode: int = 0o666
    fd: int | None = None
    systemd: bool = False

    def __str__(self) -> str:
        if self.host is not None:
            return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        if self.path is not None:
            return f"unix:{self.path}" + (f",mode={self.mode:03o}" if self.mode != 0o666 else "")
        return f"fd:{self.fd}" if self.fd is not None else "systemd"


_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\[\]:/\s]*)):(\d{1,5})", re.ASCII)
_UNIX = re.compile(r"unix:(.+?)(?:,mode=([0-7]{3,4}))?", re.DOTALL)
_DESCRIPTOR = re.compile(r"fd:(?://)?(\d{1,9})", re.ASCII)


def _bind(value: Any) -> Bind:
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


def _address(value: str) -> str:
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


_HOST = re.compile(r"\*|(?:\*\.)?(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_ORIGIN = re.compile(
    r"\*|null|[a-z][a-z0-9+.-]*://(?:\*\.)?(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::\d{1,5})?"
)


def _host(value: str) -> str:
    value = value.lower()
    if not _HOST.fullmatch(value):
        raise ValueError(f"{value!r} is not a host; write e.g. example.com, *.example.com or localhost:8000")
    return value


def _origin(value: str) -> str:
    value = value.lower()
    if not _ORIGIN.fullmatch(value):
        raise ValueError(f"{value!r} is not an origin; write e.g. https://example.com or https://*.example.com")
    return value


def binds() -> Kind:
    """Where to listen, several times."""
    return several(_bind, "ADDRESS", r"\s+", " ", Bind)


def place() -> Kind:
    """One place to listen, that this process opens itself."""

    def parse(value: Any) -> Bind:
        with suppress(ValueError):
            found = _bind(value) if isinstance(value, (str, Bind)) else Bind()
            if found.host is not None or found.path is not None:
                return found
        raise ValueError(f"{str(value)!r} is no place to listen; write host:port, [ipv6]:port or unix:PATH,mode=660")

    return Kind(parse, str, "HOST:PORT")


def addresses() -> Kind:
    """IP addresses and networks, `unix` and `*`."""
    return several(_address, "ADDRESSES")


def hosts() -> Kind:
    """Names of hosts, with a port or without, `*.` for any subdomain, `*` for all."""
    return several(_host, "HOSTS")


def origins() -> Kind:
    """Origins (RFC 6454), `*.` for any subdomain, `*` for all."""
    return several(_origin, "ORIGINS")
