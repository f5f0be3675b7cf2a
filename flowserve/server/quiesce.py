"""Closing listening sockets without losing a connection.

Closing a listening socket resets the connections that the kernel has completed but no process has accepted. So the
kernel is first told to drop packets that open a connection; those in progress still complete and can be accepted. A
client whose packet was dropped retransmits it after a second, as TCP requires, and then finds the remaining sockets, or
none.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Iterable

_SO_ATTACH_FILTER = 26
_FILTER = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte that holds the flags of the TCP header (RFC 9293 section 3.1)
        (0x45, 0, 1, 0x02),  # is it a SYN?
        (0x06, 0, 0, 0),  # drop it
        (0x06, 0, 0, 0xFFFFFFFF),  # pass it on
    )
)
"""A classic BPF program; `struct sock_filter` in linux/filter.h."""


def drop_new_connections(sockets: Iterable[socket.socket]) -> None:
    """Make listening TCP sockets drop new connections from now on, in all processes that share them.

    This can't be undone, so it must not be used on sockets that others continue to use. On systems other than Linux it
    does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    program = ctypes.create_string_buffer(_FILTER, len(_FILTER))
    argument = struct.pack("@HP", len(_FILTER) // 8, ctypes.addressof(program))
    for sock in sockets:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)
            except OSError:
                pass  # a sandbox forbids it: the last new connections are reset, as they would be without this
