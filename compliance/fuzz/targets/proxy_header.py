"""The PROXY protocol, versions 1 and 2.

- Only ValueError is raised.
- A reader that asks `bytes_missing()` how much to read ends exactly behind the header, whatever comes behind it, and
  asks for at least one byte and for no more than a header has.
- A header that was understood, written again in version 2, says the same.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from compliance.fuzz.findings import require
from flowserve.server.proxy_protocol import Header, bytes_missing, parse

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LONGEST = 16384


def observe(data: bytes) -> Any:
    came = b""
    try:
        while wanted := bytes_missing(came):
            require(0 < wanted <= _LONGEST, "an absurd number of bytes is missing", wanted)
            piece = data[len(came) : len(came) + wanted]
            if not piece:
                return "incomplete"
            came += piece
        require(came.endswith(b"\r\n") or came.startswith(_SIGNATURE), "a header without its end")
        if not came.startswith(_SIGNATURE):
            require(len(came) <= 107 and came.count(b"\r\n") == 1, "a line that is too long, or two of them")
        header = parse(came)
    except ValueError as error:
        return str(error)
    _check(header)
    return len(came), tuple(header)


def _check(header: Header) -> None:
    if header.kind != "known" or header.client is None or header.server is None:
        return
    addresses = [ipaddress.ip_address(host) for host in (header.client[0], header.server[0])]
    require([str(each) for each in addresses] == [header.client[0], header.server[0]], "an address in another form")
    ports = [header.client[1], header.server[1] or 0]
    require(all(0 <= port <= 65535 for port in ports), "a port that is none")
    wide = [each.packed if each.version == 6 else ipaddress.ip_address(f"::ffff:{each}").packed for each in addresses]
    block = b"".join(wide) + b"".join(port.to_bytes(2, "big") for port in ports)
    tls = bytes((0x20, 0, 5, 1, 0, 0, 0, 0)) if header.secure else b""
    again = _SIGNATURE + bytes((0x21, 0x21)) + (len(block) + len(tls)).to_bytes(2, "big") + block + tls
    require(not bytes_missing(again), "a header that is written again is incomplete")
    require(parse(again) == header, "a header that is written again says something else", parse(again), header)
