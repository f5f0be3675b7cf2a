"""The client behind trusted proxies: X-Forwarded-For, X-Forwarded-Proto and Forwarded (RFC 7239).

Each proxy appends the address of its peer at the right end of the list, after anything that the client itself may have
written. So the lists are read from the right: as long as an entry is a trusted proxy, the entry to its left can be
believed too; the first one that is not is the client. The fields must be ignored unless a trusted proxy sent the
request.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from flowserve.errors import RequestError
from flowserve.grammar import TOKEN
from flowserve.http.messages import RawHeaders

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_HOPS = 64
"""Entries of a list that are read, and so proxies that a request may have passed."""
_MAX_LIST = 4096
"""Characters of Forwarded that are read."""
_MALFORMED = "="
"""Stands for an element that is cut off."""
_MAX_NODE = 100
"""Characters of an entry: an IPv6 address in brackets with an obfuscated port is shorter."""
_CACHE_SIZE = 1024
"""Entries whose meaning is cached: the same clients send many requests, and parsing an address is slow."""
_SECURE = {"https": True, "wss": True, "http": False, "ws": False}

_NODE = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:([0-9]{1,5})|_[A-Za-z0-9._-]+))?"  # RFC 7239 section 6
    r"|([0-9A-Fa-f:.]+)"  # IPv6 in X-Forwarded-For
)
_PAIR = re.compile(
    rf"[ \t]*(?:({TOKEN})="  # RFC 7239 section 4
    r'(?:"((?:[^"\\]|\\.)*)"|([^";,\s]*))'  # brackets and colons without quotation marks too, as many send them
    r"[ \t]*)?(?:;|\Z)"
)
_PROXY_ON_UNIX_SOCKET = "unix:"
"""What nginx writes for a peer on a UNIX domain socket."""


class TrustedProxies:
    """The trusted proxies: addresses and networks, `unix` for UNIX domain sockets, `*` for every peer.

    `*` trusts every peer, but not every address in a list: otherwise the leftmost entry would count, which the client
    can choose.
    """

    __slots__ = ("_addresses", "_cached_hop", "_exact", "_networks", "everyone", "unix")

    def __init__(self, entries: Iterable[str]) -> None:
        """`entries` are well-formed, as in --forwarded-allow-ips."""
        named = set(entries)
        self.everyone = "*" in named
        self.unix = "unix" in named or self.everyone
        networks = [_parse_network(entry) for entry in named - {"*", "unix"}]
        self._addresses = frozenset(each.network_address for each in networks if each.num_addresses == 1)
        self._exact = frozenset(map(str, self._addresses))
        self._networks = tuple(each for each in networks if each.num_addresses > 1)
        self._cached_hop = functools.lru_cache(_CACHE_SIZE)(self._parse_hop)

    def trusts_peer(self, host: str) -> bool:
        """Whether the peer of an IP socket is trusted. `host` is its address as in the socket's peername."""
        if self.everyone or host in self._exact:
            return True
        if not self._networks and ":" not in host:
            return False
        hop = self.hop(host.partition("%")[0])
        return hop is not None and hop.trusted

    def contains(self, address: Address) -> bool:
        """Whether `address`, as returned by `address_of()`, is one of the addresses or in one of the networks."""
        return address in self._addresses or any(address in network for network in self._networks)

    def hop(self, text: str) -> Hop | None:
        """Return the address in an entry of a list, None if there is none."""
        return self._cached_hop(text) if len(text) <= _MAX_NODE else None

    def _parse_hop(self, text: str) -> Hop | None:
        node = _parse_node(text)
        return Hop((str(node[0]), node[1]), self.contains(node[0])) if node is not None else None


class Hop(NamedTuple):
    """A client or proxy that a request has passed."""

    client: tuple[str, int]
    """Address and port, 0 if the port is not known."""
    trusted: bool
    """Whether it is a trusted proxy."""


class ForwardedClient(NamedTuple):
    """What the proxies of a request report about its client."""

    client: tuple[str, int] | None
    """Address and port, 0 if the port is not known; None if not reported."""
    secure: bool | None
    """Whether the client uses TLS; None if not reported."""


