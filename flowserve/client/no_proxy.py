"""The variable no_proxy: which servers are connected to directly, although the environment names a proxy."""

from __future__ import annotations

import ipaddress
import re

from flowserve.client.hosts import ascii_host

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_SEPARATORS = re.compile(r"[\s,]+")
_PORT = re.compile(r":([0-9]{1,5})")


def is_excluded(no_proxy: str, host: str, port: int) -> bool:
    """Whether `no_proxy` covers the server at (`host`, `port`).

    It is a list with commas or blanks between its items, each of them with or without a port, as curl, Go and requests
    read it:

    - `*` is every server;
    - `example.com` is that host and all below it, and so are `.example.com` and `*.example.com`;
    - `10.0.0.1`, `fd00::1` or `[fd00::1]:8080` is that address, however it is written;
    - `10.0.0.0/8` or `fd00::/8` is a network; names are not looked up for it.

    Other items cover nothing.
    """
    name = host.partition("%")[0].removesuffix(".").lower()
    address = _network(name)
    return any(_covers(item, name, address, port) for item in _SEPARATORS.split(no_proxy) if item)


def _covers(item: str, name: str, address: _Network | None, port: int) -> bool:
    item, only_port = _without_port(item)
    if only_port not in (None, port):
        return False
    if item == "*":
        return True
    network = _network(item.strip("[]"))
    if network is not None or address is not None:
        return network is not None and address is not None and _contains(network, address)
    try:
        domain = ascii_host(item.removeprefix("*").removeprefix(".").removesuffix("."))
    except ValueError:
        return False
    return name == domain or name.endswith(f".{domain}")


def _without_port(item: str) -> tuple[str, int | None]:
    """Split an item into host and port, None if it has none. The last group of an IPv6 address is no port."""
    head, bracket, tail = item.rpartition("]")
    if not bracket and item.count(":") > 1:
        return item, None
    host, colon, _ = (tail if bracket else item).partition(":")
    found = _PORT.fullmatch(tail if bracket else item[len(host) :]) if colon else None
    return (head + bracket + host, int(found[1])) if found else (item, None)


def _network(text: str) -> _Network | None:
    """Return the network, or the address as a network of one, that `text` names; None if it names none."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False)
    return network


def _contains(network: _Network, address: _Network) -> bool:
    return network.version == address.version and address.network_address in network
