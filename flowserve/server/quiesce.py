"""Closing listening sockets without losing a client.

A client whose connection the kernel has accepted, but no process yet, is reset when its listening socket closes. So the
kernel is told first to ignore packets that open a connection; what is under way still completes, and can be taken up.
A client that comes later repeats its packet after a second, by the rules of TCP, and then finds the sockets that are
left, or none.
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
"""A program for the kernel's packet filter; `struct sock_filter` in linux/filter.h."""


def drop_new_connections(sockets: Iterable[socket.socket]) -> None:
    """Have listening TCP sockets ignore new connections from now on, in all processes that share them.

    There is no way back, so keep it from sockets that somebody else goes on using. Elsewhere than on Linux nothing
    happens.
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
                pass  # a sandbox forbids it: newcomers of the last moment are reset, as without this