class _FieldResult(NamedTuple):
    """What one kind of field reports."""

    client: tuple[str, int] | None = None  # the leftmost address that can be believed
    names_client: bool = False  # the field has an entry about the client
    certain: bool = False  # `client` is the client itself, not a proxy before a hidden address
    secure: bool | None = None


def forwarded_client(headers: RawHeaders, trusted: TrustedProxies) -> ForwardedClient:
    """Return what the fields of a request report, which a trusted proxy has sent. Malformed entries are ignored.

    A request may have both X-Forwarded-* and Forwarded. If its proxy handles only one of them, the other is the
    client's own, and it is unknown which. So both have to name the same client, otherwise RequestError (400) is raised,
    and the client counts as using TLS only if neither contradicts.
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
    de_facto = _read_x_forwarded_for(b",".join(hops).decode("latin-1"), trusted)
    secure = _SECURE.get(scheme.rpartition(b",")[2].decode("latin-1").strip(" \t").lower())
    if not elements:
        return ForwardedClient(de_facto.client, secure)
    standard = _read_forwarded(b",".join(elements).decode("latin-1"), trusted)
    if (
        de_facto.names_client
        and standard.names_client
        and (_client_host(de_facto), de_facto.certain) != (_client_host(standard), standard.certain)
    ):
        raise RequestError(400, "X-Forwarded-For and Forwarded name different clients")
    said = [each for each in (secure, standard.secure) if each is not None]
    return ForwardedClient(de_facto.client or standard.client, all(said) if said else None)


def _client_host(result: _FieldResult) -> str | None:
    return result.client[0] if result.client is not None else None


def _read_x_forwarded_for(value: str, trusted: TrustedProxies) -> _FieldResult:
    """Read X-Forwarded-For."""
    result = _FieldResult()
    for entry in filter(None, (each.strip(" \t") for each in reversed(value.rsplit(",", _MAX_HOPS)))):
        if entry == _PROXY_ON_UNIX_SOCKET and trusted.unix:
            continue
        hop = trusted.hop(entry)
        if hop is None:
            return result._replace(names_client=True, certain=False)
        result = _FieldResult(hop.client, names_client=True, certain=True)
        if not hop.trusted:
            break
    return result


def _read_forwarded(value: str, trusted: TrustedProxies) -> _FieldResult:
    """Read Forwarded."""
    result = _FieldResult()
    for element in islice(_split_elements(value), _MAX_HOPS):
        pairs = _parse_pairs(element)
        if pairs is None:
            return result._replace(names_client=True, certain=False)
        result = result._replace(secure=_SECURE.get(pairs.get("proto", "").lower()))
        if "for" not in pairs:
            return result._replace(certain=False)
        hop = trusted.hop(pairs["for"])
        if hop is None:  # "unknown", or an identifier that hides the address (RFC 7239 section 6)
            return result._replace(names_client=True, certain=False)
        result = _FieldResult(hop.client, names_client=True, certain=True, secure=result.secure)
        if not hop.trusted:
            break
    return result


def _split_elements(value: str) -> Iterator[str]:
    """Yield the non-empty elements of a Forwarded list, from right to left.

    Splitting from the right ensures that an unbalanced quotation mark of the client can't hide what its proxy appended.
    """
    cut = len(value) > _MAX_LIST
    value = value[-_MAX_LIST:]
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
    """Whether an odd number of backslashes precedes the character at `at` (RFC 9110 section 5.6.4)."""
    first = at
    while first and value[first - 1] == "\\":
        first -= 1
    return (at - first) % 2 == 1


def _parse_pairs(element: str) -> dict[str, str] | None:
    """Return the parameters of an element, names in lower case; None if it is malformed or repeats one."""
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


def _parse_node(text: str) -> tuple[Address, int] | None:
    """Return address and port, 0 for no port; None if there is no valid address."""
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
    """Return the IP address in `text`, an IPv4-mapped IPv6 address as IPv4; None if it is not an address.

    An address with a zone is not accepted, as zones have a meaning only on the machine that wrote them.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return None if address.scope_id is not None else address.ipv4_mapped or address
    return address


def _parse_network(entry: str) -> _Network:
    network = ipaddress.ip_network(entry, strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.IPv4Network((int(mapped), network.prefixlen - 96))
    return network
