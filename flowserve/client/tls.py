"""The TLS contexts of clients, shared by all connections that verify servers in the same way: making one takes as long
as tens of handshakes, and about a megabyte."""

from __future__ import annotations

import functools
import os
import ssl

_MAX_CONTEXTS = 16
"""How many contexts are kept for further connections."""
_ENVIRONMENT = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
"""What OpenSSL and `ssl.create_default_context()` read."""

_Files = tuple[tuple[str, int, int, int] | None, ...]


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the TLS context for servers whose certificates are signed by the authorities in the file `ca_file` (PEM),
    or, if it is None, by those of the system. It offers HTTP/1.1 alone (ALPN).

    The same one is returned, in any thread, as long as the files with the authorities and the variables SSL_CERT_FILE,
    SSL_CERT_DIR and SSLKEYLOGFILE have not changed; it must not be altered. Raises OSError if the file can't be read,
    ssl.SSLError if it has no certificates.
    """
    if ca_file is not None:
        ca_file = os.path.abspath(ca_file)
        places: tuple[str | None, ...] = (ca_file,)
    else:
        default = ssl.get_default_verify_paths()
        places = default.cafile, default.capath
    variables = tuple(os.environ.get(name) for name in _ENVIRONMENT)
    return _make(ca_file, variables, tuple(_state(place) for place in places if place is not None))


def make_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context like that of `client_context()` for the caller alone, who may alter it."""
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.lru_cache(_MAX_CONTEXTS)
def _make(ca_file: str | None, variables: tuple[str | None, ...], files: _Files) -> ssl.SSLContext:
    """Make the context for a state of the environment and the files, which tells it from earlier ones."""
    return make_context(ca_file)


def _state(path: str) -> tuple[str, int, int, int] | None:
    """What changes when a file is written or replaced, or when files come into a folder or leave it."""
    try:
        found = os.stat(path)
    except OSError:
        return None  # create_default_context() says what is wrong
    return path, found.st_ino, found.st_size, found.st_mtime_ns
