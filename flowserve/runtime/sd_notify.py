"""Notifying a service manager of the server's state: systemd's readiness protocol, sd_notify(3)."""

from __future__ import annotations

import os
import socket

from flowserve.logs.loggers import logger

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(state: str) -> None:
    """Send `state`, READY or STOPPING, to the datagram socket that NOTIFY_SOCKET names; without NOTIFY_SOCKET do
    nothing. A failure is logged."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # in the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode("ascii"), address)
    except OSError as error:
        logger.warning("The service manager could not be told %s: %s", state, error.strerror)
