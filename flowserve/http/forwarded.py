"""Who is behind a proxy: X-Forwarded-For, X-Forwarded-Proto and Forwarded (RFC 7239), as far as they can be believed.

A proxy writes what it sees at the right end of the list, behind whatever the client may have written. So these lists
are read from the right: each address that is a trusted proxy's says that what stands to its left is true as well, and
the first one that is not is the client's. The fields must only be read where a trusted proxy has sent them.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from flowserve.errors import RequestError
from flowserve.http.messages import RawHeaders

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MOST_HOPS = 64
"""Proxies that a request may have come through, and entries of a list that are looked at."""
_LONGEST_LIST = 4096
"""Characters of Forwarded that are looked at."""
_MALFORMED = "="
_LONGEST_NODE = 100
"""Characters of an entry: an IPv6 address in brackets and an obfuscated port are shorter."""
_REMEMBERED = 1024
"""Entries of lists: requests of the same clients come again and again, and to read an address takes time."""
_SECURE = {"https": True, "wss": True, "http": False, "ws": False}

_NODE = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:([0-9]{1,5})|_[A-Za-z0-9._-]+))?"  # RFC 7239 section 6
    r"|([0-9A-Fa-f:.]+)"  # IPv6 in X-Forwarded-For
)
_PAIR = re.compile(
    r"[ \t]*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)="  # RFC 7239 section 4
    r'(?:"((?:[^"\\]|\\.)*)"|([^";,\s]*))'  # brackets and colons without quotation marks, too, as many write them
    r"[ \t]*)?(?:;|\Z)"
)
_PROXY_ON_UNIX_SOCKET = "unix:"
"""How nginx calls the peer of a UNIX domain socket."""


class Trusted:
    """The proxies that are trusted: addresses and networks, `unix` for UNIX domain sockets, `*` for every peer.

    `*` stands for whoever connects, not for the addresses in a list: else the left end of the list would count, which
    is the client's to write.
    """

    __slots__ = ("_addresses", "_exact", "_networks", "_read", "everyone", "unix")

    def __init__(self, entries: Iterable[str]) -> None:
        """`entries` are well-formed, as in --forwarded-allow-ips."""
        named = set(entries)
        self.everyone = "*" in named
        self.unix = "unix" in named or self.everyone
        networks = [_network(entry) for entry in named - {"*", "unix"}]
        self._addresses = frozenset(each.network_address for each in networks if each.num_addresses == 1)
        self._exact = frozenset(map(str, self._addresses))
        self._networks = tuple(each for each in networks if each.num_addresses > 1)
        self._read = functools.lru_cache(_REMEMBERED)(self._hop)

    def connects(self, host: str) -> bool:
        """Return whether the peer of an IP socket is trusted; `host` as the socket gives it."""
        if self.everyone or host in self._exact:
            return True
        if not self._networks and ":" not in host:
            return False
        hop = self.hop(host.partition("%")[0])
        return hop is not None and hop.trusted

    def holds(self, address: Address) -> bool:
        """Return whether `address`, in the form that `address_of` gives, is among the named ones."""
        return address in self._addresses or any(address in network for network in self._networks)

    def hop(self, text: str) -> Hop | None:
        """Return what an entry of a list says; None for what has no address."""
        return self._read(text) if len(text) <= _LONGEST_NODE else None

    def _hop(self, text: str) -> Hop | None:
        node = _node(text)
        return Hop((str(node[0]), node[1]), self.holds(node[0])) if node is not None else None


class Hop(NamedTuple):
    """Somebody whom a request came from: its address with the port, 0 if it is not known."""

    client: tuple[str, int]
    trusted: bool


class Seen(NamedTuple):
    """What the proxies say of a request: the client, its port 0 if it is not known, and whether the client speaks TLS.

    None for what they don't say.
    """

    client: tuple[str, int] | None
    secure: bool | None


class _Found(NamedTuple):
    """What one kind of fields says."""

    client: tuple[str, int] | None = None  # the last address that is known
    names: bool = False  # it says something of the client,
    sure: bool = False  # and the client is no other than that address, not one behind it that is hidden
    secure: bool | None = None


def seen_by_proxies(headers: RawHeaders, trusted: Trusted) -> Seen:
    """Return what the fields of a request say that a trusted proxy has sent; what can't be understood says nothing.

    A request may have X-Forwarded-* and Forwarded. One of them may be the client's own, where its proxy knows only the
    other, and which one can't be known. So both have to name the same client, else RequestError (400) is raised, and
    the client speaks TLS only if neither denies it.
    """
    hops: list[bytes] = []
    scheme = b""
    elements: list[bytes] = []
    for name, value in headers:
        if name == b"x-forwarded-for":
            hops.append(value)
        elif name == b"x-forwarded-proto":
            scheme = value
        elif name == b"forwarded":
            elements.append(value)
    usual = _usual(b",".join(hops).decode("latin-1"), trusted)
    secure = _SECURE.get(scheme.rpartition(b",")[2].decode("latin-1").strip(" \t").lower())
    if not elements:
        return Seen(usual.client, secure)
    standard = _standard(b",".join(elements).decode("latin-1"), trusted)
    if usual.names and standard.names and (_host(usual), usual.sure) != (_host(standard), standard.sure):
        raise RequestError(400, "X-Forwarded-For and Forwarded name different clients")
    said = [each for each in (secure, standard.secure) if each is not None]
    return Seen(usual.client or standard.client, all(said) if said else None)


def _host(found: _Found) -> str | None:
    return found.client[0] if found.client is not None else None


def _usual(value: str, trusted: Trusted) -> _Found:
    """X-Forwarded-For."""
    found = _Found()
    for entry in filter(None, (each.strip(" \t") for each in reversed(value.rsplit(",", _MOST_HOPS)))):
        if entry == _PROXY_ON_UNIX_SOCKET and trusted.unix:
            continue
        hop = trusted.hop(entry)
        if hop is None:
            return found._replace(names=True, sure=False)
        found = _Found(hop.client, names=True, sure=True)
        if not hop.trusted:
            break
    return found


def _standard(value: str, trusted: Trusted) -> _Found:
    """Forwarded."""
    found = _Found()
    for element in islice(_elements(value), _MOST_HOPS):
        pairs = _pairs(element)
        if pairs is None:
            return found._replace(names=True, sure=False)
        found = found._replace(secure=_SECURE.get(pairs.get("proto", "").lower()))
        if "for" not in pairs:
            return found._replace(sure=False)
        hop = trusted.hop(pairs["for"])
        if hop is None:  # "unknown", or an identifier that hides the address (RFC 7239 section 6)
            return found._replace(names=True, sure=False)
        found = _Found(hop.client, names=True, sure=True, secure=found.secure)
        if not hop.trusted:
            break
    return found


def _elements(value: str) -> Iterator[str]:
    """The elements of a Forwarded list, those that are not empty, from right to left.

    From the right, so that a quotation mark that a client left open can't swallow what its proxy wrote behind it.
    """
    cut = len(value) > _LONGEST_LIST
    value = value[-_LONGEST_LIST:]
    end, quoted = len(value), False
    for at in range(len(value) - 1, -1, -1):
        if value[at] == '"' and not (quoted and _is_escaped(value, at)):
            quoted = not quoted
        elif value[at] == "," and not quoted:
            if element := value[at + 1 : end].strip(" \t"):
                yield element
            end = at
    if cut:
        yield _MALFORMED
    elif element := value[:end].strip(" \t"):
        yield element


def _is_escaped(value: str, at: int) -> bool:
    """Whether an odd number of backslashes stands before a character (RFC 9110 section 5.6.4)."""
    first = at
    while first and value[first - 1] == "\\":
        first -= 1
    return (at - first) % 2 == 1


def _pairs(element: str) -> dict[str, str] | None:
    """The parameters of one element, their names in lower case; None if it is malformed or has one of them twice."""
    pairs: dict[str, str] = {}
    at = 0
    while at < len(element):
        match = _PAIR.match(element, at)
        if match is None:
            return None
        at = match.end()
        name, quoted, token = match.groups()
        if name is not None:
            if name.lower() in pairs:
                return None
            pairs[name.lower()] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return pairs


def _node(text: str) -> tuple[Address, int] | None:
    """Address and port, 0 if it is not there; None for what has no address."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    bracketed, dotted, port, bare = match.groups()
    address = address_of(bracketed or dotted or bare)
    number = int(port or 0)
    if address is None or number > 65535 or (bracketed is not None and ":" not in bracketed):
        return None
    return address, number


def address_of(text: str) -> Address | None:
    """Return the IP address that `text` is, an IPv4 one mapped into IPv6 as IPv4; None if it is none.

    An address with a zone is none: the zone says something on the machine that wrote it only.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return None if address.scope_id is not None else address.ipv4_mapped or address
    return address


def _network(entry: str) -> _Network:
    network = ipaddress.ip_network(entry, strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.IPv4Network((int(mapped), network.prefixlen - 96))
    return network
