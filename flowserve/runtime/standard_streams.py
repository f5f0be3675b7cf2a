"""Standard input, output and error that are closed, as under some service managers: `flowserve app:app 2>&-`."""

from __future__ import annotations

import os
import sys

_STREAMS = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def open_standard_streams() -> None:
    """Open the null device for standard streams that are closed; otherwise sockets, also those that workers inherit,
    would get their descriptors, and what is printed would go to clients."""
    for number, name, mode in _STREAMS:
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def write_error(text: str) -> None:
    """Write lines to stderr, if there is one that takes them."""
    if sys.stderr is None:  # as under pythonw
        return
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # its reader has gone, or it is closed
        pass
